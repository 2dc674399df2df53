#!/usr/bin/env python3
"""Prints which files of each crate import which, and checks the layers of the
library.

Exits with 1 if files or folders import each other in a cycle, if the library
imports upwards, if a file is too long, or if what belongs to one folder (system
calls, the clock, `unsafe`) appears in another. Code for tests does not count.
A re-export is not an import: who imports the name depends on the file that
defines it.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY = "crates/reactor"
MAX_LINES = 450
MAX_ENTRIES = 18

# From the bottom to the top. Those of the first layer may import each other, as
# far as there is no cycle; those of the others may not.
LAYERS = [
    {"token", "address", "backoff", "compact_instant", "filter", "output_buffer"},
    {"sys"},
    {"poll"},
    {"reactor"},
    {"stream"},
    {"listener", "datagram", "signal", "chat"},
]
DOCUMENTATION = {"porting", "how_it_works", "guarantees"}

# Paths, and the folders of the library in which they may appear.
CONFINED = {
    "std::os::fd": {"sys", "poll"},
    "std::os::unix": {"sys"},
    "std::os::windows": {"sys"},
    "socket2": {"sys"},
    "rustix": {"sys"},
    # What epoll_wait(2) takes and returns.
    "rustix::buffer::spare_capacity": {"sys", "poll"},
    "rustix::event::Timespec": {"sys", "poll"},
    "rustix::event::epoll": {"sys", "poll"},
    "rustix::io::Errno": {"sys", "poll"},
    "signal_hook": {"sys"},
    "nix": {"sys"},
    "windows_sys": {"sys"},
    "Instant::now": {"sys"},
    "SystemTime::now": {"sys"},
    "polling": {"poll"},
}

# Where `unsafe` may appear besides `poll`: calls of the system that no crate wraps.
UNSAFE = {"sys/windows/ffi.rs"}

# Callbacks receive the reactor, so the trait and the type name each other, and so do
# the files of `reactor` that define the methods of `Context`. Within the folder an
# import of its own type is no edge.
SHARED_TYPES = {"reactor/context.rs"}

# Comments, strings and characters, in which nothing is code.
NO_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\bb?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^\n]*?|[^\\'\n])'""",
    re.DOTALL,
)
FOR_TESTS = re.compile(r"#!?\[cfg\((?:test|all\(test\b[^\]]*)\)\]")
USE = re.compile(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);")
TEST_MODULE = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;")
CFG = re.compile(r"\bcfg(_attr)?!?\(")
PATH = re.compile(r"(?<![\w:])\w+(?:::\w+)+")

problems = []


def without_tests(text):
    """Cuts out comments and strings, but not their lines, and the items for tests."""
    text = NO_CODE.sub(lambda found: "\n" * found[0].count("\n"), text)
    while found := FOR_TESTS.search(text):
        if found[0].startswith("#!"):
            return ""
        end = found.end()
        while attribute := re.compile(r"\s*#\[[^\]]*\]").match(text, end):
            end = attribute.end()
        if re.compile(r"\s*(pub(\([^)]*\))?\s+)?use\b").match(text, end):
            end = text.index(";", end) + 1
        else:
            end = re.compile(r"[;{]").search(text, end).end()
            depth = text[end - 1] == "{"
            while depth:
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
        text = text[: found.start()] + text[end:].removeprefix("\n")
    return text


def flatten(tree):
    """Yields the (path, name) of each import of a `use`: `a::{b, c as d}`."""
    tree = tree.strip()
    found = re.fullmatch(r"(?:(.*?)::)?\s*\{(.*)\}", tree, re.DOTALL)
    if not found:
        path, _, alias = (part.strip() for part in tree.partition(" as "))
        path = re.sub(r"\s+", "", path).removesuffix("::self").removeprefix("::")
        yield path, alias or path.rpartition("::")[2]
        return
    prefix, inner = found[1], found[2]
    depth, start = 0, 0
    for at, char in enumerate(inner + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            if part := inner[start:at].strip():
                for path, name in flatten(part):
                    whole = f"{prefix}::{path}" if prefix else path
                    if path == "self":
                        whole, name = prefix, name if name != "self" else prefix.rpartition("::")[2]
                    yield whole, name
            start = at + 1


class Source:
    """One file, and its module: `a::b`, or nothing for the root of the crate."""

    def __init__(self, path, folder):
        self.name = path.relative_to(folder).as_posix()
        parts = list(path.relative_to(folder).with_suffix("").parts)
        # A program beside a library has no modules of its own.
        has_library = (folder / "lib.rs").exists()
        if parts[-1] in ("mod", "lib") or (parts[-1] == "main" and not has_library):
            parts.pop()
        self.module = "::".join(parts)
        self.top = parts[0] if parts else ""
        self.text = path.read_text(encoding="utf-8")
        self.code = without_tests(self.text)
        self.lines = self.code.count("\n")
        self.imports, self.exports = [], {}
        for found in USE.finditer(self.code):
            for imported, name in flatten(found[2]):
                if found[1]:
                    self.exports[name] = imported
                else:
                    self.imports.append((imported, name))
        rest = USE.sub("", self.code)
        self.paths = PATH.findall(rest)
        # A name that is exported and also used here is imported too.
        used = set(re.findall(r"\w+", rest))
        self.imports += [(path, name) for name, path in self.exports.items() if name in used]
        self.is_unsafe = re.search(r"\bunsafe\b", rest) is not None


def within(module, name):
    """The path of `name` in `module`."""
    return f"{module}::{name}" if module else name


class Crate:
    def __init__(self, folder):
        self.folder = folder
        source = ROOT / folder / "src"
        files = [Source(path, source) for path in sorted(source.rglob("*.rs"))]
        tests = set()
        for file in files:
            tests |= {within(file.module, name) for name in TEST_MODULE.findall(file.text)}
        self.files = {
            file.module: file
            for file in files
            if not any(f"{file.module}::".startswith(f"{test}::") for test in tests)
        }
        self.edges = {file: self.targets(file) for file in self.files.values()}

    def resolve(self, module, path, seen=()):
        """The module in which `path`, written in `module`, ends."""
        parts = path.split("::")
        if parts[0] == "crate":
            at, parts = "", parts[1:]
        elif parts[0] in ("self", "super"):
            at = module
            if parts[0] == "self":
                parts = parts[1:]
            while parts and parts[0] == "super":
                at, parts = at.rpartition("::")[0], parts[1:]
        elif within(module, parts[0]) in self.files:
            at = module
        else:
            return None
        while parts and within(at, parts[0]) in self.files:
            at, parts = within(at, parts[0]), parts[1:]
        if parts and parts[0] in self.files[at].exports and (at, parts[0]) not in seen:
            exported = "::".join([self.files[at].exports[parts[0]], *parts[1:]])
            return self.resolve(at, exported, (*seen, (at, parts[0])))
        return at, bool(parts)

    def targets(self, file):
        found, modules = set(), {}
        paths = list(file.paths)
        for path, name in file.imports:
            target = self.resolve(file.module, path)
            if target and not target[1]:
                modules[name] = "crate::" + target[0]
            paths.append(path)
        for path in paths:
            first, _, rest = path.partition("::")
            if first in modules and rest:
                path = f"{modules[first]}::{rest}"
            target = self.resolve(file.module, path)
            if not target:
                continue
            module, names_item = target
            # To import a folder itself is to import nothing yet.
            if names_item or not any(other.startswith(f"{module}::") for other in self.files):
                found.add(self.files[module])
        return found - {file}


def cycles(edges):
    """The sets of nodes that reach each other, by the algorithm of Tarjan."""
    number, low, stack, found = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in edges.get(node, ()):
            if target not in number:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], number[target])
        if low[node] == number[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in edges:
        if node not in number:
            visit(node)
    return found


def check_imports(crate):
    print(f"== {crate.folder}: imports")
    folders = {}
    names = {}
    for file, targets in crate.edges.items():
        names[file.name] = {
            target.name
            for target in targets
            if not (target.name in SHARED_TYPES and target.top == file.top)
        }
    for file, targets in names.items():
        print(f"  {file}: {', '.join(sorted(targets)) or '-'}")
    for file, targets in crate.edges.items():
        folder = file.top or file.name
        folders.setdefault(folder, set()).update((each.top or each.name) for each in targets)
        folders[folder].discard(folder)
    print(f"== {crate.folder}: imports between folders")
    for folder, targets in sorted(folders.items()):
        print(f"  {folder}: {', '.join(sorted(targets)) or '-'}")
    for kind, edges in ("files", names), ("folders", folders):
        for cycle in cycles(edges):
            inside = []
            for one in cycle:
                inside += [f"{one} -> {other}" for other in sorted(edges[one] & set(cycle))]
            problems.append(f"{crate.folder}: a cycle of {kind}: {', '.join(inside)}")


def check_lengths(crate):
    for file in crate.files.values():
        if file.lines > MAX_LINES:
            problems.append(f"{crate.folder}/src/{file.name}: {file.lines} lines without tests, "
                            f"{MAX_LINES} are allowed")


def layer(top):
    return next((number for number, names in enumerate(LAYERS) if top in names), None)


def check_layers(crate):
    for file, targets in crate.edges.items():
        where = f"{crate.folder}/src/{file.name}"
        if not file.top or file.top in DOCUMENTATION:
            continue
        own = layer(file.top)
        if own is None:
            problems.append(f"{where}: {file.top} is in no layer")
            continue
        for target in targets:
            other = layer(target.top)
            beside = other == own > 0 and target.top != file.top
            if other is None or other > own or beside:
                direction = "beside" if beside else "above"
                problems.append(f"{where}: imports {target.name}, which is {direction} it")


def is_within(path, name):
    """Returns `True` if `path` is `name`, or begins with it, or is a function of that type."""
    return f"{path}::".startswith(f"{name}::") or f"::{path}".endswith(f"::{name}")


def check_places(crate):
    conditional = {}
    for file in crate.files.values():
        where = f"{crate.folder}/src/{file.name}"
        paths = {path for path, _ in file.imports} | set(file.paths) | set(file.exports.values())
        for path in sorted(paths):
            # The longest name counts, the most specific one.
            found = max((name for name in CONFINED if is_within(path, name)), key=len, default=None)
            if found and file.top not in CONFINED[found]:
                folders = " or ".join(sorted(CONFINED[found]))
                problems.append(f"{where}: {path} belongs in {folders}")
        if file.is_unsafe and file.top != "poll" and file.name not in UNSAFE:
            problems.append(f"{where}: unsafe belongs in poll")
        lines = sum(bool(CFG.search(line)) for line in file.code.splitlines())
        if lines and file.top not in ("sys", "poll"):
            conditional[file.name] = lines
    print(f"== {crate.folder}: lines with cfg( outside sys and poll: {sum(conditional.values())}")
    for name, lines in conditional.items():
        print(f"  {name}: {lines}")


def main():
    for folder in sorted([*ROOT.glob("crates/*"), *ROOT.glob("bins/*")]):
        crate = Crate(folder.relative_to(ROOT).as_posix())
        check_imports(crate)
        check_lengths(crate)
        if crate.folder == LIBRARY:
            check_layers(crate)
            check_places(crate)
    entries = len(list((ROOT / LIBRARY / "src").iterdir()))
    print(f"== {LIBRARY}/src: {entries} entries at the top")
    if entries > MAX_ENTRIES:
        problems.append(f"{LIBRARY}/src: {entries} entries at the top, {MAX_ENTRIES} are allowed")
    for problem in problems:
        print(f"architecture: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


main()
