//! The program `echo-server`, set up from a command line, serves peers of all kinds while
//! everything goes wrong, and then drains.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use echo_server::{Options, Server};
use reactor::signal::SIGTERM;
use reactor::{
    Cause, CloseReason, Context, Dispatcher, Io, Limits, Protocol, Reactor, Source, Stream, TimerId,
};
use sim::{Fault, Faults, Link, MachineId, ScenarioResult, Sim, check, run_seeds};
use test_certificates::Authority;

use crate::common::{SECOND, pattern, server_addr};

/// What the server buffers for a peer at most, as its `--help` says.
const MAX_UNSENT: usize = 128 * 1024;

/// What a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Sends all, waits for all of it, and closes.
    Finishes,
    /// Sends all, ends its output, and waits for the end.
    HalfCloses,
    /// Sends nothing.
    Silent,
    /// Sends all, and reads nothing.
    NeverReads,
    /// Aborts when half of it has come back.
    Aborts,
}

const HABITS: [Habit; 8] = [
    Habit::Finishes,
    Habit::Finishes,
    Habit::Finishes,
    Habit::HalfCloses,
    Habit::HalfCloses,
    Habit::Silent,
    Habit::NeverReads,
    Habit::Aborts,
];

/// What happened to one connection.
#[derive(Debug)]
struct Seen {
    habit: Habit,
    /// How many bytes it means to send.
    len: usize,
    connected: u32,
    sent: usize,
    received: usize,
    eof: bool,
    closed: Vec<String>,
    is_local: bool,
}

impl Seen {
    fn new(habit: Habit, len: usize) -> Self {
        let closed = Vec::new();
        Seen { habit, len, connected: 0, sent: 0, received: 0, eof: false, closed, is_local: false }
    }
}

/// All connections of a world.
type AllSeen = Rc<RefCell<Vec<Rc<RefCell<Seen>>>>>;

struct Peer {
    habit: Habit,
    /// What comes before the data: a header, which may be cut off or wrong.
    preface: Vec<u8>,
    data: Rc<Vec<u8>>,
    /// How long it pauses after each read.
    thinks: Duration,
    seen: Rc<RefCell<Seen>>,
}

impl Peer {
    /// Returns what is seen of it, before its end.
    fn seen(&self) -> std::cell::RefMut<'_, Seen> {
        let seen = self.seen.borrow_mut();
        assert!(seen.closed.is_empty(), "a callback after handle_close");
        seen
    }

    fn len(&self) -> usize {
        if self.habit == Habit::Silent { 0 } else { self.data.len() }
    }
}

impl Protocol for Peer {
    fn writable(&self) -> bool {
        self.seen.borrow().sent < self.len()
    }

    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.seen().connected += 1;
        assert!(self.seen().sent == 0 && self.seen().received == 0);
        if self.habit == Habit::NeverReads {
            io.pause();
        }
        io.send(&self.preface)
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let sent = self.seen().sent;
        let end = self.len().min(sent + 5000);
        io.send(&self.data[sent..end])?;
        self.seen().sent = end;
        if end == self.len() && self.habit == Habit::HalfCloses {
            io.shutdown()?;
        }
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let received = {
            let mut seen = self.seen();
            let from = seen.received;
            assert!(from + data.len() <= seen.sent, "more has come back than was sent");
            assert!(self.data[from..].starts_with(data), "the bytes from {from} on differ");
            seen.received += data.len();
            seen.received
        };
        match self.habit {
            Habit::Finishes if received == self.len() => io.close(),
            Habit::Aborts if received >= self.len() / 2 => io.abort(),
            _ if !self.thinks.is_zero() => {
                io.pause();
                io.set_timer(self.thinks);
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        io.resume();
        Ok(())
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.seen().eof = true;
        io.close();
        Ok(())
    }

    fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
        let mut seen = self.seen.borrow_mut();
        seen.is_local = matches!(reason.cause, Cause::Local);
        seen.closed.push(reason.to_string());
    }
}

thread_local! {
    /// What the server of this thread's world has logged.
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Collects what echo-server logs: why each connection ended.
struct ServerLog;

impl log::Log for ServerLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("echo_server")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LOG.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Watches the limits of the server, from inside of it.
struct Watch {
    max_connections: usize,
    most: Rc<Cell<usize>>,
    at: Option<Instant>,
}

impl Dispatcher for Watch {
    fn source(&self) -> Source<'_> {
        Source::NONE
    }

    fn readable(&self) -> bool {
        false
    }

    fn is_background(&self) -> bool {
        true
    }

    fn update_deadline(&mut self, cx: &Context) -> Option<Instant> {
        let now = cx.clock();
        let at = self.at.filter(|at| *at > now).unwrap_or(now + Duration::from_millis(50));
        self.at = Some(at);
        Some(at)
    }

    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        let channels = cx.channels();
        let open = channels.iter().filter(|channel| channel.type_name.contains("Stream"));
        let unsent = open.clone().map(|channel| channel.unsent).max().unwrap_or(0);
        let count = open.count();
        assert!(count <= self.max_connections, "{count} connections");
        assert!(unsent <= MAX_UNSENT, "{unsent} bytes unsent");
        self.most.set(count.max(self.most.get()));
        Ok(())
    }
}

/// What goes before the data of a peer.
enum Security {
    Plain,
    Proxied,
    Tls(tls::Client, Vec<String>),
}

/// A server of this world, and what it is to keep to.
struct World {
    server: MachineId,
    /// What the program's last start has set up.
    program: Rc<RefCell<Option<Server>>>,
    starts: Rc<Cell<u32>>,
    drain_timeout: Duration,
    is_limited: bool,
    seen: AllSeen,
}

/// Starts a server with random options, and clients that connect within 30 seconds.
fn start(sim: &mut Sim, security: &'static Security) -> Result<World, Box<dyn std::error::Error>> {
    let mut args = vec!["echo-server".to_owned(), "10.0.0.1:7".to_owned(), "--quiet".to_owned()];
    let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
    let max_connections = match sim.choose(3) {
        0 => usize::MAX,
        _ => usize::try_from(2 + sim.choose(6))?,
    };
    if max_connections != usize::MAX {
        option("--max-connections", max_connections.to_string());
    }
    if sim.choose(2) == 0 {
        option("--idle-timeout", format!("{}s", 3 + sim.choose(20)));
    }
    option("--stall-timeout", format!("{}s", 1 + sim.choose(30)));
    let drain_timeout = Duration::from_millis(500 * sim.choose(20));
    option("--drain-timeout", format!("{}ms", drain_timeout.as_millis()));
    match security {
        Security::Plain => {}
        Security::Proxied => {
            args.extend(["--proxy-protocol", "--proxy-from", "10.0.0.0/8"].map(str::to_owned));
        }
        Security::Tls(_, files) => args.extend_from_slice(files),
    }
    let options = Options::try_parse_from(args)?;

    let (program, starts) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)));
    let (kept, counted) = (Rc::clone(&program), Rc::clone(&starts));
    let most = Rc::new(Cell::new(0));
    let server = sim.machine("echo-server", [10, 0, 0, 1], move |reactor| {
        counted.set(counted.get() + 1);
        let watch = Watch { max_connections, most: Rc::clone(&most), at: None };
        reactor.add(watch)?;
        let server = Server::setup(reactor, &options).map_err(io::Error::other)?;
        *kept.borrow_mut() = Some(server);
        Ok(())
    })?;
    sim.allow_crashes(server);

    let all = AllSeen::default();
    for client in 2..8 {
        let plans: Vec<_> = (0..3).map(|_| [(); 6].map(|()| sim.choose(u64::MAX))).collect();
        let all = Rc::clone(&all);
        let machine =
            sim.machine(&format!("client {client}"), [10, 0, 0, client], move |reactor| {
                for &plan in &plans {
                    let (after, peer) = peer(plan, security);
                    all.borrow_mut().push(Rc::clone(&peer.seen));
                    connect_later(reactor, after, peer, security);
                }
                Ok(())
            })?;
        sim.allow_crashes(machine);
    }
    let is_limited = max_connections != usize::MAX;
    Ok(World { server, program, starts, drain_timeout, is_limited, seen: all })
}

/// Returns a peer that does what the numbers say, and when it starts.
fn peer(
    [starts, habit, len, thinks, header, cut]: [u64; 6],
    security: &Security,
) -> (Duration, Peer) {
    let number = |number: u64, end: u64| usize::try_from(number % end).unwrap();
    let (preface, is_whole) = match security {
        Security::Proxied => proxy_header(header, cut),
        _ => (Vec::new(), true),
    };
    // What follows a part of a header would be taken for the rest of it.
    let habit = if is_whole { HABITS[number(habit, 8)] } else { Habit::Silent };
    let data = Rc::new(pattern(number(len, 150_000)));
    let thinks = Duration::from_millis([0, 0, 30, 900][number(thinks, 4)]);
    let seen = Rc::new(RefCell::new(Seen::new(habit, data.len())));
    (Duration::from_millis(starts % 30_000), Peer { habit, preface, data, thinks, seen })
}

/// Returns a header of the PROXY protocol, of version 1 or 2, a wrong one, or a part of one;
/// and `false` for a part.
fn proxy_header(kind: u64, cut: u64) -> (Vec<u8>, bool) {
    let v1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 7\r\n".to_vec();
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x0f\xa0\0\x07".to_vec();
    match kind % 8 {
        0..=2 => (v1, true),
        3..=5 => (v2, true),
        6 => (b"GET / HTTP/1.0\r\n\r\n".to_vec(), true),
        _ => {
            let len = usize::try_from(cut % 28).unwrap();
            (v2[..len].to_vec(), false)
        }
    }
}

fn connect_later(reactor: &mut Reactor, after: Duration, peer: Peer, security: &'static Security) {
    // It never learns that a silent server has lost power.
    let limits = Limits { idle_timeout: Some(120 * SECOND), ..Limits::default() };
    reactor.context().call_later(after, move |cx| {
        let stream = Stream::connect([server_addr()], peer).with_limits(limits);
        let stream = match security {
            Security::Tls(client, _) => client.connect(stream, "localhost").unwrap(),
            _ => stream,
        };
        // It fails only if the loop ends.
        let _ = cx.add(stream);
    });
}

fn scenario(sim: &mut Sim, security: &'static Security) -> ScenarioResult {
    LOG.take();
    let latency = Duration::from_millis(sim.choose(100));
    let buffer = 4096 + usize::try_from(sim.choose(60_000))?;
    sim.set_link(Link::default().with_latency(latency, latency).with_buffers(buffer, buffer));
    let faults = if sim.choose(8) == 0 { Faults::none() } else { Faults::of_streams() };
    sim.set_faults(faults.clone());
    let world = start(sim, security)?;
    let before = Duration::from_secs(5 + sim.choose(35));
    sim.chaos(before)?;

    // In mid-traffic: the server runs, and has until its deadline, whatever happens to the
    // network.
    let starts = world.starts.get();
    sim.set_faults(faults.without(Fault::Pause).without(Fault::Crash));
    sim.signal(world.server, SIGTERM);
    let is_impatient = sim.choose(8) == 0;
    if is_impatient {
        sim.run(world.drain_timeout / 2)?;
        if !sim.has_ended(world.server) {
            sim.signal(world.server, SIGTERM);
            sim.run(Duration::ZERO)?;
        }
    } else {
        sim.run(world.drain_timeout)?;
    }
    if !sim.has_ended(world.server) || world.starts.get() != starts {
        return Err("the drain has not ended at its deadline".into());
    }
    let program = world.program.take().ok_or("there is no program")?;
    match program.finish() {
        Ok(()) => sim.note("drained"),
        Err(error) if is_impatient && error.to_string().contains("second signal") => {
            sim.note("ended by a second signal");
        }
        Err(error) => return Err(error.to_string().into()),
    }
    sim.calm()?;
    sim.rest(Duration::from_secs(3600))?;

    // Why it ended a connection that was not disturbed, and what it had not sent.
    let losses = |line: &String| line.contains(": closed by the peer, ");
    if let Some(loss) = LOG.with_borrow(|lines| lines.iter().find(|line| losses(line)).cloned()) {
        return Err(loss.into());
    }
    for seen in &*world.seen.borrow() {
        let seen = seen.borrow();
        check_peer(sim, &world, &seen).map_err(|problem| format!("{problem}: {seen:?}"))?;
    }
    Ok(())
}

fn check_peer(sim: &mut Sim, world: &World, seen: &Seen) -> Result<(), &'static str> {
    let [reason] = &seen.closed[..] else {
        // A client that loses power before it starts to connect never does.
        let is_unused = seen.closed.is_empty() && seen.connected == 0;
        return if is_unused { Ok(()) } else { Err("not closed once") };
    };
    if seen.connected > 1 {
        return Err("connected more than once");
    }
    // What shutdown(2) says where a connection is lost.
    if reason.starts_with("Transport endpoint is not connected") {
        return Err("the cause of its end is unknown");
    }
    let is_complete = seen.received == seen.len;
    if seen.habit == Habit::Finishes && seen.is_local && !is_complete {
        return Err("closed early");
    }
    // The server ends no connection in an orderly way before everything has come back, but
    // those that it does not serve.
    let is_rejected = world.is_limited && seen.received == 0;
    if seen.eof && !is_rejected && !(seen.habit == Habit::HalfCloses && is_complete) {
        return Err("the end came before all bytes");
    }
    let reason = reason.split(',').next().unwrap_or_default();
    sim.note(match (seen.connected, is_complete) {
        (0, _) => "not connected",
        (_, true) => "complete",
        _ if seen.eof => "rejected",
        _ => reason,
    });
    Ok(())
}

fn start_log() {
    // Another test may have been faster.
    let _ = log::set_logger(&ServerLog);
    log::set_max_level(log::LevelFilter::Debug);
}

#[test]
fn echo_server_drains_in_mid_traffic() {
    start_log();
    check(0..100, |sim| scenario(sim, &Security::Plain));
}

#[test]
fn echo_server_behind_a_proxy_drains_in_mid_traffic() {
    start_log();
    check(0..100, |sim| scenario(sim, &Security::Proxied));
}

/// Two runs of a seed differ: *ring* takes key shares and signatures from the system's random
/// numbers, and rustls does not let a program replace them.
#[test]
fn echo_server_with_tls_drains_in_mid_traffic() {
    start_log();
    let authority = Authority::new();
    let files = authority.issue("server");
    let ca = tls::ClientFiles { ca: Some(authority.ca()), ..tls::ClientFiles::default() };
    let client = tls::Client::from_files(&ca).unwrap();
    let args =
        ["--tls-cert", files.cert.to_str().unwrap(), "--tls-key", files.key.to_str().unwrap()];
    let security = Security::Tls(client, args.map(str::to_owned).to_vec());
    // Machines keep it for as long as they exist.
    let security: &'static Security = Box::leak(Box::new(security));
    let summary = run_seeds(0..50, |sim| scenario(sim, security));
    assert!(summary.failures.is_empty(), "{}: {:?}", summary, summary.failures[0]);
    assert!(summary.missing_faults().is_empty(), "{summary}");
}
