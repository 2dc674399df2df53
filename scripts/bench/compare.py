"""Measures the figures of scripts/compare.sh, and compares them with README.md.

Figures of memory and instructions are differences of two runs, which leaves out what
a server takes once. Linux only, standard library only.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from measure import crates, stripped_size

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILT = HERE / "target"
MESSAGE = b"x" * 64
FEW, MANY = 100, 5000  # idle connections
PATIENCE = 60.0

# What is measured, and by what part it may differ from README.md: another version of the
# compiler or of a library explains that much. None: it is not compared.
LINES, CRATES, SIZE, ONE, MANY_ACTIVE, IDLE, COMPILE = COLUMNS = (
    "lines",
    "crates",
    "KiB",
    "instructions, 1 connection",
    "instructions, 64 connections",
    "bytes per idle connection",
    "compile time, s",
)
TOLERANCE = {LINES: 0.0, CRATES: 0.0, SIZE: 0.2, ONE: 0.1, MANY_ACTIVE: 0.1, IDLE: 0.1, COMPILE: None}
# The interpreter's build decides, not the program.
PYTHON_TOLERANCE = 0.5


@dataclasses.dataclass
class Server:
    name: str
    source: pathlib.Path
    argv: list
    crate: str = ""
    binary: pathlib.Path = None
    # Rounds of the short and of the long run, with 1 connection and with 64.
    rounds: tuple = ((500, 2500), (20, 100))

    def tolerance(self, column):
        is_count = column in (ONE, MANY_ACTIVE, IDLE)
        return PYTHON_TOLERANCE if self.name == "asyncore" and is_count else TOLERANCE[column]


def rust(name, crate, stem):
    binary = BUILT / "release" / stem
    return Server(name, HERE / "src/bin" / f"{stem}.rs", [binary], crate, binary)


def servers():
    asyncore = HERE / "asyncore_echo.py"
    python = python_with_asyncore()
    return [
        rust("reactor", "reactor", "reactor_echo"),
        Server("asyncore", asyncore, [python, "-W", "ignore", asyncore], rounds=((200, 1200), (10, 30))),
        Server("libuv", HERE / "uv.c", [BUILT / "uv_static"], binary=BUILT / "uv_static"),
        rust("mio", "mio", "mio_echo"),
        rust("calloop", "calloop", "calloop_echo"),
        rust("tokio", "tokio", "tokio_echo"),
        rust("tokio, copy", "tokio", "tokio_copy_echo"),
    ]


def python_with_asyncore():
    """The path of the interpreter itself: what is in PATH may be a script."""
    for name in ("python3.11", "python3.10", "python3"):
        if path := shutil.which(name):
            code = "import asyncore, sys; print(sys.executable)"
            done = subprocess.run([path, "-W", "ignore", "-c", code], capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout.strip()
    return None


def reason_to_skip(server):
    if server.argv[0] is None:
        return "no Python has asyncore (3.11 is the last)"
    return "" if pathlib.Path(server.argv[0]).exists() else "it is not built; see above"


# --- lines, size, compile time ---------------------------------------------------


def lines_of_code(source):
    """Lines that are neither empty nor a comment, with those of what the server shares
    with others: `use peers::{listen, …}` stands for `src/listen.rs`."""
    paths = [source]
    if imported := re.search(r"^use peers::\{?([^;}]*)", source.read_text(), re.M):
        paths += [HERE / "src" / f"{name.strip().lower()}.rs" for name in imported[1].split(",")]
    return sum(count_lines(path.read_text()) for path in paths if path.exists())


def count_lines(text):
    text = re.sub(r'^"""(.*?)"""', "", text, flags=re.DOTALL)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    comment = re.compile(r"\s*(//|# )")
    return sum(1 for line in text.splitlines() if line.strip() and not comment.match(line))


def compile_time(server):
    """Processor time to compile it and its crates, from nothing."""
    with tempfile.TemporaryDirectory(dir=BUILT, prefix="cold-") as target:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path",
             HERE / "Cargo.toml", "--no-default-features", "--features", server.crate,
             "--bin", server.source.stem, "--target-dir", target],
            check=True,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# --- instructions and memory -----------------------------------------------------


def instructions(server, connections, few, many):
    """Instructions for an echo of 64 bytes, in user space."""

    def total(rounds):
        done = subprocess.run(
            [sys.executable, HERE / "echoes.py", str(connections), str(rounds), "valgrind",
             "--tool=callgrind", "--callgrind-out-file=/dev/null", *map(str, server.argv), "{port}"],
            capture_output=True, text=True,
        )  # fmt: skip
        found = re.search(r"Collected : (\d+)", done.stdout + done.stderr)
        if not found:
            sys.exit(f"compare: {server.name}: {done.stderr.strip()}")
        return int(found[1])

    return (total(many) - total(few)) / (connections * (many - few))


def idle_bytes(server):
    """Memory of the process for each connection that has echoed a message and is idle."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = subprocess.Popen([*map(str, server.argv), str(port)], stdout=subprocess.PIPE)
    with contextlib.ExitStack() as stack:
        stack.callback(process.wait)
        stack.callback(process.kill)
        if not process.stdout.readline().startswith(b"Listening on "):
            sys.exit(f"compare: {server.name} does not listen")
        taken = []
        for count in (FEW, MANY - FEW):
            for _ in range(count):
                peer = socket.create_connection(("127.0.0.1", port), PATIENCE)
                stack.callback(peer.close)
                peer.sendall(MESSAGE)
                echo = b""
                while len(echo) < len(MESSAGE):
                    part = peer.recv(len(MESSAGE))
                    if not part:
                        sys.exit(f"compare: {server.name} closed a connection")
                    echo += part
            taken.append(settled_memory(process.pid))
        return (taken[1] - taken[0]) / (MANY - FEW)


def settled_memory(pid):
    """Anonymous memory, once it is the same twice."""
    last = None
    while last != (now := anonymous_memory(pid)):
        last = now
        time.sleep(0.05)
    return now


def anonymous_memory(pid):
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(re.search(r"^Anonymous:\s+(\d+)", rollup, re.M)[1])


def figures(server, with_compile_time):
    one, many = server.rounds
    return {
        LINES: lines_of_code(server.source),
        CRATES: crates(HERE / "Cargo.toml", server.crate) if server.crate else None,
        SIZE: stripped_size(server.binary) / 1024 if server.binary else None,
        ONE: instructions(server, 1, *one),
        MANY_ACTIVE: instructions(server, 64, *many),
        IDLE: idle_bytes(server),
        COMPILE: compile_time(server) if with_compile_time and server.crate else None,
    }


# --- README.md -------------------------------------------------------------------


def shown(value):
    return "–" if value is None else f"{value:,.0f}"


def documented():
    """The figures in README.md: server -> column -> figure."""
    rows, heads = {}, None
    for line in (ROOT / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[1:] == list(COLUMNS):
            heads = cells[1:]
        elif not line.startswith("|"):
            heads = None
        elif heads and not cells[1].startswith("---"):
            values = [None if c == "–" else float(c.replace(",", "")) for c in cells[1:]]
            rows[cells[0].strip("*`")] = dict(zip(heads, values))
    return rows


def differences(server, measured, stated):
    for column in COLUMNS:
        new, old, tolerance = measured[column], stated[column], server.tolerance(column)
        if tolerance is None:
            continue
        # Half a unit is lost in rounding.
        if (new is None) != (old is None) or new and abs(new - old) > tolerance * old + 0.5:
            bound = f"; at most {tolerance:.0%} are explained" if tolerance else ""
            yield f"{server.name}, {column}: {shown(new)}, README.md says {shown(old)}{bound}"


def main():
    parser = argparse.ArgumentParser("compare", usage="see scripts/compare.sh --help")
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stated = documented()
    problems, skipped = [], set()
    print(f"| | {' | '.join(COLUMNS)} |")
    print("| --- |" + " ---: |" * len(COLUMNS))
    for server in servers():
        if reason := reason_to_skip(server):
            print(f"SKIPPED: {server.name}: {reason}")
            skipped.add(server.name)
            continue
        measured = figures(server, with_compile_time=not check)
        print(f"| {server.name} | {' | '.join(map(shown, measured.values()))} |", flush=True)
        if check and server.name not in stated:
            problems.append(f"{server.name}: README.md has no row for it")
        elif check:
            problems += differences(server, measured, stated.pop(server.name))
    if check:
        unknown = set(stated) - skipped
        problems += [f"{name}: README.md has a row, but there is no such server" for name in unknown]
    for problem in problems:
        print(f"compare: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
