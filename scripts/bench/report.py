"""Draws report.md and report.html from results.json: `report.py FOLDER`.

Both say the same. Standard library only; the plots are SVG by hand, in colours
that fit a light and a dark page, and the page needs nothing from elsewhere.
"""

import html
import json
import math
import pathlib
import statistics
import sys

LIMIT = "epoll"  # what all are compared with
CONTROL = "control"  # the same program again: how far it differs is noise
LIMITS = {"threads": "tokio-multi", "threads1": "tokio-multi", "tls64": "tokio-tls",
          "tlsbig": "tokio-tls", "tlschurn": "tokio-tls",
          "tlsfull": "tokio-tls"}  # but here  # fmt: skip
PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
DISTRIBUTION = ("p10", "p25", "p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "max")
CURVE = ("c1", "c64", "c1000")  # the scenarios that differ in connections only
# What the summary calls a scenario.
SHORT = {"c1": "1 connection", "c64": "64 connections", "c1000": "1,000 connections",
         "p16": "pipelined", "big": "64 KiB messages", "churn": "new connections",
         "idle10k": "64 beside 10,000 idle"}  # fmt: skip

# How a server is drawn, in every plot: on light, on dark, dashes, mark.
STYLES = {
    "reactor": ("#d4281c", "#ff6b5e", "", "circle"),
    "reactor-busy": ("#d4281c", "#ff6b5e", "2 4", "square"),
    "reactor-deadlines": ("#d4281c", "#ff6b5e", "6 3", "square"),
    "epoll": ("#222222", "#eeeeee", "7 3", "diamond"),
    "control": ("#777777", "#9a9a9a", "2 3", "diamond"),
    "mio": ("#1f6fb4", "#6db3f2", "", "square"),
    "tokio": ("#0d8a7c", "#3fd0bf", "", "up"),
    "smol": ("#4f8a10", "#9bd34c", "", "diamond"),
    "calloop": ("#7b4bb8", "#b995ec", "", "down"),
    "polling-oneshot": ("#93661a", "#dba94f", "", "square"),
    "uv": ("#5a6b80", "#a3b4c9", "7 3", "up"),
    "reactor-tls": ("#d4281c", "#ff6b5e", "8 2", "diamond"),
    "tokio-tls": ("#0d8a7c", "#3fd0bf", "8 2", "diamond"),
    "openssl-tls": ("#222222", "#eeeeee", "8 2", "diamond"),
    "asyncore": ("#c4570b", "#f79a56", "2 3", "circle"),
    "asyncio": ("#b03a86", "#ee83c6", "2 3", "up"),
    "uvloop": ("#6b6f12", "#c9cd52", "2 3", "down"),
}


# --- figures ------------------------------------------------------------------


def digits(value):
    """Three digits that count, or whole numbers."""
    if value is None:
        return "n/a"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if abs(value) >= 0.01 \
        else f"{value:.4f}"  # fmt: skip


def median_of(values, form=digits):
    return form(statistics.median(values)) if values else "n/a"


def known(heads, rows):
    """A table without the columns of which nothing is known."""
    keep = [i for i in range(len(heads)) if not rows or any(row[i] != "n/a" for row in rows)]
    return [heads[i] for i in keep], [[row[i] for i in keep] for row in rows]


def spread(values, form=digits):
    """The median, and from where to where."""
    if not values:
        return "n/a"
    if len(values) == 1:
        return form(values[0])
    return f"{median_of(values, form)} ({form(min(values))} to {form(max(values))})"


def ratio(value):
    return f"{value:.2f}"


class Results:
    def __init__(self, data):
        self.data = data
        self.servers = [name for name in data["servers"]]
        self.scenarios = data["scenarios"]

    def rounds(self, scenario, server, figure):
        """Round -> figure, which is a function of a run."""
        return {
            run["round"]: figure(run)
            for run in self.data["runs"]
            if run["scenario"] == scenario and run["server"] == server
        }

    def taking_part(self, scenario):
        there = {run["server"] for run in self.data["runs"] if run["scenario"] == scenario}
        return [name for name in self.servers if name in there]

    def ratios(self, scenario, server, figure, other=None, other_scenario=None):
        """To another's figure in the same round."""
        other = other or LIMITS.get(scenario, LIMIT)
        mine = self.rounds(scenario, server, figure)
        theirs = self.rounds(other_scenario or scenario, other, figure)
        return [mine[n] / theirs[n] for n in sorted(mine) if theirs.get(n)]

    def once(self, kind, scenario, server):
        for entry in self.data[kind]:
            if (entry["scenario"], entry["server"]) == (scenario, server):
                return entry["per_message"]
        return None

    def memory(self, server):
        """Idle connections -> resident bytes, without those of files."""
        return {
            entry["idle"]: entry["anonymous_bytes"]
            for entry in self.data["memory"]
            if entry["server"] == server
        }


def rate(run):
    # A churn has a connection for each message.
    return run["load"]["messages_per_second"]


def cpu(run):
    return run["cpu_us_per_message"]


def latency(percentile, table="latency_ns"):
    return lambda run: run["load"][table][percentile] / 1000


# --- what is said: blocks of (kind, ...), which both forms render -------------


def blocks(results):
    data, machine = results.data, results.data["machine"]
    yield "heading", 1, "Echo servers side by side"
    if data["quick"]:
        yield "text", (
            "**This is the quick form: it shows what there is to see. Do not quote it; it has too "
            "few rounds, and too short ones.**"
        )
    if not data["complete"]:
        yield "text", "**This run was interrupted: the figures are those until then.**"
    if data["failures"]:
        yield "text", "**Failed: " + "; ".join(data["failures"]) + "**"
    yield from summary(results)
    yield "heading", 2, "How to read this"
    yield "text", (
        "A figure is the median of the rounds, with the least and the most in brackets. A ratio "
        f"compares with `{LIMIT}`, a loop written by hand in C, in the same round. Quote ratios and "
        "counts only: absolute times are those of one machine, which may be busy."
    )
    yield from plots(results)
    for name in results.scenarios:
        yield from scenario(results, name)
    yield from memory(results)
    yield from others(results)
    yield from conditions(results, machine)


def summary(results):
    names = [n for n in results.scenarios if LIMIT in results.taking_part(n)]
    if not names:
        return
    servers = [s for s in results.servers if any(s in results.taking_part(n) for n in names)]
    heads = ["server", *(SHORT.get(n, n) for n in names)]

    def rows(figure):
        return [[s, *(median_of(results.ratios(n, s, figure), ratio) for n in names)]
                for s in servers]  # fmt: skip

    yield "heading", 2, "Processor time for each message, ratio to C on epoll (less is better)"
    yield "table", heads, rows(cpu)
    yield "text", noise(results)
    panels = []
    for name in names:
        spans = {s: points(results.ratios(name, s, cpu)) for s in results.taking_part(name)}
        panels.append((SHORT.get(name, name), {s: span for s, span in spans.items() if span}))
    yield "panels", "Processor time for each message, ratio to C on epoll", panels
    yield "heading", 2, "Messages per second, ratio to C on epoll (more is better)"
    yield "table", heads, rows(rate)
    if {"c64", "idle10k"} <= set(results.scenarios):
        yield "heading", 2, "What 10,000 idle connections beside cost the active ones"
        yield "text", "Processor time for each message in idle10k, ratio to the same server's in c64."
        yield "table", ["server", "ratio"], [
            [s, spread(results.ratios("idle10k", s, cpu, s, "c64"), ratio)]
            for s in results.taking_part("idle10k")
        ]  # fmt: skip


def noise(results):
    """What the control says about all other figures."""
    names = [n for n in results.scenarios if CONTROL in results.taking_part(n)]
    ranges = []
    for what, figure in (("processor time", cpu), ("messages per second", rate)):
        ratios = [r for n in names for r in results.ratios(n, CONTROL, figure)]
        if ratios:
            ranges.append(f"{min(ratios):.2f} to {max(ratios):.2f} ({what})")
    if not ranges:
        return "**Noise: the control was not measured, so small differences mean nothing.**"
    waits = sorted(run["waited_share"] for run in results.data["runs"])
    return (
        f"**Noise: `{CONTROL}` is the same program as `{LIMIT}`, so that its ratios would all be "
        f"1.00 on a quiet machine. In this run they were {' and '.join(ranges)}: differences within "
        f"that range mean nothing.** Other programs kept the servers from their core for "
        f"{statistics.median(waits):.1%} of the time in the median run, and {waits[-1]:.1%} in the "
        "worst."
    )


def scenario(results, name):
    servers = results.taking_part(name)
    yield "heading", 2, f"{name}: {results.scenarios[name]}"
    unit = "connections" if name.endswith(("churn", "full")) else "messages"
    limit = LIMITS.get(name, LIMIT)
    to = f"ratio to {limit}"
    limit = limit in servers
    rows = []
    for server in servers:
        values = list(results.rounds(name, server, rate).values())
        times = list(results.rounds(name, server, cpu).values())
        rows.append([
            server, spread(values),
            *([spread(results.ratios(name, server, rate), ratio)] if limit else []),
            spread(times),
            *([spread(results.ratios(name, server, cpu), ratio)] if limit else []),
            digits(results.once("syscalls", name, server)),
            digits(results.once("allocations", name, server)),
        ])  # fmt: skip
    one = unit[:-1]
    yield "table", [
        "server", f"{unit} a second", *([to] if limit else []), f"processor us a {one}",
        *([to] if limit else []), f"system calls a {one}", f"allocations a {one}",
    ], rows  # fmt: skip
    if name == "churn":
        yield "text", (
            "The load may be the bottleneck here: most of what a connection takes (the handshake, "
            "the close) the kernel does on the core of who asks for it. Then a server that is done "
            "sooner goes to sleep, and costs the load a wake-up; one that is slower, or polls "
            "without sleeping, does not."
        )
    yield "text", "Latency in microseconds, medians of the rounds:"
    rows = []
    for server in servers:
        seen = [list(results.rounds(name, server, latency(p)).values()) for p in PERCENTILES]
        late = results.rounds(name, server, latency("p99", "latency_corrected_ns"))
        row = [server, spread(seen[0]), *map(median_of, seen[1:]), median_of(list(late.values()))]
        if limit:
            row.append(median_of(results.ratios(name, server, latency("p50")), ratio))
        rows.append(row)
    heads = ["server", *PERCENTILES, "p99 corrected", *(["p50 ratio"] if limit else [])]
    yield "table", heads, rows


def plots(results):
    many = [n for n in CURVE if n in results.scenarios]
    if len(many) > 1:
        labels = ["1", "64", "1,000"]
        labels = [labels[CURVE.index(n)] for n in many]
        for title, axis, figure, log in (
            ("Throughput against connections", "messages per second", rate, False),
            ("99th percentile of latency against connections", "microseconds, log scale",
             latency("p99"), True),
        ):  # fmt: skip
            series = {}
            for server in results.servers:
                values = [list(results.rounds(n, server, figure).values()) for n in many]
                if sum(map(bool, values)) > 1:
                    series[server] = [points(v) for v in values]
            yield "plot", title, "connections", axis, labels, series, log
    # An earlier echo-bench told fewer.
    told = [p for p in DISTRIBUTION
            if all(p in run["load"]["latency_ns"] for run in results.data["runs"])]  # fmt: skip
    if "c64" in results.scenarios:
        series = {
            server: [
                points(list(results.rounds("c64", server, latency(p)).values()))
                for p in told
            ]
            for server in results.taking_part("c64")
        }
        labels = [p.removeprefix("p") for p in told]
        yield ("plot", "Distribution of latency, 64 connections", "percentile",
               "microseconds, log scale", labels, series, True)  # fmt: skip


def points(values):
    return (statistics.median(values), min(values), max(values)) if values else None


def memory(results):
    servers = [s for s in results.servers if len(results.memory(s)) > 1]
    if not servers:
        return
    counts = sorted({idle for s in servers for idle in results.memory(s)})
    rows = []
    for server in servers:
        own = results.memory(server)
        most = max(own)
        each = (own[most] - own[0]) / most if most and 0 in own else None
        row = [f"{own[n] / 1024:,.0f}" if n in own else "n/a" for n in counts]
        rows.append([server, digits(each), *row])
    yield "heading", 2, "Memory of idle connections"
    yield "text", (
        "Resident memory of the process, without what is of files (of which the kernel maps more "
        "or fewer at a time), beside one connection that is busy. Bytes each: what "
        f"{counts[-1]:,} idle ones add, for each of them; what the kernel holds is not in it."
    )
    yield "table", ["server", "bytes each", *(f"KiB, {n:,} idle" for n in counts)], rows
    series = {}
    for server in servers:
        own = results.memory(server)
        grown = [(own[n] - own[0]) / 2**20 if n in own and 0 in own else None for n in counts]
        series[server] = [None if g is None else (max(g, 0),) * 3 for g in grown]
    labels = [f"{n:,}" for n in counts]
    yield ("plot", "Memory against idle connections", "idle connections",
           "MiB more than without them", labels, series, False, counts)  # fmt: skip


def others(results):
    yield "heading", 2, "Start-up and size"
    rows = []
    for name in results.servers:
        facts = results.data["servers"][name]
        size = facts.get("binary_bytes")
        rows.append([
            name, facts["about"], spread(facts.get("startup_ms", [])),
            f"{size / 1024:,.0f}" if size else "n/a",
            f"{facts['crates']} ({facts['crate']})" if facts.get("crates") else "n/a",
        ])  # fmt: skip
    yield "table", [
        "server", "what it is", "ms to `Listening`", "KiB stripped", "crates in the tree",
    ], rows  # fmt: skip
    notes = ["Crates: of the library and all below it, on this platform, for a normal build."]
    whole = results.data["servers"].get("reactor", {}).get("crates_of_binary")
    if whole:
        notes.append(f"The whole of our echo-server, with its command line and log, has {whole}.")
    if results.data["cold_build_seconds"]:
        seconds = results.data["cold_build_seconds"]
        notes.append(f"`cargo build --release` of our workspace takes {seconds:.0f} s cold.")
    notes.append("The C servers are small because libc and libuv are loaded beside them.")
    yield "text", " ".join(notes)
    if results.data["idle"]:
        yield "heading", 2, "After the traffic"
        yield "text", "Processor time over 5 seconds in which a connection that was busy is silent."
        rows = [[i["server"], f"{i['cpu_share']:.2%}"] for i in results.data["idle"]]
        yield "table", ["server", "share of a core"], rows


def conditions(results, machine):
    data = results.data
    yield "heading", 2, "How it was measured"
    memory_size = machine["memory_bytes"]
    yield "list", [
        f"Machine: {machine['cpu']}, {machine['cores']} cores"
        + (f", {memory_size / 2**30:.0f} GiB" if memory_size else "")
        + f"; {machine['kernel']}.",
        "Versions: " + ", ".join(f"{n} {v}" for n, v in data["versions"].items()) + ".",
        f"Date: {data['date']}. Load average at the start: "
        + ", ".join(f"{load:.1f}" for load in machine["load_average"]) + ".",
        f"Rounds: {data['rounds']}, interleaved, another server first in each, of {data['seconds']:g} s "
        "for each server" + (" (the quick form)." if data["quick"] else "."),
        f"The server on core {machine['server_core']}, the load (echo-bench, which checks every "
        f"byte) on core {machine['load_core']}; in `threads` and `threads1` both on both. All over loopback, a "
        "server started anew for each figure.",
        f"Processor time: {machine['cpu_time_from']}, user and system, all threads, between two "
        "moments in which the load is at its height; the messages of that time are those of the "
        "whole by its share.",
        *churn_note(data),
        "Latency as seen by a closed loop; `corrected` also counts the messages that would have "
        "been sent while an answer was late (coordinated omission).",
        "System calls: of a stretch in the middle of a separate run under strace, which slows "
        "the server, so that more of its events come together than otherwise.",
        "Allocations: calls of malloc and its kin in a separate run, of native servers only. "
        "Both counts include none of a connection's beginning, but in churn.",
    ]  # fmt: skip
    if data["skipped"]:
        yield "heading", 2, "Skipped"
        yield "list", [f"{entry['server']}: {entry['why']}" for entry in data["skipped"]]


def churn_note(data):
    kept = [run["time_wait_before"] for run in data["runs"] if run["scenario"] == "churn"]
    if kept:
        yield (
            "Churn: its processor time is that of the whole run. Each connection that the load "
            "closes stays in TIME_WAIT for a minute, and many of them make opening one slower: "
            f"there were {min(kept):,} to {max(kept):,} before a run."
        )


# --- Markdown -----------------------------------------------------------------


def markdown(results):
    lines = []
    for kind, *rest in blocks(results):
        if kind == "heading":
            lines += ["#" * rest[0] + " " + rest[1], ""]
        elif kind == "text":
            lines += [rest[0], ""]
        elif kind == "list":
            lines += [f"- {item}" for item in rest[0]] + [""]
        elif kind == "table":
            heads, rows = known(*rest)
            lines.append("| " + " | ".join(heads) + " |")
            lines.append("| --- |" + " ---: |" * (len(heads) - 1))
            lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(lines).rstrip() + "\n"


# --- HTML ---------------------------------------------------------------------

CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1b1b; --soft: #5c5c5c;
  --line: #d9d9d9; --ours: #fdeeec; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e8e8e8;
  --soft: #a5a5a5; --line: #3a3d42; --ours: #3a1f1c; } }
body { background: var(--paper); color: var(--ink); margin: 2rem auto; max-width: 68rem;
  padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .22rem .7rem; text-align: right;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child, .about td:nth-child(2), .about th:nth-child(2)
  { text-align: left; }
tr.ours { background: var(--ours); }
tr.control { color: var(--soft); font-style: italic; }
figure { margin: 1.5rem 0; overflow-x: auto; }
figcaption { color: var(--soft); font-size: .84rem; }
/* Never scaled down, so that no text is too small to read. */
svg { display: block; width: 880px; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } svg .title { font-weight: 600; font-size: 15px; }
svg .band { fill: var(--line); opacity: .6; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .lead { stroke: var(--soft); stroke-width: .7; fill: none; }
svg .dots { stroke: var(--paper); stroke-width: 1; }
"""


def page(results):
    css = CSS
    for name, (light, _, _, _) in STYLES.items():
        css += f".s-{name} {{ color: {light}; }}\n"
    css += "@media (prefers-color-scheme: dark) {\n"
    for name, (_, dark, _, _) in STYLES.items():
        css += f"  .s-{name} {{ color: {dark}; }}\n"
    css += "}\n"
    body = []
    for kind, *rest in blocks(results):
        if kind == "heading":
            body.append(f"<h{rest[0]}>{inline(rest[1])}</h{rest[0]}>")
        elif kind == "text":
            body.append(f"<p>{inline(rest[0])}</p>")
        elif kind == "list":
            items = "".join(f"<li>{inline(item)}</li>" for item in rest[0])
            body.append(f"<ul>{items}</ul>")
        elif kind == "table":
            body.append(table(*known(*rest)))
        elif kind == "plot":
            body.append(figure(plot(*rest), f"{WHISKERS}."))
        elif kind == "panels":
            note = f"{WHISKERS}. The grey band is that of {CONTROL}, and so the noise."
            body.append(figure(panels(*rest), note))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>Echo servers side by side</title>\n<style>{css}</style>\n</head>\n<body>\n"
        + "\n".join(body) + "\n</body>\n</html>\n"
    )  # fmt: skip


WHISKERS = "A mark is the median of the rounds, its thin line reaches from the least to the most"


def figure(drawing, note):
    return f"<figure>{drawing}<figcaption>{note}</figcaption></figure>"


def inline(text):
    """Escaped, with `code` and **strong**."""
    text = html.escape(text)
    for mark, tag in (("**", "strong"), ("`", "code")):
        parts = text.split(mark)
        text = parts[0]
        for index, part in enumerate(parts[1:]):
            text += (f"<{tag}>" if index % 2 == 0 else f"</{tag}>") + part
    return text


def table(heads, rows):
    kind = ' class="about"' if "what it is" in heads else ""
    lines = [f'<div class="wide"><table{kind}>']
    lines.append("<tr>" + "".join(f"<th>{inline(head)}</th>" for head in heads) + "</tr>")
    for row in rows:
        kind = ' class="control"' if row[0] == CONTROL else ""
        kind = ' class="ours"' if row[0].startswith("reactor") else kind
        lines.append(f"<tr{kind}>" + "".join(f"<td>{inline(cell)}</td>" for cell in row) + "</tr>")
    return "\n".join([*lines, "</table></div>"])


# --- plots --------------------------------------------------------------------

WIDTH, LEFT, RIGHT, TOP, BOTTOM, LABEL = 880, 92, 196, 44, 56, 17


def ticks(low, high, log):
    if log:
        # 1, 10, 100, and where that is too few, 2 and 5 between.
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1,) if len(powers) > 4 else (1, 2, 5)
        found = [step * 10**power for power in powers for step in steps]
        below = [t for t in found if t <= low * 1.0001]
        above = [t for t in found if t >= high * 0.9999]
        return [t for t in found if below[-1] <= t <= above[0]]
    rough = high / 5 or 1
    power = 10 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough)
    return [step * n for n in range(math.ceil(high / step - 1e-9) + 1)]


PANEL, GAP, ROW, NAMES = 186, 14, 19, 118


def panels(title, charts):
    """A chart for each scenario: a row for each server, a mark at its ratio."""
    servers = list(dict.fromkeys(name for _, spans in charts for name in spans))
    in_a_line = (WIDTH - NAMES) // (PANEL + GAP)
    inner = ROW * len(servers)
    line_height = inner + 62
    height = line_height * -(-len(charts) // in_a_line)
    out = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">']
    out.append(f"<title>{html.escape(title)}</title>")
    for number, (label, spans) in enumerate(charts):
        left = NAMES + number % in_a_line * (PANEL + GAP)
        top = number // in_a_line * line_height + 28
        low = min(0.9, min(least for _, least, _ in spans.values()))
        # What is far off must not squeeze the others.
        high = min(2.5, max(1.1, max(most for _, _, most in spans.values())))

        def x(value):
            return left + 6 + (PANEL - 12) * (min(value, high) - low) / (high - low)

        out.append(f'<text class="title" x="{left}" y="{top - 10}">{html.escape(label)}</text>')
        if CONTROL in spans:
            _, least, most = spans[CONTROL]
            out.append(f'<rect class="band" x="{x(least):.1f}" y="{top}" height="{inner}" '
                       f'width="{max(x(most) - x(least), 1):.1f}"/>')  # fmt: skip
        step = 0.2 if high - low < 1 else 0.5
        for mark in (n * step for n in range(math.ceil(low / step), int(high / step + 1e-9) + 1)):
            out.append(f'<line class="grid" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{top}" '
                       f'y2="{top + inner}"/><text class="soft" x="{x(mark):.1f}" '
                       f'y="{top + inner + 16}" text-anchor="middle">{mark:.1f}</text>')  # fmt: skip
        for row, name in enumerate(servers):
            y = top + ROW * (row + 0.5)
            if number % in_a_line == 0:
                weight = ' font-weight="700"' if name.startswith("reactor") else ""
                out.append(f'<text x="{NAMES - 8}" y="{y + 4.5:.1f}" text-anchor="end"{weight}>'
                           f"{name}</text>")  # fmt: skip
            if name not in spans:
                continue
            mid, least, most = spans[name]
            hint = f"{name}: {ratio(mid)} ({ratio(least)} to {ratio(most)})"
            out.append(f'<g class="s-{name}"><line x1="{x(least):.1f}" x2="{x(most):.1f}" '
                       f'y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor"/>')  # fmt: skip
            if mid <= high:
                out.append(dot(STYLES.get(name, ("", "", "", "circle"))[3], x(mid), y, hint))
            else:
                out.append(f'<text x="{x(high):.1f}" y="{y + 4.5:.1f}" text-anchor="end" '
                           f'class="soft">{ratio(mid)} →</text>')  # fmt: skip
            out.append("</g>")
    out.append("</svg>")
    return "\n".join(out)


def plot(title, x_name, y_name, labels, series, log, places=None):
    """A line for each server, whose name stands at its end, and is its legend."""
    values = [v for s in series.values() for p in s if p for v in p if v > 0 or not log]
    marks = ticks(min(values), max(values), log)
    low, high = marks[0], marks[-1]
    inner = max(300, LABEL * len(series) + 20)
    height = TOP + inner + BOTTOM
    right = WIDTH - RIGHT

    def x(index):
        if places:
            return LEFT + 10 + (right - LEFT - 20) * places[index] / places[-1]
        return LEFT + 30 + (right - LEFT - 60) * index / max(len(labels) - 1, 1)

    def y(value):
        if log:
            part = (math.log10(max(value, low)) - math.log10(low)) / (
                math.log10(high) - math.log10(low)
            )
        else:
            part = value / high
        return TOP + inner * (1 - part)

    out = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">']
    out.append(f"<title>{html.escape(title)}</title>")
    out.append(f'<text class="title" x="{LEFT}" y="20">{html.escape(title)}</text>')
    for mark in marks:
        out.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(mark):.1f}" '
                   f'y2="{y(mark):.1f}"/>')  # fmt: skip
        out.append(f'<text class="soft" x="{LEFT - 8}" y="{y(mark) + 4:.1f}" '
                   f'text-anchor="end">{mark:,.10g}</text>')  # fmt: skip
    for index, label in enumerate(labels):
        out.append(f'<text class="soft" x="{x(index):.1f}" y="{TOP + inner + 20}" '
                   f'text-anchor="middle">{label}</text>')  # fmt: skip
    middle = (LEFT + right) / 2
    out.append(f'<text x="{middle}" y="{height - 10}" text-anchor="middle">{x_name}</text>')
    out.append(f'<text transform="translate(16 {TOP + inner / 2}) rotate(-90)" '
               f'text-anchor="middle">{html.escape(y_name)}</text>')  # fmt: skip

    # Ours last, and so on top.
    ends = []
    for name in sorted(series, key=lambda n: n.startswith("reactor")):
        _, _, dashes, shape = STYLES.get(name, ("", "", "", "circle"))
        there = [(x(i), p) for i, p in enumerate(series[name]) if p]
        line = " ".join(f"{a:.1f},{y(p[0]):.1f}" for a, p in there)
        thick = 3 if name.startswith("reactor") else 1.7
        out.append(f'<g class="s-{name}">')
        out.append(f'<polyline points="{line}" fill="none" stroke="currentColor" '
                   f'stroke-width="{thick}" stroke-dasharray="{dashes}"/>')  # fmt: skip
        for a, (mid, least, most) in there:
            if most > least:
                out.append(f'<line x1="{a:.1f}" x2="{a:.1f}" y1="{y(least):.1f}" '
                           f'y2="{y(most):.1f}" stroke="currentColor" opacity=".35"/>')  # fmt: skip
            hint = f"{name}: {digits(mid)} ({digits(least)} to {digits(most)})"
            out.append(dot(shape, a, y(mid), hint))
        out.append("</g>")
        ends.append([y(there[-1][1][0]), there[-1][0], name])
    # Names at the ends, apart from each other, in the order of the ends.
    ends.sort()
    at = spaced([end[0] for end in ends], TOP + 4, TOP + inner - 4)
    for (end, from_x, name), label in zip(ends, at):
        _, _, dashes, shape = STYLES.get(name, ("", "", "", "circle"))
        weight = ' font-weight="700"' if name.startswith("reactor") else ""
        out.append(f'<polyline class="lead" fill="none" points="{from_x + 6:.1f},{end:.1f} '
                   f'{right + 6},{end:.1f} {right + 26},{label:.1f}"/>')  # fmt: skip
        out.append(f'<g class="s-{name}"><line x1="{right + 28}" x2="{right + 56}" '
                   f'y1="{label:.1f}" y2="{label:.1f}" stroke="currentColor" '
                   f'stroke-width="2" stroke-dasharray="{dashes}"/>'
                   f"{dot(shape, right + 42, label, name)}</g>")  # fmt: skip
        out.append(f'<text x="{right + 62}" y="{label + 4:.1f}"{weight}>{name}</text>')
    out.append("</svg>")
    return "\n".join(out)


def spaced(wanted, low, high):
    """As near to the places that are `wanted`, in order, as leaves room for each:
    those that crowd are spread around their middle."""
    groups = []  # of [sum, count], each of places less the room of those before
    for index, place in enumerate(wanted):
        groups.append([place - index * LABEL, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += count
    middles = [total / count for total, count in groups for _ in range(count)]
    high -= (len(wanted) - 1) * LABEL
    return [min(max(m, low), high) + index * LABEL for index, m in enumerate(middles)]


def dot(shape, x, y, hint):
    r = 4.2
    corners = {
        "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
        "up": ((0, -1.2), (1.2, 1), (-1.2, 1)),
        "down": ((0, 1.2), (1.2, -1), (-1.2, -1)),
    }
    inside = f"<title>{html.escape(hint)}</title>"
    if shape == "circle":
        form = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" class="dots" fill="currentColor">'
        return f"{form}{inside}</circle>"
    places = " ".join(f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in corners[shape])
    return f'<polygon points="{places}" class="dots" fill="currentColor">{inside}</polygon>'


def write(folder):
    results = Results(json.loads((folder / "results.json").read_text()))
    for name, render in (("report.md", markdown), ("report.html", page)):
        (folder / name).write_text(render(results))
        print(folder / name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: report.py FOLDER (with a results.json)")
    write(pathlib.Path(sys.argv[1]))
