//! What a descriptor of the simulated system stands for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use reactor::Address;
use reactor::kernel::{Fd, Readiness};
use rustix::io::Errno;

use crate::dice::Dice;
use crate::link::Link;

/// Names one end of a connection. It may outlive its descriptor: what was sent before
/// close(2) is still on its way.
pub(crate) type EndId = u64;

/// Names a socket: the nth that its machine has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketNumber {
    pub(crate) machine: u64,
    pub(crate) opened: u64,
}

/// An open descriptor.
pub(crate) struct Descriptor {
    pub(crate) machine: usize,
    pub(crate) object: Object,
    /// The queue that watches it.
    pub(crate) queue: Option<Fd>,
}

/// What a descriptor stands for.
pub(crate) enum Object {
    Stream(EndId),
    Listener(Listener),
    Datagram(Box<DatagramSocket>),
    Signals { numbers: Vec<i32>, arrived: Vec<i32> },
    Queue(Queue),
}

/// A listening socket.
pub(crate) struct Listener {
    pub(crate) at: Address,
    pub(crate) reuse_port: bool,
    /// The connections that are not accepted yet.
    pub(crate) pending: VecDeque<EndId>,
    pub(crate) dice: Dice,
}

/// A queue of events.
pub(crate) struct Queue {
    pub(crate) watched: BTreeMap<Fd, (usize, Readiness)>,
    pub(crate) ready: BTreeSet<Fd>,
    pub(crate) woken: Arc<AtomicBool>,
    pub(crate) dice: Dice,
}

/// A datagram socket.
pub(crate) struct DatagramSocket {
    pub(crate) local: Address,
    pub(crate) peer: Option<Address>,
    pub(crate) received: VecDeque<Datagram>,
    pub(crate) number: SocketNumber,
    pub(crate) error: Option<Errno>,
    pub(crate) dice: Dice,
}

/// Who sent a datagram. The socket may be closed by the time it arrives.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) machine: usize,
    pub(crate) fd: Fd,
    pub(crate) number: SocketNumber,
}

/// A datagram that was sent.
#[derive(Clone)]
pub(crate) struct Datagram {
    pub(crate) sender: Sender,
    pub(crate) data: Vec<u8>,
    pub(crate) from: Address,
    pub(crate) to: Option<IpAddr>,
}

/// State machine for one end of a connection.
///
/// | from | event | to |
/// | --- | --- | --- |
/// | `Connecting` | the peer accepts / refuses / never answers | `Open` / `Dead` / `Dead` |
/// | `Embryo` | the peer's acknowledgement arrives | `Open`, and the listener queues it |
/// | `Open` | a reset, or no acknowledgement for too long | `Dead` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndState {
    Connecting,
    /// The end of a listener, before the peer knows that it is connected.
    Embryo,
    Open,
    Dead,
}

/// State machine for the end of output: `Open`, then shutdown(2) or close(2), then `Wanted`
/// until all output is sent, then `Sent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FinState {
    Open,
    Wanted,
    Sent,
}

/// What travels from one end of a connection to the other.
#[derive(Clone, Debug)]
pub(crate) enum Segment {
    /// The client knows that it is connected.
    Handshake,
    Data(Vec<u8>),
    Fin,
    Reset,
}

/// One end of a connection.
pub(crate) struct End {
    pub(crate) machine: usize,
    pub(crate) local: Address,
    pub(crate) peer: Address,
    pub(crate) peer_machine: usize,
    pub(crate) other: Option<EndId>,
    /// `None` before accept(2) and after close(2).
    pub(crate) fd: Option<Fd>,
    /// The listener that has not accepted it yet.
    pub(crate) listener: Option<Fd>,
    pub(crate) state: EndState,
    pub(crate) error: Option<Errno>,
    pub(crate) link: Link,

    pub(crate) received: VecDeque<u8>,
    pub(crate) eof: bool,

    /// Output that is not sent yet.
    pub(crate) unsent: VecDeque<u8>,
    /// Output that was sent and not acknowledged.
    pub(crate) unacked: usize,
    /// The segments on their way to the peer, with the time of their arrival.
    pub(crate) flying: VecDeque<(u64, Segment)>,
    pub(crate) flying_bytes: usize,
    /// How often in a row the first of them did not get through.
    pub(crate) retries: u32,
    /// When the link has carried what was sent.
    pub(crate) busy_until: u64,
    pub(crate) fin: FinState,
    pub(crate) watches_unsent: bool,
    pub(crate) reset_on_close: bool,
    /// Of the socket that connected.
    pub(crate) number: SocketNumber,
    pub(crate) dice: Dice,
}

impl End {
    pub(crate) fn new(
        machine: usize,
        local: Address,
        peer: Address,
        peer_machine: usize,
        link: Link,
        (number, dice): (SocketNumber, Dice),
    ) -> Self {
        End {
            machine,
            local,
            peer,
            peer_machine,
            other: None,
            fd: None,
            listener: None,
            state: EndState::Connecting,
            error: None,
            link,
            received: VecDeque::new(),
            eof: false,
            unsent: VecDeque::new(),
            unacked: 0,
            flying: VecDeque::new(),
            flying_bytes: 0,
            retries: 0,
            busy_until: 0,
            fin: FinState::Open,
            watches_unsent: false,
            reset_on_close: false,
            number,
            dice,
        }
    }

    pub(crate) fn is_unix(&self) -> bool {
        !matches!(self.local, Address::Inet(_))
    }

    /// Returns how many more bytes a write may add.
    pub(crate) fn room(&self) -> usize {
        self.link.send_buffer.saturating_sub(self.unsent.len() + self.unacked)
    }

    /// Returns `true` if nothing keeps it but what may still arrive for it.
    pub(crate) fn is_finished(&self) -> bool {
        let has_sent = self.fin == FinState::Sent && self.unacked == 0;
        self.fd.is_none()
            && self.listener.is_none()
            && self.flying.is_empty()
            && (has_sent || self.state == EndState::Dead)
    }

    /// Linux: a stream is writable while at least a third of its buffer is free.
    pub(crate) fn readiness(&self) -> Readiness {
        let has_failed = self.state == EndState::Dead || self.error.is_some();
        let is_writable = match self.state {
            EndState::Connecting | EndState::Embryo => false,
            EndState::Dead => true,
            EndState::Open if self.fin != FinState::Open => true,
            EndState::Open => {
                let is_roomy = 3 * self.room() >= self.link.send_buffer;
                is_roomy && (!self.watches_unsent || self.unsent.is_empty())
            }
        };
        Readiness {
            readable: !self.received.is_empty() || self.eof || has_failed,
            writable: is_writable || has_failed,
            hung_up: has_failed || (self.eof && self.fin != FinState::Open),
        }
    }
}
