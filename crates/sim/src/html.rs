//! The trace of a world as one page of HTML: a sequence diagram.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use crate::outcome::Outcome;
use crate::trace::{EventKind, TraceEvent};

/// The most events of a diagram: the last ones, which tell why a world failed.
const MAX_ROWS: usize = 20_000;

/// A page with more events starts without the system calls.
const MAX_WITH_CALLS: usize = 300;

/// Longer than this without an event is worth a line.
const GAP: Duration = Duration::from_secs(1);

/// The kinds of events, what the legend calls them, and the class of their rows.
const KINDS: [(EventKind, &str, &str); 5] = [
    (EventKind::Message, "messages", "message"),
    (EventKind::Fault, "faults", "fault"),
    (EventKind::World, "starts, ends, signals", "world"),
    (EventKind::Timer, "timers", "timer"),
    (EventKind::Call, "system calls", "call"),
];

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Returns the page for one world. `command` runs it again.
pub(crate) fn page(
    outcome: &Outcome,
    command: &str,
    machines: &[(String, IpAddr)],
    events: &[TraceEvent],
) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write_page(&mut page, outcome, command, machines, events);
    page
}

fn write_page(
    out: &mut String,
    outcome: &Outcome,
    command: &str,
    machines: &[(String, IpAddr)],
    events: &[TraceEvent],
) -> fmt::Result {
    let (seed, hash) = (outcome.seed, outcome.hash);
    let (class, verdict) = match &outcome.failure {
        Some(failure) => ("failed", format!("Failed: {}", escape(failure))),
        None => ("passed", "Passed".to_owned()),
    };
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Seed {seed} {class}</title>\n<style>\n:root {{ --machines: {} }}\n{STYLE}</style>\n\
         <h1>Seed {seed}</h1>\n<p class=\"verdict {class}\">{verdict}</p>\n\
         <p>Run it again: <code>{}</code></p>\n",
        machines.len(),
        escape(command)
    )?;
    write!(
        out,
        "<p class=\"facts\">{:.6} simulated seconds, hash {hash:016x}. Faults: {}.</p>\n<nav>",
        outcome.elapsed.as_secs_f64(),
        escape(&outcome.faults.to_string()),
    )?;
    for (kind, name, class) in KINDS {
        let count = events.iter().filter(|event| event.kind == kind).count();
        let is_shown = kind != EventKind::Call || events.len() <= MAX_WITH_CALLS;
        let checked = if is_shown { " checked" } else { "" };
        write!(
            out,
            "<label class=\"{class}\"><input type=\"checkbox\" name=\"{class}\"{checked}>\
             <i></i> {count} {name}</label>"
        )?;
    }
    write!(
        out,
        "<input type=\"search\" placeholder=\"only events with this text\">\
         <output></output><a href=\"#end\">to the end</a></nav>\n<main>\n<header><span>seconds</span>"
    )?;
    for (index, (name, ip)) in machines.iter().enumerate() {
        let name = escape(name);
        write!(
            out,
            "<button value=\"m{index}\" title=\"only {name}\">{name} <small>{ip}</small></button>"
        )?;
    }
    write!(out, "</header>\n<div class=\"lanes\">")?;
    for index in 0..machines.len() {
        write!(out, "<i style=\"grid-column:{}\"></i>", center(index))?;
    }
    writeln!(out, "</div>")?;
    let skipped = events.len().saturating_sub(MAX_ROWS);
    if skipped > 0 {
        writeln!(out, "<div class=\"gap\">the first {skipped} events are not here</div>")?;
    }
    let mut before = None;
    for event in &events[skipped..] {
        write_row(out, event, before)?;
        before = Some(event.at);
    }
    write!(
        out,
        "<p id=\"end\" class=\"verdict {class}\">{verdict}</p>\n</main>\n\
         <script>\n{SCRIPT}</script>\n</html>\n"
    )
}

/// `before` is the time of the row above.
fn write_row(out: &mut String, event: &TraceEvent, before: Option<Duration>) -> fmt::Result {
    let passed = event.at.saturating_sub(before.unwrap_or_default());
    if passed >= GAP {
        writeln!(out, "<div class=\"gap\">{:.1} s later</div>", passed.as_secs_f64())?;
    }
    let class = KINDS.iter().find(|(kind, ..)| *kind == event.kind).map_or("", |kind| kind.2);
    let (at, text) = (event.at.as_secs_f64(), escape(&event.text));
    let same = if before == Some(event.at) { " same" } else { "" };
    let (from, to) = (event.machine, event.to.unwrap_or(event.machine));
    write!(out, "<div class=\"row {class}{same} m{from} m{to}\"><time>{at:.6}</time>")?;
    let (start, end) = (center(from.min(to)), center(from.max(to)));
    if start == end {
        writeln!(out, "<b class=\"dot\" style=\"grid-column:{start}/span 2\">{text}</b></div>")
    } else {
        let direction = if from < to { "right" } else { "left" };
        writeln!(
            out,
            "<b class=\"{direction}\" style=\"grid-column:{start}/{end}\"><span>{text}</span></b></div>"
        )
    }
}

/// Returns the line of the grid in the middle of a machine's column, which consists of two:
/// line 1 is on the left of the time, line 2 on its right.
fn center(machine: usize) -> usize {
    3 + 2 * machine
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

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
        let machine = |name: &str| (name.to_owned(), Ipv6Addr::UNSPECIFIED.into());
        let event = TraceEvent {
            at: Duration::from_millis(5),
            kind: EventKind::Message,
            machine: 0,
            to: Some(1),
            text: "\"<script>\"".to_owned(),
        };
        let page = page(&outcome, "a && b", &[machine("a"), machine("<i>")], &[event]);
        assert!(page.contains("Failed: &lt;b&gt;"));
        assert!(page.contains("<code>a &amp;&amp; b</code>"));
        assert!(page.contains(">&lt;i&gt; <small>::</small>"));
        assert!(page.contains("&quot;&lt;script&gt;&quot;"));
        assert_eq!(page.matches("<script>").count(), 1);
    }
}
