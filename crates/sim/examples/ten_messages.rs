//! The README's echo server and clients that send it ten messages, with all faults that can
//! happen to TCP: `cargo run --release -p sim --example ten_messages -- --seed 1`, or
//! `--seeds 0..10000`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use reactor::{CloseReason, Io, Limits, Protocol, Stream};
use sim::{Faults, Link, ScenarioResult, Sim};

#[allow(dead_code, reason = "a world runs `setup`, and not `main`")]
#[path = "../../reactor/examples/echo.rs"]
mod echo;

const COMMAND: &str = "cargo run --release -p sim --example ten_messages";

const EXPECTED: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";

/// The duration of the faults.
const CHAOS: Duration = Duration::from_secs(30);

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    replies: Vec<u8>,
    closed: Vec<String>,
}

/// Sends the numbers from 1 to 10, each in a `handle_write` of its own, and closes when all
/// have come back.
struct Client {
    unsent: VecDeque<String>,
    seen: Rc<RefCell<Seen>>,
}

impl Client {
    fn new(seen: Rc<RefCell<Seen>>) -> Self {
        Client { unsent: (1..=10).map(|number| format!("{number}\n")).collect(), seen }
    }
}

impl Protocol for Client {
    fn writable(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        match self.unsent.pop_front() {
            Some(message) => io.send(message.as_bytes()),
            None => Ok(()),
        }
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let replies = &mut self.seen.borrow_mut().replies;
        replies.extend(data);
        if replies.len() >= EXPECTED.len() {
            io.close();
        }
        Ok(())
    }

    fn handle_close(&mut self, _io: &mut Io<'_>, reason: &CloseReason) {
        self.seen.borrow_mut().closed.push(reason.to_string());
    }
}

/// One server, and three clients that start at random times.
fn scenario(sim: &mut Sim) -> ScenarioResult {
    let latency = Duration::from_millis(sim.choose(400));
    sim.set_link(Link::default().with_latency(latency, latency));
    sim.set_faults(Faults::of_streams());
    // The server listens on 127.0.0.1, so all are programs of one host.
    let host = [10, 0, 0, 1];
    let server = sim.machine("server", host, echo::setup)?;
    sim.allow_crashes(server);
    let mut clients = Vec::new();
    for number in 1..=3 {
        let seen = Rc::new(RefCell::new(Seen::default()));
        let starts = Duration::from_millis(sim.choose(20_000));
        let log = Rc::clone(&seen);
        let client = sim.machine(&format!("client {number}"), host, move |reactor| {
            let client = Client::new(Rc::clone(&log));
            let limits =
                Limits { idle_timeout: Some(Duration::from_secs(60)), ..Limits::default() };
            let addr = SocketAddr::from(([127, 0, 0, 1], 9999));
            reactor.context().call_later(starts, move |cx| {
                // It fails only if the loop ends.
                let _ = cx.add(Stream::connect([addr], client).with_limits(limits));
            });
            Ok(())
        })?;
        clients.push((client, seen));
    }
    sim.chaos(CHAOS)?;
    sim.rest(Duration::from_secs(600))?;

    for (client, seen) in clients {
        let seen = seen.borrow();
        if !EXPECTED.as_bytes().starts_with(&seen.replies) {
            return Err(format!("replies: {}", seen.replies.escape_ascii()).into());
        }
        let [reason] = &seen.closed[..] else {
            return Err(format!("handle_close was called {} times", seen.closed.len()).into());
        };
        let is_complete = seen.replies.len() == EXPECTED.len();
        if reason == "closed" && !is_complete {
            return Err("a client closed before all replies had come".into());
        }
        if !sim.has_ended(client) {
            return Err("a client has not ended".into());
        }
        sim.note(if is_complete { "complete" } else { reason });
    }
    Ok(())
}

fn main() -> ExitCode {
    sim::main(COMMAND, scenario)
}
