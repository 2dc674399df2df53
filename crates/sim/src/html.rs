//! The trace of a world as one page of HTML: a sequence diagram.

use std::fmt::Write as _;

use crate::outcome::Outcome;
use crate::trace::{EventKind, TraceEvent};

/// The width of a machine's column and the height of a row, in pixels.
const COLUMN: usize = 260;
const ROW: usize = 22;
const LEFT: usize = 130;

/// The most rows of a diagram; the last ones, which tell why a world failed.
const MAX_ROWS: usize = 5000;

const STYLE: &str = "
body { font: 14px system-ui, sans-serif; margin: 16px; color: #1b1f24; background: #fff }
h1 { font-size: 18px } .failure { color: #b3261e; font-weight: 600 } .note { color: #57606a }
label { margin-right: 16px } header.names { position: sticky; top: 0; background: #fff }
svg text { font: 12px ui-monospace, monospace; fill: #1b1f24 } svg .time { fill: #57606a }
.life { stroke: #d0d7de } .message { stroke: #0550ae; stroke-width: 1.5 }
.lost, .fault text { fill: #b3261e } .fault circle { fill: #b3261e }
.timer circle { fill: #9a6700 } .world circle { fill: #1a7f37 } .call text { fill: #57606a }
.hide-call .call, .hide-timer .timer { display: none }
";

const SCRIPT: &str = "
for (const kind of ['call', 'timer']) {
  const box = document.getElementById('show-' + kind);
  const update = () => { document.body.classList.toggle('hide-' + kind, !box.checked); layout(); };
  box.addEventListener('change', update);
}
function layout() {
  let y = 0;
  for (const row of document.querySelectorAll('svg .row')) {
    if (getComputedStyle(row).display === 'none') continue;
    row.setAttribute('transform', 'translate(0 ' + y + ')');
    y += 22;
  }
  document.querySelector('svg.diagram').setAttribute('height', y + 22);
  document.querySelectorAll('.life').forEach((line) => line.setAttribute('y2', y + 22));
  document.body.dataset.rows = String(Math.round(y / 22));
}
layout();
";

/// Returns the page for one world.
pub(crate) fn page(outcome: &Outcome, machines: &[String], events: &[TraceEvent]) -> String {
    let width = LEFT + COLUMN * machines.len().max(1);
    let skipped = events.len().saturating_sub(MAX_ROWS);
    let mut page = String::new();
    let out = &mut page;
    let (seed, hash) = (outcome.seed, outcome.hash);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
         <title>Seed {seed}</title>\n<style>{STYLE}</style>\n\
         <body>\n<h1>Seed {seed}</h1>\n"
    );
    let _ = match &outcome.failure {
        Some(failure) => writeln!(out, "<p class=\"failure\">Failed: {}</p>", escape(failure)),
        None => writeln!(out, "<p>Passed.</p>"),
    };
    let _ = writeln!(
        out,
        "<p class=\"note\">{:.6} simulated seconds, {} events, hash {hash:016x}. Faults: {}.{}</p>",
        outcome.elapsed.as_secs_f64(),
        events.len(),
        escape(&outcome.faults.to_string()),
        if skipped > 0 {
            format!(" The first {skipped} events are not shown.")
        } else {
            String::new()
        }
    );
    let _ = writeln!(
        out,
        "<p><label><input type=\"checkbox\" id=\"show-call\" checked> system calls</label>\
         <label><input type=\"checkbox\" id=\"show-timer\" checked> timers</label></p>"
    );
    let _ = writeln!(out, "<header class=\"names\"><svg width=\"{width}\" height=\"28\">");
    for (index, name) in machines.iter().enumerate() {
        let x = column(index);
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"18\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>",
            escape(name)
        );
    }
    let height = (events.len() - skipped + 1) * ROW;
    let _ = writeln!(
        out,
        "</svg></header>\n<svg class=\"diagram\" width=\"{width}\" height=\"{height}\">\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto-start-reverse\"><path d=\"M0 0L8 4L0 8z\" \
         fill=\"#0550ae\"/></marker></defs>"
    );
    for index in 0..machines.len() {
        let x = column(index);
        let _ =
            writeln!(out, "<line class=\"life\" x1=\"{x}\" y1=\"0\" x2=\"{x}\" y2=\"{height}\"/>");
    }
    for (row, event) in events[skipped..].iter().enumerate() {
        write_row(out, row, event);
    }
    let _ = write!(out, "</svg>\n<script>{SCRIPT}</script>\n</body></html>\n");
    page
}

fn write_row(out: &mut String, row: usize, event: &TraceEvent) {
    let class = match event.kind {
        EventKind::Message => "message-row",
        EventKind::Call => "call",
        EventKind::Fault => "fault",
        EventKind::Timer => "timer",
        EventKind::World => "world",
    };
    let y = row * ROW;
    let text = escape(&event.text);
    let at = event.at.as_secs_f64();
    let _ = write!(
        out,
        "<g class=\"row {class}\" transform=\"translate(0 {y})\"><text class=\"time\" x=\"4\" \
         y=\"15\">{at:.6}</text>"
    );
    let from = column(event.machine);
    let _ = match event.to.map(column) {
        Some(to) if to != from => write!(
            out,
            "<line class=\"message\" x1=\"{from}\" y1=\"18\" x2=\"{to}\" y2=\"18\" \
             marker-end=\"url(#arrow)\"/><text x=\"{}\" y=\"14\" text-anchor=\"middle\">{text}</text>",
            usize::midpoint(from, to)
        ),
        _ => write!(
            out,
            "<circle cx=\"{from}\" cy=\"11\" r=\"4\"/><text x=\"{}\" y=\"15\">{text}</text>",
            from + 10
        ),
    };
    out.push_str("</g>\n");
}

fn column(machine: usize) -> usize {
    LEFT + COLUMN / 2 + machine * COLUMN
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fault::{FaultCounts, Faults};

    #[test]
    fn text_of_programs_is_escaped() {
        let outcome = Outcome {
            seed: 7,
            hash: 1,
            elapsed: Duration::ZERO,
            declared: Faults::none(),
            faults: FaultCounts::default(),
            notes: Vec::new(),
            failure: Some("<b>".to_owned()),
        };
        let event = TraceEvent {
            at: Duration::from_millis(5),
            kind: EventKind::Message,
            machine: 0,
            to: Some(1),
            text: "\"<script>\"".to_owned(),
        };
        let page = page(&outcome, &["a".to_owned(), "b".to_owned()], &[event]);
        assert!(page.contains("Failed: &lt;b&gt;"));
        assert!(page.contains("&quot;&lt;script&gt;&quot;"));
        assert_eq!(page.matches("<script>").count(), 1);
    }
}
