//! Helpers: an echo server, and peers that behave, which must not notice what others do.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use reactor::{ChannelInfo, CloseReason, Io, Limits, Listener, Protocol, Reactor, Stream, TimerId};
use sim::{MachineId, Sim, SimError};

use crate::common::{LATENCY, SECOND, pattern, server_addr};

pub(crate) type Shared<T> = Rc<RefCell<T>>;

/// How a peer that behaves talks to the server: it sends pieces, each when the one before has
/// come back and it has paused, and then closes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    pub(crate) starts: Duration,
    pub(crate) pieces: usize,
    pub(crate) len: usize,
    pub(crate) pause: Duration,
}

impl Talk {
    /// Returns a talk of random length, for about `lasts`.
    pub(crate) fn random(sim: &mut Sim, lasts: Duration) -> Self {
        let pieces = 5 + choose(sim, 20);
        Talk {
            starts: Duration::from_millis(sim.choose(50)),
            pieces,
            len: 1 + choose(sim, 500),
            pause: lasts / u32::try_from(pieces).unwrap_or(1),
        }
    }
}

/// What a peer has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connected_at: Option<Instant>,
    pub(crate) received: usize,
    /// The longest time that a piece took to come back.
    pub(crate) slowest: Duration,
    pub(crate) is_complete: bool,
    pub(crate) closed: Option<String>,
}

/// Checks that all of `peers` received everything, and were not disturbed.
pub(crate) fn all_served(peers: &[Shared<Seen>]) -> anyhow::Result<()> {
    for peer in peers {
        let seen = peer.borrow();
        let is_closed = seen.closed.as_deref() == Some("closed");
        ensure!(seen.is_complete && is_closed, "a peer was not served: {seen:?}");
    }
    Ok(())
}

/// Checks that no piece took longer than a round trip: nobody waited for another peer.
pub(crate) fn none_delayed(peers: &[Shared<Seen>]) -> anyhow::Result<()> {
    for peer in peers {
        let slowest = peer.borrow().slowest;
        ensure!(slowest == 2 * LATENCY, "a piece took {slowest:?} to come back");
    }
    Ok(())
}

pub(crate) struct Peer {
    talk: Talk,
    /// Bytes of the current piece that have not come back, and when it was sent.
    missing: usize,
    sent_at: Option<Instant>,
    seen: Shared<Seen>,
}

impl Peer {
    pub(crate) fn new(talk: Talk) -> (Self, Shared<Seen>) {
        let seen = Shared::<Seen>::default();
        (Peer { talk, missing: 0, sent_at: None, seen: Rc::clone(&seen) }, seen)
    }

    fn speak(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.talk.pieces -= 1;
        self.missing = self.talk.len;
        self.sent_at = Some(io.context().now());
        io.send(&pattern(self.talk.len))
    }
}

impl Protocol for Peer {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.seen.borrow_mut().connected_at = Some(io.context().now());
        self.speak(io)
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let mut seen = self.seen.borrow_mut();
        seen.received += data.len();
        let from = self.talk.len - self.missing;
        assert!(pattern(self.talk.len)[from..].starts_with(data), "other bytes than were sent");
        self.missing -= data.len();
        if self.missing == 0 {
            let took = self.sent_at.map(|at| io.context().now().duration_since(at));
            seen.slowest = seen.slowest.max(took.unwrap_or_default());
            if self.talk.pieces == 0 {
                seen.is_complete = true;
                io.close();
            } else {
                io.set_timer(self.talk.pause);
            }
        }
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        self.speak(io)
    }

    fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
        let previous = self.seen.borrow_mut().closed.replace(reason.to_string());
        assert_eq!(previous, None, "handle_close was called twice");
    }
}

/// Adds a machine with a peer that behaves.
pub(crate) fn add_peer(sim: &mut Sim, number: u8, talk: Talk) -> Result<Shared<Seen>, SimError> {
    let (peer, seen) = Peer::new(talk);
    add_stream(sim, number, talk.starts, Limits::default(), peer)?;
    Ok(seen)
}

/// Adds a machine with peers that behave, and talk for about `lasts`.
pub(crate) fn add_peers(
    sim: &mut Sim,
    numbers: impl IntoIterator<Item = u8>,
    lasts: Duration,
) -> Result<Vec<Shared<Seen>>, SimError> {
    let add = |number| {
        let talk = Talk::random(sim, lasts);
        add_peer(sim, number, talk)
    };
    numbers.into_iter().map(add).collect()
}

/// Adds a machine that connects to [`server_addr`] after a while.
pub(crate) fn add_stream<P: Protocol>(
    sim: &mut Sim,
    number: u8,
    starts: Duration,
    limits: Limits,
    protocol: P,
) -> Result<MachineId, SimError> {
    add_stream_with(sim, number, starts, protocol, move |stream| stream.with_limits(limits))
}

/// The same, but `configure` completes the stream.
pub(crate) fn add_stream_with<P: Protocol>(
    sim: &mut Sim,
    number: u8,
    starts: Duration,
    protocol: P,
    configure: impl Fn(Stream<P>) -> Stream<P> + Copy + 'static,
) -> Result<MachineId, SimError> {
    let mut protocol = Some(protocol);
    sim.machine(&format!("peer {number}"), [10, 0, 0, number], move |reactor| {
        if let Some(protocol) = protocol.take() {
            reactor.context().call_later(starts, move |cx| {
                // It fails only if the loop ends.
                let _ = cx.add(configure(Stream::connect([server_addr()], protocol)));
            });
        }
        Ok(())
    })
}

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// Adds an echo server at [`server_addr`].
pub(crate) fn add_echo(
    sim: &mut Sim,
    configure: impl Fn(Listener) -> Listener + 'static,
) -> Result<MachineId, SimError> {
    sim.machine("server", [10, 0, 0, 1], move |reactor: &mut Reactor| {
        reactor.add(configure(Listener::bind(server_addr(), |_| Ok(Echo))?)).map(drop)
    })
}

/// Returns how many channels the program of a machine has open.
pub(crate) fn open_channels(sim: &mut Sim, machine: MachineId) -> usize {
    sim.with_reactor(machine, |reactor| reactor.context().channels().len()).unwrap_or(0)
}

/// Returns how many of them are streams of a protocol.
pub(crate) fn open_streams(sim: &mut Sim, machine: MachineId) -> usize {
    let channels = sim.with_reactor(machine, |reactor| reactor.context().channels());
    let is_stream = |channel: &&ChannelInfo| channel.type_name.contains("Stream");
    channels.map_or(0, |channels| channels.iter().filter(is_stream).count())
}

/// Returns the counters of a machine's program.
pub(crate) fn stats(sim: &mut Sim, machine: MachineId) -> anyhow::Result<reactor::Stats> {
    let stats = sim.with_reactor(machine, |reactor| reactor.stats().clone());
    stats.ok_or_else(|| anyhow::anyhow!("the program has ended"))
}

/// Returns an address that is as [`server_addr`], but on another port.
pub(crate) fn server_port(port: u16) -> SocketAddr {
    SocketAddr::new(server_addr().ip(), port)
}

/// Returns a random number below `end`.
pub(crate) fn choose(sim: &mut Sim, end: u64) -> usize {
    usize::try_from(sim.choose(end)).unwrap_or(0)
}

/// Returns a random byte below `end`, which is at most 256.
pub(crate) fn choose_byte(sim: &mut Sim, end: u64) -> u8 {
    u8::try_from(sim.choose(end)).unwrap_or(0)
}

/// Returns a random duration up to `max`.
pub(crate) fn up_to(sim: &mut Sim, max: Duration) -> Duration {
    Duration::from_nanos(sim.choose(u64::try_from(max.as_nanos()).unwrap_or(u64::MAX)))
}

/// Runs until everything is at rest.
pub(crate) fn rest(sim: &mut Sim) -> Result<(), SimError> {
    sim.rest(600 * SECOND)
}
