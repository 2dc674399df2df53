//! What a chat server promises: every line reaches everyone in the room, or its sender
//! learns that it may not have. `cargo run --release -p sim --example chat -- --seed 1`, or
//! `--seeds 0..1000`.

use std::cell::{Ref, RefCell};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Chat, ChatIo, ChatProtocol, CloseReason, Limits, Stream, TimerId};
use sim::{Fault, Faults, Link, ScenarioResult, Sim};

#[allow(dead_code, reason = "a world runs `setup`, and not `main`")]
#[path = "../../reactor/examples/chat_server.rs"]
mod chat_server;

const HOUR: Duration = Duration::from_secs(3600);
const LINES: usize = 5;

/// Joins, says its lines, and leaves when it hears its own goodbye.
#[derive(Clone, Default)]
struct Guest {
    pause: Duration,
    line_len: usize,
    seen: Rc<RefCell<Seen>>,
}

/// What a guest has seen.
#[derive(Default)]
struct Seen {
    name: String,
    said: usize,
    heard: Vec<String>,
    end: String,
}

impl ChatProtocol for Guest {
    fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.seen.borrow_mut().name = chat.io().local_addr()?.to_string();
        chat.io().set_timer(self.pause);
        Ok(())
    }

    fn handle_timer(&mut self, chat: &mut ChatIo<'_>, _: TimerId) -> io::Result<()> {
        let said = &mut self.seen.borrow_mut().said;
        *said += 1;
        if *said > LINES {
            return chat.push(b"goodbye\n");
        }
        // An hour after the last line, every connection that broke has been noticed.
        chat.io().set_timer(if *said < LINES { self.pause } else { HOUR });
        chat.push(format!("{:1$}\n", format!("line {said}"), self.line_len).as_bytes())
    }

    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let mut seen = self.seen.borrow_mut();
        let line = String::from_utf8_lossy(&chat.take_collected()).trim_end().to_owned();
        if line == format!("{}: goodbye", seen.name) {
            chat.close_when_done();
        }
        seen.heard.push(line);
        Ok(())
    }

    fn handle_close(&mut self, _: &mut ChatIo<'_>, reason: &CloseReason) {
        self.seen.borrow_mut().end = reason.to_string();
    }
}

pub(crate) fn scenario(sim: &mut Sim) -> ScenarioResult {
    let latency = Duration::from_millis(sim.choose(200));
    sim.set_link(Link::default().with_latency(latency, latency).with_buffers(8192, 8192));
    sim.set_faults(Faults::of_streams().with(Fault::Reset, 500));
    let setup = |reactor: &mut _| chat_server::setup(reactor, "10.0.0.1:9999");
    let server = sim.machine("server", [10, 0, 0, 1], setup)?;
    sim.allow_crashes(server);
    let mut everyone = Vec::new();
    for number in 1..=4 {
        let guest = Guest {
            pause: Duration::from_millis(1000 + sim.choose(4000)),
            line_len: usize::try_from(sim.choose(20_000))?,
            ..Guest::default()
        };
        everyone.push(Rc::clone(&guest.seen));
        sim.machine(&format!("guest {number}"), [10, 0, 1, number], move |reactor| {
            let chat = Chat::new("\n", guest.clone());
            let limits = Limits { idle_timeout: Some(2 * HOUR), ..Limits::default() };
            let server = SocketAddr::from(([10, 0, 0, 1], 9999));
            reactor.add(Stream::connect([server], chat).with_limits(limits)).map(drop)
        })?;
    }
    sim.chaos(Duration::from_secs(30))?;
    sim.rest(10 * HOUR)?;

    let everyone: Vec<_> = everyone.iter().map(|seen| seen.borrow()).collect();
    for sender in &everyone {
        if sender.end == "closed" {
            check_lines(sender, &everyone)?;
            sim.note("a guest stayed to the end");
        } else {
            // So it knows that its lines may be lost.
            sim.note("a guest lost its connection");
        }
    }
    Ok(())
}

/// Checks that everyone has heard the lines of `sender`, or has left.
fn check_lines(sender: &Seen, everyone: &[Ref<'_, Seen>]) -> Result<(), String> {
    for number in 1..=LINES {
        let line = format!("{}: line {number}", sender.name);
        let Some(at) = sender.heard.iter().position(|heard| *heard == line) else {
            return Err(format!("{line:?} is lost, and its sender does not know"));
        };
        for Seen { name, heard, .. } in everyone.iter().map(|seen| &**seen) {
            let left = format!("{name} left: ");
            let has_left = sender.heard.iter().any(|heard| heard.starts_with(&left));
            // It joined before the line, and before or after the sender.
            let was_here = heard.contains(&format!("{} joined", sender.name))
                || sender.heard[..at].contains(&format!("{name} joined"));
            if was_here && !has_left && !heard.contains(&line) {
                return Err(format!("{name} misses {line:?}, and its sender does not know"));
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    sim::main("cargo run --release -p sim --example chat", scenario)
}
