//! The README's echo server and a client that sends it ten messages, with all faults:
//! `cargo run --release -p sim --example ten_messages -- --seed 1`, or `--seeds 0..1000`.

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

/// What the client has seen.
#[derive(Debug, Default)]
struct Seen {
    replies: Vec<u8>,
    closed: Vec<String>,
}

/// Sends the numbers from 1 to 10, each in a `handle_write` of its own, and closes when all
/// have come back.
struct Client {
    unsent: VecDeque<String>,
    expected: usize,
    seen: Rc<RefCell<Seen>>,
}

impl Client {
    fn new(seen: Rc<RefCell<Seen>>) -> Self {
        let unsent: VecDeque<_> = (1..=10).map(|number| format!("{number}\n")).collect();
        Client { expected: unsent.iter().map(String::len).sum(), unsent, seen }
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
        if replies.len() >= self.expected {
            io.close();
        }
        Ok(())
    }

    fn handle_close(&mut self, _io: &mut Io<'_>, reason: &CloseReason) {
        self.seen.borrow_mut().closed.push(reason.to_string());
    }
}

fn scenario(sim: &mut Sim) -> ScenarioResult {
    let seen = Rc::new(RefCell::new(Seen::default()));
    sim.set_link(
        Link::default().with_latency(Duration::from_millis(20), Duration::from_millis(30)),
    );
    sim.set_faults(Faults::all());
    let server = sim.machine("server", [10, 0, 0, 1], echo::setup)?;
    sim.allow_crashes(server);
    let log = Rc::clone(&seen);
    let client = sim.machine("client", [10, 0, 0, 1], move |reactor| {
        let limits = Limits { idle_timeout: Some(Duration::from_secs(60)), ..Limits::default() };
        let addr = SocketAddr::from(([127, 0, 0, 1], 9999));
        let stream = Stream::connect([addr], Client::new(Rc::clone(&log))).with_limits(limits);
        reactor.add(stream).map(drop)
    })?;
    sim.chaos(Duration::from_secs(30))?;
    sim.rest(Duration::from_secs(600))?;

    let expected = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";
    let seen = seen.borrow();
    if !expected.as_bytes().starts_with(&seen.replies) {
        return Err(format!("replies: {}", seen.replies.escape_ascii()).into());
    }
    let [reason] = &seen.closed[..] else {
        return Err(format!("handle_close was called {} times", seen.closed.len()).into());
    };
    if reason == "closed" && seen.replies.len() < expected.len() {
        return Err("the client closed before all replies had come".into());
    }
    if !sim.has_ended(client) {
        return Err("the client has not ended".into());
    }
    Ok(())
}

fn main() -> ExitCode {
    sim::main(COMMAND, scenario)
}
