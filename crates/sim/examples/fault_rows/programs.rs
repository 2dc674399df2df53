//! What goes wrong with a whole program: echo-server, set up from its command line.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use echo_server::{Options, Server};
use reactor::signal::{SIGHUP, SIGINT, SIGTERM};
use reactor::{CloseReason, Io, Limits, Listener, Protocol, Stream};
use sim::{Fault, Faults, MachineId, Sim};

use crate::certificates::Certificates;
use crate::common::{LATENCY, Log, On, Probe, SECOND, passive, pattern, server_addr};
use crate::support::{
    Peer, Shared, Talk, add_peers, add_stream, add_stream_with, all_served, choose, choose_byte,
    none_delayed, open_channels, rest, up_to,
};

/// Adds echo-server with some arguments.
fn add_server(sim: &mut Sim, args: &[&str]) -> anyhow::Result<(MachineId, Shared<Option<Server>>)> {
    let args = [&["echo-server", "10.0.0.1:7", "--quiet"], args].concat();
    let options = Options::try_parse_from(args)?;
    let server = Shared::<Option<Server>>::default();
    let kept = Rc::clone(&server);
    let machine = sim.machine("echo-server", [10, 0, 0, 1], move |reactor| {
        let server = Server::setup(reactor, &options).map_err(io::Error::other)?;
        kept.replace(Some(server));
        Ok(())
    })?;
    Ok((machine, server))
}

fn finish(server: &Shared<Option<Server>>) -> anyhow::Result<()> {
    server.take().map_or_else(|| anyhow::bail!("there is no program"), Server::finish)
}

/// SIGTERM while peers talk: those that are connected finish, and those in the queue too.
pub(crate) fn drain_under_load(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_faults(Faults::none().with(Fault::ShortRead, 200_000).with(Fault::Spurious, 50_000));
    let (machine, server) = add_server(sim, &["--drain-timeout", "5s"])?;
    let mut peers = add_peers(sim, 2..8, 2 * SECOND)?;
    sim.run(SECOND / 10)?;
    // From here on the server cannot accept, and those that connect wait in its queue.
    sim.set_descriptor_limit(machine, 1);
    let at = up_to(sim, SECOND);
    for number in 10..20 {
        let starts = (at + up_to(sim, 4 * LATENCY)).saturating_sub(5 * LATENCY);
        let (peer, seen) = Peer::new(Talk { starts, pieces: 3, len: 100, pause: LATENCY });
        add_stream(sim, number, starts, Limits::default(), peer)?;
        peers.push(seen);
    }
    sim.run(at)?;
    sim.set_descriptor_limit(machine, 1000);
    let signal = [SIGTERM, SIGINT][choose(sim, 2)];
    let now = sim.with_reactor(machine, |reactor| reactor.context().clock());
    // Those that were connected a moment before are in the queue.
    let is_queued = |seen: &crate::support::Seen| {
        seen.connected_at.zip(now).is_some_and(|(connected, now)| connected + LATENCY < now)
    };
    let (queued, late): (Vec<_>, Vec<_>) =
        peers.into_iter().partition(|peer| is_queued(&peer.borrow()));
    sim.signal(machine, signal);
    sim.run(5 * SECOND)?;
    ensure!(sim.has_ended(machine), "the server has not ended at its deadline");
    finish(&server)?;
    rest(sim)?;
    all_served(&queued)?;
    for peer in late {
        let seen = peer.borrow();
        let reason = seen.closed.as_deref().unwrap_or_default();
        let is_refused = reason.contains("refused") || reason.contains("reset");
        ensure!(seen.is_complete || (is_refused && seen.received == 0), "{seen:?}");
    }
    Ok(())
}

/// A peer that never ends delays the end until the deadline; a second signal ends at once.
pub(crate) fn second_signal(sim: &mut Sim) -> anyhow::Result<()> {
    let timeout = SECOND + up_to(sim, 10 * SECOND);
    let text = format!("{}ms", timeout.as_millis());
    let timeout = Duration::from_millis(u64::try_from(timeout.as_millis())?);
    let (machine, server) = add_server(sim, &["--drain-timeout", &text])?;
    let log = Log::new();
    let stuck = Probe::new("stuck", &log, |on, io| match on {
        On::Connect => {
            io.pause();
            io.send(&pattern(400_000))
        }
        _ => Ok(()),
    });
    add_stream(sim, 2, Duration::ZERO, Limits::default(), stuck)?;
    sim.run(SECOND)?;
    sim.signal(machine, SIGTERM);
    let moment = Duration::from_millis(1);
    let before = timeout.saturating_sub(moment);
    if sim.choose(2) == 0 {
        sim.run(before)?;
        ensure!(!sim.has_ended(machine), "it ended before its deadline");
        sim.run(moment)?;
        ensure!(sim.has_ended(machine), "it has not ended at its deadline");
        finish(&server)?;
    } else {
        let time = up_to(sim, before);
        sim.run(time)?;
        ensure!(!sim.has_ended(machine), "it ended before its deadline");
        sim.signal(machine, SIGINT);
        sim.run(Duration::ZERO)?;
        ensure!(sim.has_ended(machine), "it has not ended at once");
        let error = finish(&server).err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.starts_with("terminated by a second signal"), "{error}");
    }
    rest(sim)?;
    ensure!(log.count("stuck closed: Connection reset by peer") == 1, "{:?}", log.lines());
    Ok(())
}

/// Options at their limits serve as others do.
pub(crate) fn extreme_options(sim: &mut Sim) -> anyhow::Result<()> {
    let extremes: [&[&str]; 6] = [
        &["--idle-timeout", "584y", "--stall-timeout", "584y"],
        &["--drain-timeout", "584y"],
        &["--max-connections", "18446744073709551615"],
        &["--stall-timeout", "1ns"],
        &["--handshake-timeout", "1ns"],
        &["--drain-timeout", "0s"],
    ];
    let chosen = extremes[choose(sim, 6)];
    let (machine, server) = add_server(sim, chosen)?;
    let peers = add_peers(sim, 2..5, SECOND)?;
    sim.run(20 * SECOND)?;
    all_served(&peers)?;
    none_delayed(&peers)?;
    sim.signal(machine, SIGTERM);
    rest(sim)?;
    ensure!(sim.has_ended(machine), "the server has not ended");
    finish(&server)
}

/// A header of the PROXY protocol.
const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 7\r\n";

/// Peers that start a handshake and do not end it are closed at its deadline; others do not
/// notice them.
fn half_open(sim: &mut Sim, args: &[&str], start: &'static [u8]) -> anyhow::Result<()> {
    let timeout = SECOND + up_to(sim, 9 * SECOND);
    let text = format!("{}ms", timeout.as_millis());
    let timeout = Duration::from_millis(u64::try_from(timeout.as_millis())?);
    let args = [args, &["--handshake-timeout", &text]].concat();
    let (machine, server) = add_server(sim, &args)?;
    let log = Log::new();
    for number in 2..12 {
        let len = choose(sim, start.len() as u64);
        let every = timeout / 8;
        let mut sent = 0;
        let peer = Probe::new("slow", &log, move |on, io| match on {
            // One byte after the other does not help.
            On::Connect | On::Timer if sent < len => {
                sent += 1;
                io.set_timer(every);
                io.send(&start[sent - 1..sent])
            }
            On::Eof => panic!("the end, and not a reset"),
            _ => Ok(()),
        });
        let starts = up_to(sim, SECOND);
        add_stream(sim, number, starts, Limits::default(), peer)?;
    }
    sim.run(timeout + 2 * SECOND)?;
    ensure!(open_channels(sim, machine) <= 3, "a connection is left");
    ensure!(log.count("slow closed: Connection reset by peer") == 10, "{:?}", log.lines());
    let took = log.between("slow connected", "slow closed");
    // From accept(2), one latency later, and the reset takes another.
    ensure!(took == timeout + 2 * LATENCY, "closed after {took:?}, of {timeout:?}");
    sim.signal(machine, SIGTERM);
    rest(sim)?;
    finish(&server)
}

pub(crate) fn half_open_tls(sim: &mut Sim) -> anyhow::Result<()> {
    half_open(
        sim,
        &Certificates::get().server_args(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    )
}

pub(crate) fn slow_proxy_header(sim: &mut Sim) -> anyhow::Result<()> {
    half_open(sim, &["--proxy-protocol", "--proxy-from", "10.0.0.0/8"], HEADER)
}

/// Sends `data`, and collects what comes back.
fn talk(sim: &mut Sim, number: u8, data: Vec<u8>) -> anyhow::Result<Log> {
    let log = Log::new();
    let peer = Probe::new("peer", &log, move |on, io| match on {
        On::Connect => {
            io.set_timer(20 * SECOND);
            io.send(&data)
        }
        On::Timer => io.shutdown(),
        on => passive(on, io),
    });
    add_stream(sim, number, Duration::ZERO, Limits::default(), peer)?;
    Ok(log)
}

/// Random bytes, and what is no TLS: an alert, and a reset or an end; others are served.
pub(crate) fn no_tls(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_faults(Faults::none().with(Fault::ShortRead, 500_000));
    let (machine, server) = add_server(sim, &Certificates::get().server_args())?;
    let garbage = (0..=sim.choose(3000)).map(|_| choose_byte(sim, 256)).collect();
    let data = match sim.choose(3) {
        0 => garbage,
        // The start of a handshake, and then garbage.
        1 => [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), garbage].concat(),
        _ => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
    };
    let log = talk(sim, 2, data)?;
    sim.run(40 * SECOND)?;
    ensure!(log.count("peer closed") == 1, "{:?}", log.lines());
    let back = log.received("peer");
    // An alert, which is not encrypted: two bytes.
    let is_alert = back.len() == 7 && back.starts_with(&[21, 3]);
    ensure!(back.is_empty() || is_alert, "{back:?}");
    sim.note(if is_alert { "alert" } else { "no alert: incomplete" });
    sim.signal(machine, SIGTERM);
    rest(sim)?;
    finish(&server)
}

/// A header that is wrong, in random places, or missing is rejected; a whole one is served.
pub(crate) fn wrong_proxy_header(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_faults(Faults::none().with(Fault::ShortRead, 700_000));
    let args = ["--proxy-protocol", "--proxy-from", "10.0.0.0/8"];
    let (machine, server) = add_server(sim, &args)?;
    let mut wrong = HEADER.to_vec();
    match sim.choose(3) {
        0 => {
            let at = choose(sim, 6);
            wrong[at] = wrong[at].wrapping_add(1 + choose_byte(sim, 255));
        }
        1 => wrong = b"hello\r\n".to_vec(),
        _ => wrong = vec![b'P'; 200],
    }
    let rejected = talk(sim, 2, [&wrong, &b"data"[..]].concat())?;
    let served = talk(sim, 3, [HEADER, b"data"].concat())?;
    sim.run(40 * SECOND)?;
    ensure!(rejected.received("peer").is_empty(), "{:?}", rejected.lines());
    ensure!(rejected.has("peer closed: Connection reset by peer"), "{:?}", rejected.lines());
    ensure!(served.received("peer") == b"data", "{:?}", served.lines());
    ensure!(served.has("peer closed: closed by the peer"), "{:?}", served.lines());
    sim.signal(machine, SIGTERM);
    rest(sim)?;
    finish(&server)
}

/// A header from a machine that is no proxy is not read.
pub(crate) fn untrusted_proxy(sim: &mut Sim) -> anyhow::Result<()> {
    let trusted = 2 + u8::try_from(sim.choose(8))?;
    let network = format!("10.0.0.{trusted}");
    let (machine, server) = add_server(sim, &["--proxy-protocol", "--proxy-from", &network])?;
    let mut logs = Vec::new();
    for number in 2..10 {
        logs.push((number, talk(sim, number, [HEADER, b"data"].concat())?));
    }
    sim.run(40 * SECOND)?;
    for (number, log) in logs {
        let is_served = log.received("peer") == b"data";
        ensure!(is_served == (number == trusted), "{number} of {trusted}: {:?}", log.lines());
    }
    sim.signal(machine, SIGTERM);
    rest(sim)?;
    finish(&server)
}

/// Random bytes to a server with headers, and to one with headers and TLS.
pub(crate) fn random_input(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_faults(Faults::none().with(Fault::ShortRead, 300_000));
    let mut args = vec!["--proxy-protocol", "--proxy-from", "10.0.0.0/8"];
    if sim.choose(2) == 0 {
        args.extend(Certificates::get().server_args());
    }
    let (machine, server) = add_server(sim, &args)?;
    for number in 2..6 {
        let starts: [&[u8]; 3] = [b"", HEADER, b"\r\n\r\n\0\r\nQUIT\n"];
        let start = starts[choose(sim, 3)];
        let random: Vec<_> = (0..sim.choose(2000)).map(|_| choose_byte(sim, 256)).collect();
        talk(sim, number, [start, &random].concat())?;
    }
    // Its callbacks do not panic: that would be a failure.
    sim.run(60 * SECOND)?;
    sim.signal(machine, SIGTERM);
    rest(sim)?;
    ensure!(sim.has_ended(machine), "the server has not ended");
    finish(&server)
}

fn encrypt<P: Protocol>(stream: Stream<P>) -> Stream<P> {
    Certificates::get().client.connect(stream, "localhost").expect("`localhost` is a name")
}

/// Sends pieces through TLS, each when the last has come back, and closes.
fn add_tls_peers(
    sim: &mut Sim,
    numbers: std::ops::Range<u8>,
) -> anyhow::Result<Vec<Shared<crate::support::Seen>>> {
    let mut all = Vec::new();
    for number in numbers {
        let talk = Talk::random(sim, SECOND);
        let (peer, seen) = Peer::new(talk);
        add_stream_with(sim, number, talk.starts, peer, encrypt)?;
        all.push(seen);
    }
    Ok(all)
}

/// TLS, byte by byte; and new certificates meanwhile, which disconnect nobody.
pub(crate) fn tls_byte_by_byte(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_faults(Faults::none().with(Fault::ShortRead, 900_000).with(Fault::ShortWrite, 500_000));
    let (machine, server) = add_server(sim, &Certificates::get().server_args())?;
    let mut peers = add_tls_peers(sim, 2..4)?;
    let time = up_to(sim, SECOND);
    sim.run(time)?;
    sim.signal(machine, SIGHUP);
    sim.run(LATENCY)?;
    peers.extend(add_tls_peers(sim, 4..5)?);
    sim.run(60 * SECOND)?;
    all_served(&peers)?;
    sim.signal(machine, SIGTERM);
    rest(sim)?;
    finish(&server)
}

/// A TLS connection is cut off, without its end: that has a cause of its own.
pub(crate) fn tls_cut_off(sim: &mut Sim) -> anyhow::Result<()> {
    // The server ends the connection below TLS, after some bytes.
    let cut_after = 1 + choose(sim, 3000);
    let server = Certificates::get().server.clone();
    sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let server = server.clone();
        let accept = move |_: &_| Ok(Relay { to: None, passed: 0, cut_after });
        reactor.add(Listener::bind(server_addr(), accept)?)?;
        let inner = Listener::bind(crate::support::server_port(8), |_| Ok(Greets))?;
        reactor.add(server.listen(inner)).map(drop)
    })?;
    let log = Log::new();
    let peer = Probe::new("peer", &log, |_, _| Ok(()));
    add_stream_with(sim, 2, Duration::ZERO, peer, encrypt)?;
    sim.run(20 * SECOND)?;
    let lines = log.lines();
    let end = lines.last().map(String::as_str).unwrap_or_default();
    let is_handshake = end.ends_with("the peer closed the connection during the TLS handshake");
    ensure!(end.starts_with("peer closed: truncated") || is_handshake, "{lines:?}");
    sim.note(if is_handshake { "in the handshake" } else { "truncated" });
    ensure!(!log.has("eof"), "{lines:?}");
    Ok(())
}

/// Sends much, and does not end.
struct Greets;

impl Protocol for Greets {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.send(&pattern(10_000))
    }

    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Passes bytes on between a peer and the server behind it, until it ends its output.
struct Relay {
    to: Option<reactor::Token>,
    passed: usize,
    cut_after: usize,
}

struct Behind(reactor::Token);

impl Protocol for Relay {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let behind = Stream::connect([crate::support::server_port(8)], Behind(io.token()));
        self.to = Some(io.context().add(behind)?);
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let Some(to) = self.to else { return Ok(()) };
        io.context().with_stream(to, |_: &mut Behind, io| io.send(data)).unwrap_or(Ok(()))
    }
}

impl Protocol for Behind {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let relayed = io.context().with_stream(self.0, |relay: &mut Relay, io| {
            let len = data.len().min(relay.cut_after - relay.passed);
            relay.passed += len;
            // It has ended its output already.
            let _ = io.send(&data[..len]);
            if relay.passed == relay.cut_after { io.shutdown() } else { Ok(()) }
        });
        relayed.unwrap_or(Ok(()))
    }

    fn handle_close(&mut self, _: &mut Io<'_>, _: &CloseReason) {}
}
