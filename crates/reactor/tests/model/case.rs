//! Runs one schedule, step by step.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Handle, Reactor, Stream};
use socket2::Socket;

use crate::actions::{Reach, act, job, token};
use crate::schedule::{Action, Finale, Op, Schedule, Transport};
use crate::subject::Subject;
use crate::world::{RequiredClose, World, bytes, count, world};

/// A time limit that no step reaches, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// The peer of a channel.
pub(crate) struct Peer(Socket);

impl Peer {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        let socket = Socket::from(socket);
        socket.set_nonblocking(true).unwrap();
        Peer(socket)
    }
}

pub(crate) struct Case {
    /// `None` after the reactor was dropped.
    reactor: Option<Reactor>,
    buffer: Vec<u8>,
}

impl Case {
    /// Runs `schedule`; returns an error if the model does not allow a result.
    pub(crate) fn run(schedule: &Schedule) -> Result<(), String> {
        world(|world| *world = World::default());
        let mut case = Case { reactor: Some(Reactor::new().unwrap()), buffer: vec![0; 64 * 1024] };
        for (number, op) in schedule.ops.iter().enumerate() {
            case.step(op);
            check().map_err(|why| format!("step {number}, {op:?}: {why}"))?;
        }
        case.finish(schedule.finale);
        check().map_err(|why| format!("at the end: {why}"))
    }

    fn reactor(&mut self) -> &mut Reactor {
        self.reactor.as_mut().unwrap()
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Do(action) => {
                // There is no caller that could receive an error.
                let _ = act(&mut Reach::Outside(self.reactor().context()), action);
            }
            Op::Plan(at, on, action) => world(|world| {
                if let Some(id) = world.at(*at) {
                    world.channels[id].plans.push_back((*on, action.clone()));
                }
            }),
            Op::ThreadPost(action) => self.post_from_thread(action.clone()),
            Op::PeerWrites(at, len) => with_peer_at(*at, |id| peer_writes(id, *len)),
            Op::PeerReads(at, len) => with_peer_at(*at, |id| {
                self.peer_reads(id, *len);
            }),
            Op::PeerEnds(at) => with_peer_at(*at, peer_ends),
            Op::PeerDrops(at) => with_peer_at(*at, peer_drops),
            Op::PeerResets(at) => with_peer_at(*at, peer_resets),
            Op::Turn(times) => (0..*times).for_each(|_| self.turn(Duration::ZERO)),
            Op::Wait => self.turn(Duration::from_micros(300)),
            Op::Settle => self.settle(),
            Op::CloseAll => self.close_all(),
        }
    }

    fn turn(&mut self, limit: Duration) {
        let has_work = self.reactor().turn(Some(limit)).unwrap();
        world(|world| world.turned(has_work));
    }

    fn post_from_thread(&mut self, action: Action) {
        let handle = self.reactor().handle();
        let number = world(|world| world.next_post());
        thread_local!(static POSTER: Poster = Poster::new());
        let accepted = POSTER.with(|poster| poster.post(handle, number, action));
        world(|world| world.posted(accepted));
    }

    /// Runs turns until all work is complete.
    fn settle(&mut self) {
        let begin = Instant::now();
        for turn in 0.. {
            self.peers_read();
            // The kernel may not have delivered an event to a peer yet.
            self.turn(if turn < 5 { Duration::ZERO } else { Duration::from_millis(1) });
            if world(|world| !world.faults.is_empty()) {
                return;
            }
            if world(|world| world.is_settled()) {
                break;
            }
            if begin.elapsed() > DEADLINE {
                return world(|world| world.fault(format!("not settled: {}", world.unsettled())));
            }
        }
        if world(|world| world.is_idle()) {
            self.expect_idle();
        }
    }

    /// Checks that nothing wakes the reactor.
    fn expect_idle(&mut self) {
        const QUIET: Duration = Duration::from_millis(1);
        // Kernel events may still be in transit.
        let slept = (0..100).any(|_| {
            let begin = Instant::now();
            self.turn(QUIET);
            begin.elapsed() >= QUIET
        });
        if !slept {
            world(|world| world.fault("the reactor never sleeps"));
        }
    }

    fn close_all(&mut self) {
        world(|world| {
            world
                .channels
                .iter_mut()
                .for_each(|channel| channel.require_close(RequiredClose::Shutdown));
        });
        let known = world(|world| world.channels.len());
        self.reactor().close_all();
        world(|world| {
            if let Some(id) = (0..known).find(|&id| world.is_live(id)) {
                world.fault(format!("channel {id} outlived `close_all`"));
            }
        });
    }

    fn finish(&mut self, finale: Finale) {
        count(format!("finale {finale:?}"));
        match finale {
            Finale::Graceful => self.end_gracefully(),
            Finale::CloseAll => {
                // The last callbacks may add channels.
                while world(|world| (0..world.channels.len()).any(|id| world.is_live(id))) {
                    self.close_all();
                }
            }
            Finale::Drop => {}
        }
        let stats = self.reactor().stats().clone();
        world(|world| {
            world
                .channels
                .iter_mut()
                .for_each(|channel| channel.require_close(RequiredClose::Shutdown));
            world.ended = true;
        });
        self.reactor = None;
        world(|world| {
            let live = (0..world.channels.len()).find(|&id| world.is_live(id));
            if let Some(id) = live {
                world.fault(format!("channel {id} outlived the reactor"));
            }
            let received: usize = world.channels.iter().map(|channel| channel.received).sum();
            if received as u64 != stats.received {
                world.fault(format!("received {received} bytes, but counted {stats:?}"));
            }
        });
        let peers = world(|world| world.channels.len());
        (0..peers).for_each(|id| self.peer_reads_to_end(id));
    }

    /// Half of the peers shut down, which closes their channels; the others,
    /// and those that stay open, are closed here.
    fn end_gracefully(&mut self) {
        self.settle();
        for id in 0..world(|world| world.channels.len()) {
            if !world(|world| world.is_live(id)) {
                continue;
            }
            if id % 2 == 0 {
                peer_ends(id);
            }
            let (stays, paused) = world(|world| {
                let channel = &world.channels[id];
                (channel.spec.stays || id % 2 == 1, channel.is_paused())
            });
            let reactor = self.reactor.as_mut().unwrap();
            let Some(stream) = reactor.get_mut::<Stream<Subject>>(token(id)) else { continue };
            if paused {
                stream.resume();
                world(|world| world.channels[id].set_paused(false));
            }
            if stays {
                stream.close();
                world(|world| world.channels[id].close());
            }
        }
        self.settle();
    }

    /// All peers read what is available; a peer at end of input closes.
    fn peers_read(&mut self) {
        for id in 0..world(|world| world.channels.len()) {
            if self.peer_reads(id, usize::MAX) {
                peer_drops(id);
            }
        }
    }

    /// Reads up to `max` bytes; returns `true` at end of input.
    fn peer_reads(&mut self, id: usize, mut max: usize) -> bool {
        if world(|world| world.channels[id].peer_saw_end) {
            return world(|world| !world.channels[id].peer_closed);
        }
        let Some(peer) = take_peer(id) else { return false };
        let mut found = false;
        while max > 0 {
            let len = max.min(self.buffer.len());
            let outcome = (&peer.0).read(&mut self.buffer[..len]);
            match outcome {
                Ok(0) => found = true,
                Ok(read) => {
                    max -= read;
                    world(|world| world.delivered(id, &self.buffer[..read]));
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    world(|world| world.delivered_end(id, Some(&error)));
                    found = true;
                    break;
                }
            }
            world(|world| world.delivered_end(id, None));
            break;
        }
        put_back_peer(id, peer);
        found
    }

    /// Reads to the end after the reactor was dropped.
    fn peer_reads_to_end(&mut self, id: usize) {
        let begin = Instant::now();
        loop {
            self.peer_reads(id, usize::MAX);
            let Some(peer) = take_peer(id) else { return };
            // Wait for more input.
            peer.0.set_nonblocking(false).unwrap();
            peer.0.set_read_timeout(Some(DEADLINE)).unwrap();
            let waited = peer.0.peek(&mut [MaybeUninit::uninit()]);
            peer.0.set_nonblocking(true).unwrap();
            put_back_peer(id, peer);
            if world(|world| world.channels[id].peer_saw_end) {
                return;
            }
            // `peer_reads` handles all errors except the timeout.
            let is_late = waited.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if is_late || begin.elapsed() > DEADLINE {
                world(|world| {
                    world.fault(format!("channel {id}: its peer received no end of input"));
                });
                return;
            }
        }
    }
}

/// Returns the faults found since the last call.
fn check() -> Result<(), String> {
    let faults = world(|world| std::mem::take(&mut world.faults));
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// A thread that posts on request, so that the order is known.
struct Poster {
    requests: Sender<(Handle, usize, Action)>,
    outcomes: Receiver<bool>,
}

impl Poster {
    fn new() -> Self {
        let (requests, received) = mpsc::channel::<(Handle, usize, Action)>();
        let (done, outcomes) = mpsc::channel();
        thread::spawn(move || {
            for (handle, number, action) in received {
                if done.send(handle.post(job(number, action)).is_ok()).is_err() {
                    return;
                }
            }
        });
        Poster { requests, outcomes }
    }

    fn post(&self, handle: Handle, number: usize, action: Action) -> bool {
        self.requests.send((handle, number, action)).unwrap();
        self.outcomes.recv().unwrap()
    }
}

/// Calls `act` for the peer of the channel at a place, which may be closed.
fn with_peer_at(at: usize, act: impl FnOnce(usize)) {
    let id = world(|world| {
        let here = world.places[at].filter(|&id| world.channels[id].peer.is_some());
        here.or_else(|| world.at(at))
    });
    if let Some(id) = id {
        act(id);
    }
}

fn take_peer(id: usize) -> Option<Peer> {
    world(|world| world.channels[id].peer.take())
}

fn put_back_peer(id: usize, peer: Peer) {
    world(|world| world.channels[id].peer = Some(peer));
}

fn peer_writes(id: usize, len: usize) {
    world(|world| {
        let channel = &mut world.channels[id];
        let Some(peer) = channel.peer.as_ref().filter(|_| !channel.peer_ended) else { return };
        match (&peer.0).write(bytes(2 * id, channel.written, len)) {
            Ok(written) => channel.written += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => world.peer_write_failed(id, &error),
        }
    });
}

fn peer_ends(id: usize) {
    world(|world| {
        let channel = &mut world.channels[id];
        if let Some(peer) = &channel.peer {
            // Fails if the connection was reset.
            if peer.0.shutdown(Shutdown::Write).is_ok() {
                channel.peer_ended = true;
            }
        }
    });
}

fn peer_drops(id: usize) {
    if take_peer(id).is_some() {
        world(|world| world.channels[id].peer_closed = true);
    }
}

fn peer_resets(id: usize) {
    let Some(peer) = take_peer(id) else { return };
    world(|world| {
        let channel = &mut world.channels[id];
        if channel.spec.transport == Transport::Unix {
            channel.peer_closed = true;
        } else {
            peer.0.set_linger(Some(Duration::ZERO)).unwrap();
            channel.peer_resets();
        }
    });
}
