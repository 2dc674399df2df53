//! Helpers: a protocol that logs its callbacks with the time, and a world of two machines.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{CloseReason, Io, Limits, Listener, Protocol, Stream, TimerId};
use sim::{Fault, Faults, Link, MachineId, Sim};
pub(crate) use testing::pattern;

/// How long one packet takes in these worlds, exactly.
pub(crate) const LATENCY: Duration = Duration::from_millis(10);

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Longer than anything takes, but what TCP gives up on.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn server_addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7))
}

/// A shared list of what happened, and when.
#[derive(Clone)]
pub(crate) struct Log(Rc<RefCell<Entries>>);

struct Entries {
    lines: Vec<(Instant, String)>,
    received: Vec<(String, Vec<u8>)>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Log(Rc::new(RefCell::new(Entries { lines: Vec::new(), received: Vec::new() })))
    }

    pub(crate) fn note(&self, at: Instant, line: impl Into<String>) {
        self.0.borrow_mut().lines.push((at, line.into()));
    }

    fn receive(&self, name: &str, data: &[u8]) {
        let received = &mut self.0.borrow_mut().received;
        match received.iter_mut().find(|(of, _)| of == name) {
            Some((_, all)) => all.extend(data),
            None => received.push((name.to_owned(), data.to_vec())),
        }
    }

    /// Returns all that `name` has received.
    pub(crate) fn received(&self, name: &str) -> Vec<u8> {
        let received = &self.0.borrow().received;
        received.iter().find(|(of, _)| of == name).map(|(_, all)| all.clone()).unwrap_or_default()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.borrow().lines.iter().map(|(_, line)| line.clone()).collect()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.0.borrow().lines.iter().filter(|(_, line)| line.contains(part)).count()
    }

    pub(crate) fn has(&self, part: &str) -> bool {
        self.count(part) > 0
    }

    /// Returns how much time passed from the first line that contains `from` to the first
    /// one after it that contains `to`.
    pub(crate) fn between(&self, from: &str, to: &str) -> Duration {
        let lines = &self.0.borrow().lines;
        let mut rest = lines.iter().skip_while(|(_, line)| !line.contains(from));
        let missing = || panic!("no {from:?} and {to:?} in {:?}", self.lines());
        let (start, _) = rest.next().unwrap_or_else(missing);
        let (end, _) = rest.find(|(_, line)| line.contains(to)).unwrap_or_else(missing);
        end.duration_since(*start)
    }

    /// Returns the longest time between two lines that contain `part`.
    pub(crate) fn longest_between(&self, part: &str) -> Duration {
        let lines = &self.0.borrow().lines;
        let found: Vec<_> = lines.iter().filter(|(_, line)| line.contains(part)).collect();
        let gaps = found.windows(2).map(|pair| pair[1].0.duration_since(pair[0].0));
        gaps.max().unwrap_or_default()
    }
}

/// A callback and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On<'a> {
    Connect,
    Read(&'a [u8]),
    Eof,
    Timer,
}

type React = Box<dyn FnMut(On<'_>, &mut Io<'_>) -> io::Result<()>>;

/// Logs each callback, and then calls the closure of the test.
pub(crate) struct Probe {
    name: &'static str,
    log: Log,
    react: React,
}

impl Probe {
    pub(crate) fn new(
        name: &'static str,
        log: &Log,
        react: impl FnMut(On<'_>, &mut Io<'_>) -> io::Result<()> + 'static,
    ) -> Self {
        Probe { name, log: log.clone(), react: Box::new(react) }
    }

    fn note(&self, io: &mut Io<'_>, what: &str) {
        self.log.note(io.context().now(), format!("{} {what}", self.name));
    }
}

impl Protocol for Probe {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.note(io, "connected");
        (self.react)(On::Connect, io)
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.note(io, &format!("read {}", data.len()));
        self.log.receive(self.name, data);
        (self.react)(On::Read(data), io)
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.note(io, "eof");
        (self.react)(On::Eof, io)
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        self.note(io, "timer");
        (self.react)(On::Timer, io)
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        self.note(io, &format!("closed: {reason}"));
    }
}

/// Closes at the end of input, and does nothing else.
#[expect(clippy::unnecessary_wraps, reason = "a reaction")]
pub(crate) fn passive(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    if on == On::Eof {
        io.close();
    }
    Ok(())
}

/// Returns everything, and closes at the end of input.
pub(crate) fn echo(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match on {
        On::Read(data) => io.send(data),
        _ => passive(on, io),
    }
}

/// Returns a world in which packets take exactly [`LATENCY`].
pub(crate) fn world(faults: Faults) -> Sim {
    world_of_seed(1, faults)
}

pub(crate) fn world_of_seed(seed: u64, faults: Faults) -> Sim {
    let mut sim = Sim::new(seed);
    sim.set_link(Link::default().with_latency(LATENCY, Duration::ZERO));
    sim.set_faults(faults);
    sim
}

/// Returns a world in which `fault` happens whenever it can.
pub(crate) fn always(fault: Fault) -> Sim {
    world(Faults::none().with(fault, 1_000_000))
}

/// Adds a machine that listens on [`server_addr`] with probes named "server".
pub(crate) fn add_server(
    sim: &mut Sim,
    log: &Log,
    react: impl FnMut(On<'_>, &mut Io<'_>) -> io::Result<()> + Clone + 'static,
) -> MachineId {
    let log = log.clone();
    let limits = Limits { stall_timeout: None, ..Limits::default() };
    let setup = move |reactor: &mut reactor::Reactor| {
        let (log, react) = (log.clone(), react.clone());
        let accept = move |_: &_| Ok(Probe::new("server", &log, react.clone()));
        reactor.add(Listener::bind(server_addr(), accept)?.with_limits(limits)).map(drop)
    };
    sim.machine("server", [10, 0, 0, 1], setup).unwrap()
}

/// Adds a machine that connects to [`server_addr`] with a probe named "client".
pub(crate) fn add_client(
    sim: &mut Sim,
    log: &Log,
    react: impl FnMut(On<'_>, &mut Io<'_>) -> io::Result<()> + Clone + 'static,
) -> MachineId {
    let log = log.clone();
    let limits = Limits { stall_timeout: None, connect_timeout: None, ..Limits::default() };
    let setup = move |reactor: &mut reactor::Reactor| {
        log.note(reactor.context().clock(), "client starts");
        let probe = Probe::new("client", &log, react.clone());
        reactor.add(Stream::connect([server_addr()], probe).with_limits(limits)).map(drop)
    };
    sim.machine("client", [10, 0, 0, 2], setup).unwrap()
}
