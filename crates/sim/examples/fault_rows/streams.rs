//! What goes wrong with connections, and what peers do to each other.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use reactor::{CloseReason, Io, Limits, Listener, Protocol, TimerId};
use sim::{Fault, Faults, Link, Sim};

use crate::accept::count_in_turn;
use crate::common::{LATENCY, Log, On, Probe, SECOND, echo, passive, pattern, server_addr};
use crate::support::{
    Shared, Talk, add_echo, add_peer, add_peers, add_stream, all_served, choose, none_delayed,
    open_channels, rest, stats, up_to,
};

/// Sends `len` bytes, and reads what comes back with pauses.
struct Upload {
    len: usize,
    sent: usize,
    /// Ends its output when all is sent; otherwise it closes when all has come back.
    half_closes: bool,
    thinks: Duration,
    result: Shared<UploadResult>,
}

#[derive(Debug, Default)]
struct UploadResult {
    received: usize,
    eof: bool,
    closed: Option<String>,
}

impl Protocol for Upload {
    fn writable(&self) -> bool {
        self.sent < self.len
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let end = self.len.min(self.sent + 10_000);
        io.send(&pattern(self.len)[self.sent..end])?;
        self.sent = end;
        if end == self.len && self.half_closes {
            io.shutdown()?;
        }
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let mut result = self.result.borrow_mut();
        assert!(pattern(self.len)[result.received..].starts_with(data), "other bytes");
        result.received += data.len();
        if result.received == self.len && !self.half_closes {
            io.close();
        } else if !self.thinks.is_zero() {
            io.pause();
            io.set_timer(self.thinks);
        }
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        io.resume();
        Ok(())
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.result.borrow_mut().eof = true;
        io.close();
        Ok(())
    }

    fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
        self.result.borrow_mut().closed = Some(reason.to_string());
    }
}

/// Adds a peer that is echoed up to `max` bytes, and checks at the end that it was.
fn upload(
    sim: &mut Sim,
    max: u64,
    half_closes: bool,
) -> anyhow::Result<impl Fn() -> anyhow::Result<()> + use<>> {
    let len = 1 + choose(sim, max);
    let thinks = Duration::from_millis(sim.choose(3) * 30);
    let result = Shared::<UploadResult>::default();
    let upload = Upload { len, sent: 0, half_closes, thinks, result: Rc::clone(&result) };
    let limits = Limits { stall_timeout: None, ..Limits::default() };
    add_stream(sim, 99, Duration::ZERO, limits, upload)?;
    Ok(move || {
        let result = result.borrow();
        ensure!(result.received == len && result.eof == half_closes, "of {len}: {result:?}");
        let expected = if half_closes { "closed by the peer" } else { "closed" };
        ensure!(result.closed.as_deref() == Some(expected), "{result:?}");
        Ok(())
    })
}

/// Every second call is interrupted.
pub(crate) fn interrupted(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_faults(Faults::none().with(Fault::Interrupt, 500_000));
    add_echo(sim, |listener| listener)?;
    let check = upload(sim, 100_000, false)?;
    let peers = add_peers(sim, 2..5, SECOND)?;
    rest(sim)?;
    all_served(&peers)?;
    check()
}

/// Peers reset their connections while both ends send.
pub(crate) fn resets(sim: &mut Sim) -> anyhow::Result<()> {
    let server = add_echo(sim, |listener| listener)?;
    let log = Log::new();
    for number in 10..16 {
        let aborts_at = 1 + choose(sim, 40_000);
        let mut received = 0;
        let resetting = Probe::new("resetting", &log, move |on, io| match on {
            On::Connect => io.send(&pattern(50_000)),
            On::Read(data) => {
                received += data.len();
                if received >= aborts_at {
                    io.abort();
                }
                Ok(())
            }
            on => passive(on, io),
        });
        let starts = up_to(sim, SECOND);
        add_stream(sim, number, starts, Limits::default(), resetting)?;
    }
    let check = upload(sim, 100_000, false)?;
    let peers = add_peers(sim, 2..5, SECOND)?;
    rest(sim)?;
    all_served(&peers)?;
    none_delayed(&peers)?;
    ensure!(open_channels(sim, server) == 1, "a channel is left");
    check()
}

/// A peer ends its output before it has read anything.
pub(crate) fn half_close(sim: &mut Sim) -> anyhow::Result<()> {
    let buffer = 4096 + choose(sim, 30_000);
    sim.set_link(Link::default().with_latency(LATENCY, LATENCY).with_buffers(buffer, buffer));
    sim.set_faults(Faults::none().with(Fault::ShortWrite, 300_000).with(Fault::Spurious, 50_000));
    add_echo(sim, |listener| listener)?;
    let check = upload(sim, 200_000, true)?;
    rest(sim)?;
    check()
}

/// The peer is gone, and the server continues to write.
pub(crate) fn peer_gone(sim: &mut Sim) -> anyhow::Result<()> {
    let log = Log::new();
    let noted = log.clone();
    let (every, len) = (1 + sim.choose(10_000), 1 + sim.choose(5000));
    let len = usize::try_from(len)?;
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let log = noted.clone();
        let accept = move |_: &_| {
            Ok(Probe::new("server", &log, move |on, io| match on {
                On::Connect | On::Timer => {
                    io.set_timer(Duration::from_micros(every));
                    match io.send(&pattern(len)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                        result => result,
                    }
                }
                // Half-closed: it may still read.
                _ => Ok(()),
            }))
        };
        reactor.add(Listener::bind(server_addr(), accept)?).map(drop)
    })?;
    let gone = Probe::new("peer", &log, |_, _| Ok(()));
    let machine = add_stream(sim, 2, Duration::ZERO, Limits::default(), gone)?;
    let time = up_to(sim, SECOND / 2);
    sim.run(time)?;
    sim.kill(machine);
    sim.run(SECOND)?;
    let ends = log.lines().into_iter().filter(|line| line.starts_with("server closed"));
    let ends: Vec<_> = ends.collect();
    if log.has("server connected") {
        ensure!(ends.len() == 1, "{ends:?}");
        let is_loss = ends[0].contains("Broken pipe") || ends[0].contains("reset by peer");
        ensure!(is_loss, "{ends:?}");
    }
    ensure!(open_channels(sim, server) == 1, "a channel is left");
    Ok(())
}

/// Small buffers, and a system that takes a part of each write.
pub(crate) fn partial_writes(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_link(Link::default().with_latency(LATENCY, LATENCY).with_buffers(4096, 4096));
    sim.set_faults(Faults::none().with(Fault::ShortWrite, 700_000).with(Fault::ShortRead, 300_000));
    add_echo(sim, |listener| {
        listener.with_limits(Limits { stall_timeout: None, ..Limits::default() })
    })?;
    let check = upload(sim, 40_000, false)?;
    rest(sim)?;
    check()
}

/// Peers send all they can, and read nothing.
pub(crate) fn never_reads(sim: &mut Sim) -> anyhow::Result<()> {
    const MAX: usize = 128 * 1024;
    let stall_timeout = SECOND + up_to(sim, 5 * SECOND);
    let limits = Limits { stall_timeout: Some(stall_timeout), ..Limits::default() };
    let log = Log::new();
    let noted = log.clone();
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let log = noted.clone();
        let accept = move |_: &_| Ok(Probe::new("server", &log, echo));
        reactor.add(Listener::bind(server_addr(), accept)?.with_limits(limits)).map(drop)
    })?;
    let len = 300_000 + choose(sim, 100_000);
    let greedy = Probe::new("greedy", &log, move |on, io| {
        if on == On::Connect {
            io.pause();
            io.send(&pattern(len))?;
        }
        Ok(())
    });
    let patient = Limits { stall_timeout: None, ..Limits::default() };
    add_stream(sim, 2, Duration::ZERO, patient, greedy)?;
    let peers = add_peers(sim, 3..5, SECOND)?;
    // The last progress is within the first second.
    for _ in 0..20 {
        sim.run(SECOND / 20)?;
        let unsent = sim.with_reactor(server, |reactor| {
            reactor.context().channels().iter().map(|channel| channel.unsent).max()
        });
        ensure!(unsent.flatten().is_some_and(|unsent| unsent <= MAX), "{unsent:?} unsent");
    }
    rest(sim)?;
    all_served(&peers)?;
    none_delayed(&peers)?;
    ensure!(log.has("server closed: timed out: stall timeout"), "{:?}", log.lines());
    let took = log.between("server connected", "server closed: timed out");
    ensure!((stall_timeout..stall_timeout + SECOND).contains(&took), "{took:?}");
    Ok(())
}

/// Silent peers are closed at the idle deadline, slow ones are not.
pub(crate) fn slow_and_silent(sim: &mut Sim) -> anyhow::Result<()> {
    let idle_timeout = SECOND + up_to(sim, 2 * SECOND);
    let limits = Limits { idle_timeout: Some(idle_timeout), ..Limits::default() };
    add_echo(sim, move |listener| listener.with_limits(limits))?;
    let log = Log::new();
    for number in 10..14 {
        let silent = Probe::new("silent", &log, |_, _| Ok(()));
        let starts = up_to(sim, SECOND);
        add_stream(sim, number, starts, Limits::default(), silent)?;
    }
    // A byte just before each deadline.
    let pause = idle_timeout.saturating_sub(5 * LATENCY);
    let talk = Talk { starts: Duration::ZERO, pieces: 8, len: 1, pause };
    let mut peers = vec![add_peer(sim, 20, talk)?];
    peers.extend(add_peers(sim, 2..5, SECOND)?);
    rest(sim)?;
    all_served(&peers)?;
    none_delayed(&peers)?;
    ensure!(log.count("silent closed: Connection reset by peer") == 4, "{:?}", log.lines());
    ensure!(log.between("silent connected", "silent closed") == idle_timeout + 2 * LATENCY);
    Ok(())
}

/// One peer sends as much as it can: in each turn, the server reads a part of it.
pub(crate) fn flooder(sim: &mut Sim) -> anyhow::Result<()> {
    const READ_BUFFER_SIZE: usize = 64 * 1024;
    sim.set_link(
        Link::default().with_latency(LATENCY, Duration::ZERO).with_buffers(1 << 20, 1 << 20),
    );
    let flooded = Rc::new(Cell::new(0));
    let counted = Rc::clone(&flooded);
    sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let counted = Rc::clone(&counted);
        let accept = move |_: &_| Ok(Flooded(Rc::clone(&counted)));
        reactor.add(Listener::bind(server_addr(), accept)?).map(drop)
    })?;
    struct Flooded(Rc<Cell<usize>>);
    impl Protocol for Flooded {
        fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            if data.len() > 1000 {
                // Only the flooder sends so much.
                count_in_turn(io.context(), &self.0, data.len(), READ_BUFFER_SIZE);
                return Ok(());
            }
            io.send(data)
        }
    }
    let len = 200_000 + choose(sim, 500_000);
    let flooder = Probe::new("flooder", &Log::new(), move |on, io| {
        if on == On::Connect {
            io.send(&pattern(len))?;
            io.close();
        }
        Ok(())
    });
    add_stream(sim, 50, Duration::ZERO, Limits::default(), flooder)?;
    let peers = add_peers(sim, 2..8, SECOND / 4)?;
    rest(sim)?;
    all_served(&peers)?;
    none_delayed(&peers)?;
    ensure!(flooded.get() + 1000 >= len, "{} of {len}", flooded.get());
    Ok(())
}

/// A stream wants nothing, and its peer is gone: the loop must not spin.
pub(crate) fn hang_up(sim: &mut Sim) -> anyhow::Result<()> {
    let log = Log::new();
    let noted = log.clone();
    let (pauses, ends) = (sim.choose(2) == 0, sim.choose(2) == 0);
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let log = noted.clone();
        let accept = move |_: &_| {
            Ok(Probe::new("server", &log, move |on, io| {
                if on == On::Connect {
                    if pauses {
                        io.pause();
                    }
                    if ends {
                        io.shutdown()?;
                    }
                }
                // The end of input does not close it.
                Ok(())
            }))
        };
        reactor.add(Listener::bind(server_addr(), accept)?).map(drop)
    })?;
    let aborts = sim.choose(2) == 0;
    let leaves = Probe::new("peer", &log, move |on, io| {
        match on {
            On::Connect => drop(io.set_timer(SECOND)),
            On::Timer if aborts => io.abort(),
            On::Timer => io.close(),
            _ => {}
        }
        Ok(())
    });
    add_stream(sim, 2, Duration::ZERO, Limits::default(), leaves)?;
    sim.run(2 * SECOND)?;
    let before = stats(sim, server)?.turns;
    sim.run(600 * SECOND)?;
    let turns = stats(sim, server)?.turns - before;
    ensure!(turns <= 5, "{turns} turns, although nothing happened");
    if aborts || (ends && !pauses) {
        ensure!(log.count("server closed") == 1, "{:?}", log.lines());
    }
    Ok(())
}

/// A callback panics: that channel is closed, and no other.
pub(crate) fn panics(sim: &mut Sim) -> anyhow::Result<()> {
    sim.allow_panics();
    let log = Log::new();
    let noted = log.clone();
    let which = sim.choose(4);
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let log = noted.clone();
        let accept = move |_: &_| {
            Ok(Probe::new("server", &log, move |on, io| {
                let is_fatal = matches!(on, On::Read(b"panic"));
                assert!(!(is_fatal && which == 0), "in handle_read");
                match on {
                    On::Read(_) if is_fatal && which == 3 => {
                        io.context().call_later(LATENCY, |_| panic!("in a call"));
                        io.close();
                        Ok(())
                    }
                    On::Read(_) if is_fatal => {
                        io.set_timer(LATENCY);
                        Ok(())
                    }
                    On::Timer if which == 1 => panic!("in handle_timer"),
                    On::Timer => {
                        io.shutdown()?;
                        Ok(())
                    }
                    On::Eof if which == 2 && io.peer_addr().to_string().contains("10.0.0.50") => {
                        panic!("in handle_eof")
                    }
                    on => echo(on, io),
                }
            }))
        };
        reactor.add(Listener::bind(server_addr(), accept)?).map(drop)
    })?;
    let bad = Probe::new("bad", &log, |on, io| match on {
        On::Connect => io.send(b"panic"),
        on => passive(on, io),
    });
    let starts = up_to(sim, SECOND / 2);
    add_stream(sim, 50, starts, Limits::default(), bad)?;
    let peers = add_peers(sim, 2..6, SECOND)?;
    rest(sim)?;
    all_served(&peers)?;
    none_delayed(&peers)?;
    ensure!(open_channels(sim, server) == 1, "a channel is left");
    let panicked = usize::from(which < 3);
    ensure!(log.count("server closed: a callback panicked") == panicked, "{:?}", log.lines());
    Ok(())
}
