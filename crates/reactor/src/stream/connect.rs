//! Connecting: the state of a stream's attempts, one address after another.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::reactor::{Context, Dispatcher};
use crate::sys::either::Socket;
use crate::sys::socket_options::SocketOptions;
use crate::sys::source::Source;
use crate::sys::unix_socket::UnixTarget;
use crate::token::Token;

/// Delay before the next address is tried in parallel: RFC 8305, section 5,
/// "Connection Attempt Delay".
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Delay before a Unix listener with a full queue is tried again.
const FULL_QUEUE_DELAY: Duration = Duration::from_millis(20);

/// A connection that is not established yet.
pub(super) struct Connecting {
    /// When to give up; `None` before the stream is added, or for never.
    deadline: Option<Instant>,
    phase: Phase,
    /// Set on the socket of each attempt.
    options: SocketOptions,
}

/// State machine for connecting: `Unresolved` and `Resolving` for a host name, then
/// `Trying`; or `QueueFull` for a Unix socket until there is room.
enum Phase {
    /// The lookup starts when the stream is added.
    Unresolved {
        host: Box<str>,
        port: u16,
    },
    Resolving,
    Trying(Race),
    QueueFull {
        target: UnixTarget,
        retry_at: Option<Instant>,
    },
}

/// The race between a host's addresses (RFC 8305, "Happy Eyeballs"): when one has
/// failed, or not answered for [`ATTEMPT_DELAY`], the next one is tried as well.
#[derive(Default)]
struct Race {
    remaining_addrs: std::vec::IntoIter<SocketAddr>,
    from: Option<SocketAddr>,
    /// When the next address is tried.
    next_at: Option<Instant>,
    /// Earlier attempts that have not ended, each a channel of its own.
    attempts: Vec<Token>,
    last_error: Option<io::Error>,
}

/// What to do next.
pub(super) enum ConnectStep {
    Lookup {
        host: Box<str>,
        port: u16,
    },
    /// Continue with this attempt.
    Attempt(Socket, Address),
    Wait,
    Fail(io::Error),
}

impl Connecting {
    fn new(phase: Phase, options: SocketOptions) -> Self {
        Connecting { deadline: None, phase, options }
    }

    /// Connects to a host that must be resolved first.
    pub(super) fn to_host(host: &str, port: u16, options: SocketOptions) -> Self {
        Self::new(Phase::Unresolved { host: host.into(), port }, options)
    }

    /// Starts to connect to the first of `addrs` that does not fail at once. If all do,
    /// there is no socket, and the error is reported once the stream is added.
    pub(super) fn to_addrs(
        addrs: Vec<SocketAddr>,
        from: Option<SocketAddr>,
        options: SocketOptions,
    ) -> (Self, Option<(Socket, Address)>) {
        let mut race = Race { remaining_addrs: addrs.into_iter(), from, ..Race::default() };
        let attempt = race.start_next(&options);
        (Self::new(Phase::Trying(race), options), attempt)
    }

    /// Continues an attempt that was started outside.
    pub(super) fn in_progress() -> Self {
        Self::new(Phase::Trying(Race::default()), SocketOptions::default())
    }

    /// Starts to connect to a Unix socket.
    pub(super) fn to_unix(
        target: UnixTarget,
        options: SocketOptions,
    ) -> (Self, Option<(Socket, Address)>) {
        let (phase, attempt) = match target.connect(&options) {
            Ok(socket) => {
                let attempt = Some((socket, target.address()));
                (Phase::Trying(Race::default()), attempt)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (Phase::QueueFull { target, retry_at: None }, None)
            }
            Err(error) => {
                let race = Race { last_error: Some(error), ..Race::default() };
                (Phase::Trying(race), None)
            }
        };
        (Self::new(phase, options), attempt)
    }

    /// Starts the clock. Returns what to do first; `has_attempt` if there is a socket.
    pub(super) fn start(
        &mut self,
        now: Instant,
        timeout: Option<Duration>,
        has_attempt: bool,
    ) -> ConnectStep {
        self.deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        match &mut self.phase {
            Phase::Unresolved { host, port } => {
                let step = ConnectStep::Lookup { host: std::mem::take(host), port: *port };
                self.phase = Phase::Resolving;
                step
            }
            Phase::Trying(race) if has_attempt => {
                race.schedule_next(now);
                ConnectStep::Wait
            }
            Phase::Resolving | Phase::Trying(_) | Phase::QueueFull { .. } => {
                self.advance(now, has_attempt)
            }
        }
    }

    /// The host was resolved.
    pub(super) fn set_addrs(&mut self, addrs: Vec<SocketAddr>) {
        let remaining_addrs = interleave_families(addrs).into_iter();
        self.phase = Phase::Trying(Race { remaining_addrs, ..Race::default() });
    }

    /// Records that an attempt failed.
    pub(super) fn record_failure(&mut self, peer: &Address, error: io::Error) {
        log::debug!("connect to {peer}: {error}");
        if let Phase::Trying(race) = &mut self.phase {
            race.last_error = Some(error);
        }
    }

    /// Starts the next attempt, if there is one; `has_attempt` if the stream itself has
    /// one that continues.
    pub(super) fn advance(&mut self, now: Instant, has_attempt: bool) -> ConnectStep {
        match &mut self.phase {
            Phase::Unresolved { .. } | Phase::Resolving => ConnectStep::Wait,
            Phase::Trying(race) => {
                if let Some((socket, peer)) = race.start_next(&self.options) {
                    race.schedule_next(now);
                    return ConnectStep::Attempt(socket, peer);
                }
                race.next_at = None;
                if has_attempt || !race.attempts.is_empty() {
                    return ConnectStep::Wait;
                }
                let no_address = || {
                    io::Error::new(io::ErrorKind::InvalidInput, "there is no address to connect to")
                };
                ConnectStep::Fail(race.last_error.take().unwrap_or_else(no_address))
            }
            Phase::QueueFull { target, retry_at } => match target.connect(&self.options) {
                Ok(socket) => {
                    let peer = target.address();
                    self.phase = Phase::Trying(Race::default());
                    ConnectStep::Attempt(socket, peer)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *retry_at = now.checked_add(FULL_QUEUE_DELAY);
                    ConnectStep::Wait
                }
                Err(error) => ConnectStep::Fail(error),
            },
        }
    }

    /// Returns when to try the next address, or to give up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let next_at = match &self.phase {
            Phase::Unresolved { .. } | Phase::Resolving => None,
            Phase::Trying(race) => race.next_at,
            Phase::QueueFull { retry_at, .. } => *retry_at,
        };
        next_at.into_iter().chain(self.deadline).min()
    }

    /// Returns `true` if it is time to give up.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|at| at <= now)
    }

    /// Adds an earlier attempt that continues in a channel of its own.
    pub(super) fn add_attempt(&mut self, attempt: Token) {
        if let Phase::Trying(race) = &mut self.phase {
            race.attempts.push(attempt);
        }
    }

    pub(super) fn remove_attempt(&mut self, attempt: Token) {
        if let Phase::Trying(race) = &mut self.phase {
            race.attempts.retain(|&other| other != attempt);
        }
    }

    /// Closes all earlier attempts.
    pub(super) fn close_attempts(&self, cx: &mut Context) {
        if let Phase::Trying(race) = &self.phase {
            race.attempts.iter().for_each(|&attempt| cx.close(attempt));
        }
    }
}

impl Race {
    /// Starts to connect to the next address that does not fail at once.
    fn start_next(&mut self, options: &SocketOptions) -> Option<(Socket, Address)> {
        for addr in self.remaining_addrs.by_ref() {
            match Socket::connect(addr, self.from, options) {
                Ok(socket) => return Some((socket, Address::Inet(addr))),
                Err(error) => {
                    log::debug!("connect to {addr}: {error}");
                    self.last_error = Some(error);
                }
            }
        }
        None
    }

    fn schedule_next(&mut self, now: Instant) {
        let has_next = self.remaining_addrs.len() > 0;
        self.next_at = if has_next { now.checked_add(ATTEMPT_DELAY) } else { None };
    }
}

/// Alternates between the address families, starting with that of the first address, so
/// that a family that does not work at all costs little (RFC 8305, section 4). Within a
/// family the system's order remains.
fn interleave_families(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv4 = addrs.first().is_some_and(SocketAddr::is_ipv4);
    let (same, other): (Vec<_>, Vec<_>) =
        addrs.into_iter().partition(|addr| addr.is_ipv4() == first_is_ipv4);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut takes_same = false;
    std::iter::from_fn(|| {
        takes_same = !takes_same;
        let (this, that) =
            if takes_same { (&mut same, &mut other) } else { (&mut other, &mut same) };
        this.next().or_else(|| that.next())
    })
    .collect()
}

/// Receives the result of an earlier attempt: the stream's token, the attempt's own, and
/// the peer's address.
type Report = fn(&mut Context, Token, Token, Address, io::Result<Socket>);

/// An attempt that continues while its stream tries another address.
pub(super) struct Attempt {
    /// `None` once it has ended.
    socket: Option<Socket>,
    peer: Address,
    stream: Token,
    report: Report,
}

impl Attempt {
    pub(super) fn new(socket: Socket, peer: Address, stream: Token, report: Report) -> Self {
        Attempt { socket: Some(socket), peer, stream, report }
    }
}

impl Dispatcher for Attempt {
    fn source(&self) -> Source<'_> {
        self.socket.as_ref().map_or(Source::NONE, Socket::source)
    }

    fn readable(&self) -> bool {
        false
    }

    fn writable(&self) -> bool {
        self.socket.is_some()
    }

    fn is_background(&self) -> bool {
        true
    }

    fn handle_write(&mut self, cx: &mut Context) -> io::Result<()> {
        cx.deregister(self.source());
        let Some(socket) = self.socket.take() else { return Ok(()) };
        let result = socket.take_connect_result().map(|()| socket);
        cx.close(cx.token());
        (self.report)(cx, self.stream, cx.token(), self.peer.clone(), result);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate() {
        let v4 = |last| SocketAddr::from(([192, 0, 2, last], 80));
        let v6 = |last| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 80));
        let order = interleave_families(vec![v6(1), v6(2), v6(3), v4(1)]);
        assert_eq!(order, [v6(1), v4(1), v6(2), v6(3)]);
        assert_eq!(interleave_families(vec![v6(1), v4(1), v4(2)]), [v6(1), v4(1), v4(2)]);
        assert_eq!(interleave_families(vec![v4(1), v4(2)]), [v4(1), v4(2)]);
    }
}
