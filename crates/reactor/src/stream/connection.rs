//! A byte stream with bounded, buffered output: what a
//! [`Stream`](crate::Stream) is made of but for its protocol.

use std::fmt;
use std::io::{self, ErrorKind};
use std::mem;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::address::{Address, CompactAddress};
use crate::compact_instant::Moment;
use crate::reactor::dispatcher::{Cause, TimeoutKind};
use crate::stream::connect::Connecting;
use crate::stream::limits::Limits;
use crate::stream::output::Output;
use crate::stream::permit::Permit;
use crate::stream::resolve::Search;
use crate::stream::throttle::Throttle;
use crate::sys::attempt;
use crate::sys::endpoint::Endpoint;

/// How long a closing stream waits for its last bytes to go out, and for its
/// peer to be done. See [`Ending`].
const LINGER: Duration = Duration::from_secs(2);

/// The most that one write offers to the kernel, which copies all of it at once
/// to a peer that reads as fast.
const WRITE_AT_ONCE: usize = 1024 * 1024;

/// What one attempt to read brought.
pub(crate) enum Received {
    /// So many bytes.
    Data(usize),
    /// Nothing: the readiness was spurious.
    Nothing,
    /// The peer will send nothing more.
    End,
}

/// How far the end of a stream has come.
///
/// Closing a socket while input is unread, or before more of it comes, makes
/// the kernel answer with a reset, which destroys what it has not sent yet and
/// may overtake what the peer has not read yet (RFC 1122, section 4.2.2.13). So
/// a stream closes in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Open.
    No,
    /// The kernel is to take all output first.
    Flushing,
    /// The kernel is to send all of it; what comes is thrown away.
    Leaving,
    /// Input was unread: what comes is thrown away until the peer is done.
    Lingering,
    /// Closes now.
    Now,
}

/// Our sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Open,
    /// To be shut down as soon as the output is flushed.
    Ending,
    ShutDown,
}

/// Rate limits, which few streams have.
#[derive(Default)]
struct Throttles {
    read: Option<Throttle>,
    write: Option<Throttle>,
}

/// What a connection has only while something is going on: most of those that
/// a server has open have nothing of it, and are small.
#[derive(Default)]
struct Extra {
    output: Output,
    connecting: Option<Connecting>,
    throttles: Throttles,
    /// What a `send` met; reported once the channel settles.
    failure: Option<io::Error>,
    /// Since when the peer has owed us something: to take output, or to close.
    waiting_since: Option<Instant>,
}

impl Extra {
    fn is_needed(&self) -> bool {
        !self.output.is_empty()
            || self.connecting.is_some()
            || self.throttles.read.is_some()
            || self.throttles.write.is_some()
            || self.failure.is_some()
            || self.waiting_since.is_some()
    }
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts, in any combination")]
pub(crate) struct Connection {
    endpoint: Endpoint,
    peer: CompactAddress,
    limits: Rc<Limits>,
    extra: Option<Box<Extra>>,
    /// When bytes last went either way, as far as an idle timeout asks; `None`
    /// before it did.
    moved_at: Option<Moment>,
    /// How many bytes the kernel took that are not counted yet.
    sent: u32,
    ending: Ending,
    sending: Sending,
    /// Bytes went either way since the stream last settled.
    moved: bool,
    /// The kernel took output since the stream last settled.
    taken: bool,
    /// The user wants no input.
    paused: bool,
    /// The peer will send nothing more.
    ended: bool,
    /// Something was sent on it.
    has_sent: bool,
    /// Input was thrown away at its end.
    has_discarded: bool,
    _permit: Option<Permit>,
}

impl Connection {
    pub(crate) fn new(
        endpoint: Endpoint,
        peer: Address,
        connecting: Option<Connecting>,
        limits: Rc<Limits>,
        permit: Option<Permit>,
    ) -> Self {
        let mut connection = Connection {
            endpoint,
            peer: peer.into(),
            limits: Rc::clone(&limits),
            extra: None,
            moved_at: None,
            sent: 0,
            ending: Ending::No,
            sending: Sending::Open,
            moved: false,
            taken: false,
            paused: false,
            ended: false,
            has_sent: false,
            has_discarded: false,
            _permit: permit,
        };
        if connecting.is_some() {
            connection.extra().connecting = connecting;
        }
        connection.set_limits(limits);
        connection
    }

    pub(crate) fn set_limits(&mut self, limits: Rc<Limits>) {
        self.moved_at = None;
        if limits.read_rate.is_some() || limits.write_rate.is_some() || self.extra.is_some() {
            self.set_read_rate(limits.read_rate);
            self.set_write_rate(limits.write_rate);
        }
        self.limits = limits;
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.endpoint.as_fd()
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        self.endpoint.local_addr()
    }

    pub(crate) fn peer_addr(&self) -> Address {
        self.peer.expand()
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.connecting.is_some())
    }

    /// Whether that goes on elsewhere, and its end is told by something to read.
    pub(crate) fn is_searching(&self) -> bool {
        let connecting = self.extra.as_ref().and_then(|extra| extra.connecting.as_ref());
        connecting.is_some_and(|connecting| connecting.search.is_some())
    }

    /// Whether the user may still be called back, but for the close.
    pub(crate) fn is_open(&self) -> bool {
        self.ending == Ending::No && self.extra.as_ref().is_none_or(|extra| extra.failure.is_none())
    }

    /// Bytes that were accepted for sending and not taken by the kernel.
    pub(crate) fn unsent(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.output.len())
    }

    /// Whether the kernel has taken all of them.
    fn is_flushed(&self) -> bool {
        self.unsent() == 0
    }

    // --- output -----------------------------------------------------------

    /// Sends `data`, as much of it as the kernel takes now and the rest later.
    pub(crate) fn send(&mut self, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        if !self.is_open() || self.sending != Sending::Open {
            return Err(io::Error::new(ErrorKind::NotConnected, "send on a closed stream"));
        }
        if !self.endpoint.is_sink() {
            let message = format!("{} is open for reading only", self.peer_addr());
            return Err(io::Error::new(ErrorKind::NotConnected, message));
        }
        // With a rate to keep, when to write is for `flush` to say.
        if self.is_connecting() || !self.is_flushed() || self.write_throttle().is_some() {
            return self.queue(data);
        }
        match self.write(data, &[]) {
            Ok(written) => {
                // Nothing waits, so the rest always fits: one message above
                // the high-water mark is the bound.
                if written < data.len() {
                    self.push(&data[written..]);
                }
                Ok(())
            }
            Err(error) => {
                let report = match error.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => error.kind().into(),
                };
                self.extra().failure = Some(error);
                Err(report)
            }
        }
    }

    fn queue(&mut self, data: &[u8]) -> io::Result<()> {
        let waiting = self.unsent();
        if waiting > 0 && waiting >= self.limits.high_water {
            let message = format!("{}: {waiting} bytes wait to be sent already", self.peer_addr());
            return Err(io::Error::new(ErrorKind::WouldBlock, message));
        }
        self.push(data);
        Ok(())
    }

    fn push(&mut self, data: &[u8]) {
        let high = self.limits.high_water;
        self.extra().output.push(data, high);
    }

    /// Hands waiting output to the kernel, in one write: a peer who reads fast
    /// is not to keep the others waiting.
    pub(crate) fn flush(&mut self, now: Instant) -> io::Result<()> {
        if self.is_connecting() || self.ending == Ending::Now {
            return Ok(());
        }
        let most = self.write_throttle().map_or(WRITE_AT_ONCE, |rate| rate.allowance(now));
        let most = most.min(WRITE_AT_ONCE);
        if !self.is_flushed() && most > 0 {
            let mut output = mem::take(&mut self.extra().output);
            let low = self.low_water();
            let written = output.write_to(most, low, |front, back| self.write(front, back));
            self.extra().output = output;
            let written = written?;
            if let Some(rate) = self.write_throttle() {
                rate.spend(written, now);
            }
        }
        if self.is_flushed() && self.sending == Sending::Ending {
            self.sending = Sending::ShutDown;
            self.endpoint.shut_down()?;
        }
        Ok(())
    }

    /// An error met outside of the user's callbacks: returned for them to be
    /// told of, or kept for the close reason where they are not to be called.
    pub(crate) fn failed(&mut self, error: io::Error) -> io::Result<()> {
        if self.is_open() {
            return Err(error);
        }
        self.extra().failure.get_or_insert(error);
        Ok(())
    }

    /// One write: how many bytes the kernel took, 0 where it has no room.
    fn write(&mut self, front: &[u8], back: &[u8]) -> io::Result<usize> {
        loop {
            match self.endpoint.write(front, back) {
                Ok(written) => {
                    let counted = u32::try_from(written).unwrap_or(u32::MAX);
                    self.sent = self.sent.saturating_add(counted);
                    self.has_sent = true;
                    self.moved = true;
                    self.taken = true;
                    return Ok(written);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_retry(&error) => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }

    /// How many bytes the kernel took since this was asked last.
    pub(crate) fn take_sent(&mut self) -> u64 {
        mem::take(&mut self.sent).into()
    }

    /// Whether there is something for `flush` to do.
    pub(crate) fn wants_write(&self) -> bool {
        (self.is_connecting() && !self.is_searching())
            || self.ending == Ending::Leaving
            || (!self.is_flushed() && !self.holds_output())
            || (self.is_flushed() && self.sending == Sending::Ending && !self.is_connecting())
    }

    /// Whether the user may be asked for more output.
    pub(crate) fn has_room(&self) -> bool {
        self.is_open()
            && self.sending == Sending::Open
            && self.endpoint.is_sink()
            && self.unsent() <= self.low_water()
    }

    /// Whether output reached the high-water mark, and is not yet back at the
    /// low one.
    pub(crate) fn is_congested(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.output.is_full())
    }

    pub(crate) fn high_water(&self) -> usize {
        self.limits.high_water
    }

    /// Below the high-water mark in any case: what is full must not count as
    /// having room.
    fn low_water(&self) -> usize {
        self.limits.low_water.min(self.limits.high_water.saturating_sub(1))
    }

    // --- input ------------------------------------------------------------

    /// Whether the user wants, and may get, more input.
    pub(crate) fn wants_read(&self) -> bool {
        self.is_open()
            && self.endpoint.is_source()
            && !self.is_connecting()
            && !self.ended
            && !self.paused
            && !self.is_congested()
            && !self.holds_input()
    }

    /// Whether input is to be thrown away.
    pub(crate) fn is_lingering(&self) -> bool {
        matches!(self.ending, Ending::Leaving | Ending::Lingering)
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// One read into `buffer`.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], now: Instant) -> io::Result<Received> {
        let most = self.read_throttle().map_or(usize::MAX, |rate| rate.allowance(now));
        let most = most.min(buffer.len());
        if most == 0 {
            return Ok(Received::Nothing);
        }
        let received = self.read(&mut buffer[..most])?;
        if let Received::Data(read) = received
            && let Some(rate) = self.read_throttle()
        {
            rate.spend(read, now);
        }
        Ok(received)
    }

    /// Throws away what comes, until the peer is done.
    pub(crate) fn discard(&mut self, buffer: &mut [u8]) {
        match self.endpoint.read(buffer) {
            Ok(0) => self.ending = Ending::Now,
            Ok(_) => self.has_discarded = true,
            Err(error) if is_retry(&error) => {}
            Err(error) => self.extra().failure = Some(error),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        loop {
            match self.endpoint.read(buffer) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(Received::End);
                }
                Ok(read) => {
                    self.moved = true;
                    return Ok(Received::Data(read));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_retry(&error) => return Ok(Received::Nothing),
                Err(error) => return Err(error),
            }
        }
    }

    /// The urgent byte that waits, if one does.
    pub(crate) fn receive_urgent(&mut self) -> Option<u8> {
        self.endpoint.receive_urgent()
    }

    /// While nothing is wanted from the source, it reports only that it
    /// failed, or that both sides are shut.
    pub(crate) fn hung_up(&mut self) -> io::Result<()> {
        self.endpoint.take_error()
    }

    // --- connecting -------------------------------------------------------

    /// Whether the connection under way has come about. An address that
    /// failed is followed by the next one; `detach` takes the socket of the
    /// failed one out of the poller before it is closed.
    pub(crate) fn finish_connect(
        &mut self,
        detach: impl FnOnce(BorrowedFd<'_>),
    ) -> io::Result<bool> {
        let Endpoint::Socket(socket) = &self.endpoint else { return Ok(true) };
        match attempt::outcome(socket) {
            Ok(()) => {
                self.extra().connecting = None;
                self.moved = true;
                Ok(true)
            }
            Err(error) => self.connect_next(error, detach).map(|()| false),
        }
    }

    /// Begins to look for a host by its name, if that is to be done.
    pub(crate) fn start_search(&mut self) -> io::Result<()> {
        let timeout = self.limits.connect_timeout;
        self.search().map_or(Ok(()), |search| search.start(timeout))
    }

    fn search(&mut self) -> Option<&mut Search> {
        self.extra.as_mut()?.connecting.as_mut()?.search.as_mut()
    }

    /// The search is over: takes over the connection that it found.
    pub(crate) fn finish_search(&mut self, detach: impl FnOnce(BorrowedFd<'_>)) -> io::Result<()> {
        let Some(search) = self.search() else { return Ok(()) };
        let (socket, peer) = search.outcome()?;
        detach(self.endpoint.as_fd());
        self.endpoint = Endpoint::Socket(socket);
        self.peer = Address::Inet(peer).into();
        self.extra().connecting = None;
        self.moved = true;
        Ok(())
    }

    /// Gives up on the address at hand because of `error`.
    pub(crate) fn connect_next(
        &mut self,
        error: io::Error,
        detach: impl FnOnce(BorrowedFd<'_>),
    ) -> io::Result<()> {
        log::debug!("connect to {}: {error}", self.peer_addr());
        let Some(connecting) = &mut self.extra().connecting else { return Err(error) };
        let (socket, peer) = connecting.next(error)?;
        detach(self.endpoint.as_fd());
        self.endpoint = Endpoint::Socket(socket);
        self.peer = peer.into();
        Ok(())
    }

    // --- rates ------------------------------------------------------------

    pub(crate) fn set_read_rate(&mut self, rate: Option<NonZeroU64>) {
        self.extra().throttles.read = rate.map(Throttle::new);
    }

    pub(crate) fn set_write_rate(&mut self, rate: Option<NonZeroU64>) {
        self.extra().throttles.write = rate.map(Throttle::new);
    }

    fn read_throttle(&mut self) -> Option<&mut Throttle> {
        self.extra.as_mut()?.throttles.read.as_mut()
    }

    fn write_throttle(&mut self) -> Option<&mut Throttle> {
        self.extra.as_mut()?.throttles.write.as_mut()
    }

    fn throttles(&self) -> Option<&Throttles> {
        self.extra.as_ref().map(|extra| &extra.throttles)
    }

    /// Whether input has to wait for its rate.
    fn holds_input(&self) -> bool {
        self.throttles().is_some_and(|both| both.read.as_ref().is_some_and(Throttle::holds))
    }

    /// Whether output has to wait for its rate.
    fn holds_output(&self) -> bool {
        self.throttles().is_some_and(|both| both.write.as_ref().is_some_and(Throttle::holds))
    }

    /// When something that waits for its rate may go on.
    fn rate_deadline(&self) -> Option<Instant> {
        let both = self.throttles()?;
        [&both.read, &both.write].into_iter().flatten().filter_map(Throttle::ready_at).min()
    }

    // --- deadlines --------------------------------------------------------

    pub(crate) fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        // Counted from now, not from what was received before.
        self.moved_at = None;
        if timeout != self.limits.idle_timeout {
            Rc::make_mut(&mut self.limits).idle_timeout = timeout;
        }
    }

    /// The next instant at which something must have happened.
    pub(crate) fn update_deadline(&mut self, now: Instant) -> Option<Instant> {
        let moved = mem::take(&mut self.moved);
        if self.limits.idle_timeout.is_some() && (moved || self.moved_at.is_none()) {
            self.moved_at = Some(now.into());
        }
        let taken = mem::take(&mut self.taken);
        if self.extra.is_none() && !self.is_lingering() {
            return self.idle_deadline();
        }
        let timeout = self.limits.connect_timeout;
        if let Some(extra) = &mut self.extra
            && let Some(connecting) = &mut extra.connecting
        {
            return connecting.deadline(now, timeout);
        }
        // What waits for its rate does not wait for the peer.
        if (!self.is_flushed() && !self.holds_output()) || self.is_lingering() {
            let since = &mut self.extra().waiting_since;
            if taken || since.is_none() {
                *since = Some(now);
            }
        } else if let Some(extra) = &mut self.extra {
            extra.waiting_since = None;
            if !extra.is_needed() {
                self.extra = None;
            }
        }
        let all = [self.wait_deadline(), self.idle_deadline(), self.rate_deadline()];
        all.into_iter().flatten().min()
    }

    /// Until when to wait for the peer to take output, or to close.
    fn wait_deadline(&self) -> Option<Instant> {
        let timeout = if self.is_lingering() { LINGER } else { self.limits.stall_timeout? };
        self.extra.as_ref()?.waiting_since?.checked_add(timeout)
    }

    fn idle_deadline(&self) -> Option<Instant> {
        let timeout = self.limits.idle_timeout?;
        self.moved_at?.instant().checked_add(timeout)
    }

    /// A deadline has passed at `now`: deals with it, unless the stream timed
    /// out.
    pub(crate) fn timed_out(&mut self, now: Instant) -> Option<TimeoutKind> {
        if let Some(both) = self.extra.as_mut().map(|extra| &mut extra.throttles) {
            [&mut both.read, &mut both.write].into_iter().flatten().for_each(|rate| rate.look(now));
        }
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        if passed(self.wait_deadline()) {
            if !self.is_lingering() {
                return Some(TimeoutKind::Stall);
            }
            // The peer had its time: no fault of ours.
            self.ending = Ending::Now;
        }
        passed(self.idle_deadline()).then_some(TimeoutKind::Idle)
    }

    // --- the end ----------------------------------------------------------

    /// Ends the sending side once all output is flushed.
    pub(crate) fn shutdown(&mut self) -> io::Result<()> {
        if !self.endpoint.has_sides() {
            return Err(ErrorKind::Unsupported.into());
        }
        if self.sending == Sending::Open {
            self.sending = Sending::Ending;
        }
        Ok(())
    }

    /// Closes once all output is flushed.
    pub(crate) fn close(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::Flushing;
        }
    }

    /// Closes without flushing.
    pub(crate) fn abort(&mut self) {
        self.ending = Ending::Now;
    }

    /// Whether the connection is over, and why.
    pub(crate) fn poll_close(&mut self) -> Option<Cause> {
        if let Some(error) = self.extra.as_mut().and_then(|extra| extra.failure.take()) {
            return Some(Cause::Error(error));
        }
        match self.ending {
            Ending::Now => Some(self.cause()),
            Ending::Flushing | Ending::Leaving if self.is_flushed() => self.leave(),
            // Both sides are shut, and all is handled: nothing can follow.
            Ending::No if self.ended && self.sending == Sending::ShutDown => Some(self.cause()),
            _ => None,
        }
    }

    /// All is flushed: closes, unless that would destroy it.
    fn leave(&mut self) -> Option<Cause> {
        if self.ended || self.is_connecting() || !self.endpoint.has_sides() {
            return Some(self.cause());
        }
        // A read rather than a peek: that would not see past an urgent byte.
        match self.endpoint.read(&mut [0]) {
            Ok(0) => return Some(Cause::Local),
            Ok(_) => self.has_discarded = true,
            Err(error) if is_retry(&error) => {}
            Err(error) => return Some(Cause::Error(error)),
        }
        let is_shut = self.sending == Sending::ShutDown;
        if self.has_sent && !self.endpoint.has_left(is_shut) {
            // Once it is shut down only the peer's end says that all has left.
            self.ending = if is_shut { Ending::Lingering } else { Ending::Leaving };
            return None;
        }
        if !self.has_discarded {
            return Some(Cause::Local);
        }
        self.ending = Ending::Lingering;
        if mem::replace(&mut self.sending, Sending::ShutDown) == Sending::ShutDown {
            return None;
        }
        self.endpoint.shut_down().err().map(Cause::Error)
    }

    fn cause(&self) -> Cause {
        if self.ended { Cause::PeerClosed } else { Cause::Local }
    }
}

/// Whether there is only nothing to read or no room to write at the moment.
fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer_addr())
            .field("unsent", &self.unsent())
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}
