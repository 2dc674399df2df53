#!/usr/bin/env python3
"""Draws the path of an event through the loop, for README.md and the guide.

    scripts/drawing.py          writes crates/reactor/doc/loop-light.svg, loop-dark.svg and
                                loop.svg, which takes the colours of the page around it
    scripts/drawing.py --check  exits with 1 if a file differs from what it would write
"""

import html
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "crates/reactor/doc"
SOURCES = ROOT / "crates/reactor/src"

# ink, soft, line, the path of the event, the lanes: kernel, library, your code
LIGHT = ("#1f2328", "#59636e", "#b7bdc4", "#c2321f", ("#f1f3f5", "#e8f0fb", "#e9f6ec"))
DARK = ("#e6e9ed", "#9aa4af", "#4c545d", "#ff8370", ("#1d2126", "#16253a", "#152b1c"))
INHERITED = ("currentColor", "currentColor", "currentColor", "#d9503c", ("none", "none", "none"))

WIDTH, TOP, STEP, BOX = 784, 62, 66, 44
# Left edge and width of the boxes of each lane. Right of the library's there is room for
# the way back.
KERNEL, LIBRARY, YOURS, BACK = (20, 164), (248, 252), (584, 184), 22
LANES = ((KERNEL, 0, "the kernel"), (LIBRARY, BACK, "the reactor, on one thread"), (YOURS, 0, "your code"))

# Lane, row, what happens, where in crates/reactor/src it does.
BOXES = (
    (KERNEL, 0, "a socket is readable", ""),
    (LIBRARY, 0, "1  wait", "poll/epoll.rs"),
    (LIBRARY, 1, "2  find the channel of the event", "reactor/slots.rs"),
    (KERNEL, 2, "received bytes", ""),
    (LIBRARY, 2, "3  read once, at most 64 KiB", "stream/connection.rs"),
    (YOURS, 2, "handle_read(io, data)", ""),
    (YOURS, 3, "io.send(reply)", ""),
    (LIBRARY, 3, "4  gather the output", "stream/sending.rs"),
    (KERNEL, 4, "bytes to send", ""),
    (LIBRARY, 4, "5  write; close if it has ended", "reactor/call.rs"),
    (YOURS, 5, "timers, posted jobs", ""),
    (LIBRARY, 5, "6  after all events: what is due", "reactor/turn.rs"),
)
# From lane and row to lane and row: the label, and whether the event goes that way.
ARROWS = (
    (KERNEL, 0, LIBRARY, 0, "epoll", True),
    (LIBRARY, 0, LIBRARY, 1, "", True),
    (LIBRARY, 1, LIBRARY, 2, "", True),
    (KERNEL, 2, LIBRARY, 2, "recv", True),
    (LIBRARY, 2, YOURS, 2, "call", True),
    (YOURS, 2, YOURS, 3, "", True),
    (YOURS, 3, LIBRARY, 3, "", True),
    (LIBRARY, 3, LIBRARY, 4, "", True),
    (LIBRARY, 4, KERNEL, 4, "send", True),
    (LIBRARY, 4, LIBRARY, 5, "", False),
    (LIBRARY, 5, YOURS, 5, "call", False),
)


def middle(row):
    return TOP + row * STEP + BOX / 2


def arrow(start, end, label, color, ink, kind):
    (x1, y1), (x2, y2) = start, end
    shape = f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{color}" stroke-width="2" marker-end="url(#{kind})"/>'
    if label:
        shape += f'<text x="{(x1 + x2) / 2}" y="{y1 - 7}" text-anchor="middle" font-size="13" fill="{ink}">{label}</text>'
    return shape


def connect(lane, row, to_lane, to_row, label, is_path, colors):
    ink, soft, _, path, _ = colors
    color, kind = (path, "path") if is_path else (soft, "other")
    if lane == to_lane:
        x = lane[0] + lane[1] / 2
        return arrow((x, middle(row) + BOX / 2), (x, middle(to_row) - BOX / 2 - 7), label, color, ink, kind)
    rightwards = to_lane[0] > lane[0]
    start = lane[0] + lane[1] if rightwards else lane[0]
    end = to_lane[0] - 7 if rightwards else to_lane[0] + to_lane[1] + 7
    return arrow((start, middle(row)), (end, middle(row)), label, color, ink, kind)


def box(lane, row, text, source, colors):
    ink, soft, line, _, _ = colors
    if source and not (SOURCES / source).exists():
        sys.exit(f"drawing: there is no {source}")
    x, width = lane
    y = TOP + row * STEP
    form = f'<rect x="{x}" y="{y}" width="{width}" height="{BOX}" rx="6" fill="none" stroke="{line}" stroke-width="1.2"/>'
    if not source:
        font = ' font-family="ui-monospace, monospace" font-size="13"' if lane == YOURS and "(" in text else ""
        return form + f'<text x="{x + width / 2}" y="{y + 27}" text-anchor="middle" fill="{ink}"{font}>{html.escape(text)}</text>'
    return (
        form + f'<text x="{x + 12}" y="{y + 19}" fill="{ink}">{html.escape(text)}</text>'
        f'<text x="{x + 29}" y="{y + 36}" font-size="12.5" fill="{soft}">{source}</text>'
    )


def drawing(colors):
    ink, soft, line, path, fills = colors
    height = TOP + 6 * STEP + 20
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        'role="img" font-family="system-ui, sans-serif" font-size="14.5">',
        "<title>The path of an event: the kernel reports a readable socket, the reactor finds its "
        "channel, reads, calls your handle_read, gathers what it sends, writes it, and waits "
        "again</title>",
        "<defs>",
    ]
    for name, color in (("path", path), ("other", soft)):
        out.append(
            f'<marker id="{name}" viewBox="0 0 10 10" refX="3" refY="5" markerWidth="5" '
            f'markerHeight="5" orient="auto"><path d="M0 0 10 5 0 10z" fill="{color}"/></marker>'
        )
    out.append("</defs>")
    for ((x, width), more, title), fill in zip(LANES, fills):
        width += more
        out.append(
            f'<rect x="{x - 10}" y="6" width="{width + 20}" height="{height - 14}" rx="10" fill="{fill}" stroke="{line}" stroke-width=".6"/>'
        )
        out.append(
            f'<text x="{x + width / 2}" y="34" text-anchor="middle" font-weight="600" fill="{ink}">{title}</text>'
        )
    out += [box(*given, colors) for given in BOXES]
    out += [connect(*given, colors) for given in ARROWS]
    # The next turn: from below the last box of the library around to its first.
    x, width = LIBRARY
    out.append(
        f'<path d="M{x + width / 2} {TOP + 5 * STEP + BOX} v14 H{x + width + BACK - 4} V{middle(0)} '
        f'h{11 - BACK}" fill="none" stroke="{soft}" stroke-width="2" stroke-dasharray="5 4" '
        f'marker-end="url(#other)"/>'
        f'<text x="{x + 12}" y="{TOP + 5 * STEP + BOX + 20}" font-size="13" fill="{ink}">next turn</text>'
    )
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(f"drawing: unknown argument {sys.argv[1]}; see scripts/drawing.py --help")
    for name, colors in (("loop-light", LIGHT), ("loop-dark", DARK), ("loop", INHERITED)):
        path = FOLDER / f"{name}.svg"
        text = drawing(colors)
        if not sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"drawing: {path.relative_to(ROOT)} is out of date; run scripts/drawing.py")


if __name__ == "__main__":
    main()
