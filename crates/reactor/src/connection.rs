//! A stream socket with bounded, buffered output: what a
//! [`Stream`](crate::Stream) is made of but for its protocol.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::mem;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use socket2::Socket;

use crate::address::Address;
use crate::connect::Connecting;
use crate::dispatcher::{Cause, Timeout};
use crate::limits::Limits;
use crate::listener::Permit;

/// How long a closing stream waits for its peer to stop sending. See
/// [`Ending::Lingering`].
const LINGER: Duration = Duration::from_secs(2);

/// Write without SIGPIPE, also in a program that does not ignore it. Apple's
/// systems know no such flag; there `socket2` sets `SO_NOSIGPIPE`.
#[cfg(not(target_vendor = "apple"))]
const NOSIGNAL: i32 = rustix::net::SendFlags::NOSIGNAL.bits().cast_signed();
#[cfg(target_vendor = "apple")]
const NOSIGNAL: i32 = 0;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Open.
    No,
    /// Closes as soon as its output is flushed.
    Flushing,
    /// Flushed, but the peer had sent something that was not read: closing
    /// now would send a reset, which may overtake our last bytes and destroy
    /// them (RFC 1122, section 4.2.2.13). So what comes is thrown away until
    /// the peer is done.
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

#[expect(clippy::struct_excessive_bools, reason = "independent facts, in any combination")]
pub(crate) struct Connection {
    socket: Socket,
    peer: Address,
    /// Accepted for sending, not yet taken by the kernel.
    output: VecDeque<u8>,
    limits: Rc<Limits>,
    idle_timeout: Option<Duration>,
    connecting: Option<Box<Connecting>>,
    /// What a `send` met; reported once the channel settles.
    failure: Option<io::Error>,
    /// When bytes last went either way.
    moved_at: Option<Instant>,
    /// Since when the peer has owed us something: to take output, or to close.
    waiting_since: Option<Instant>,
    ending: Ending,
    sending: Sending,
    /// Bytes went either way since the stream last settled.
    moved: bool,
    /// The kernel took output since the stream last settled.
    taken: bool,
    /// The user wants no input.
    paused: bool,
    /// The output reached the high-water mark, and is not yet back at the low.
    congested: bool,
    /// The peer will send nothing more.
    ended: bool,
    _permit: Option<Permit>,
}

impl Connection {
    pub(crate) fn new(
        socket: Socket,
        peer: Address,
        connecting: Option<Connecting>,
        limits: Rc<Limits>,
        permit: Option<Permit>,
    ) -> Self {
        Connection {
            socket,
            peer,
            output: VecDeque::new(),
            idle_timeout: limits.idle_timeout,
            limits,
            connecting: connecting.map(Box::new),
            failure: None,
            moved_at: None,
            waiting_since: None,
            ending: Ending::No,
            sending: Sending::Open,
            moved: false,
            taken: false,
            paused: false,
            congested: false,
            ended: false,
            _permit: permit,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.idle_timeout = limits.idle_timeout;
        self.limits = Rc::new(limits);
    }

    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn peer_addr(&self) -> &Address {
        &self.peer
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.connecting.is_some()
    }

    /// Whether the user may still be called back, but for the close.
    pub(crate) fn is_open(&self) -> bool {
        self.ending == Ending::No && self.failure.is_none()
    }

    /// Bytes that were accepted for sending and not taken by the kernel.
    pub(crate) fn unsent(&self) -> usize {
        self.output.len()
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
        if self.is_connecting() || !self.output.is_empty() {
            return self.queue(data);
        }
        match self.write(data, &[]) {
            Ok(written) if written == data.len() => Ok(()),
            // Nothing waits, so the rest always fits: one message above the
            // high-water mark is the bound.
            Ok(written) => {
                self.reserve(data.len() - written);
                self.output.extend(&data[written..]);
                self.congested = self.output.len() >= self.limits.high_water;
                Ok(())
            }
            Err(error) => {
                let report = match error.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => error.kind().into(),
                };
                self.failure = Some(error);
                Err(report)
            }
        }
    }

    fn queue(&mut self, data: &[u8]) -> io::Result<()> {
        if !self.output.is_empty() && self.output.len() >= self.limits.high_water {
            return Err(io::Error::new(
                ErrorKind::WouldBlock,
                format!("{}: {} bytes wait to be sent already", self.peer, self.output.len()),
            ));
        }
        self.reserve(data.len());
        self.output.extend(data);
        self.congested = self.output.len() >= self.limits.high_water;
        Ok(())
    }

    /// Makes room for `more` bytes: doubling, for linear cost, but never
    /// beyond what the limits let the buffer hold.
    fn reserve(&mut self, more: usize) {
        let needed = self.output.len() + more;
        if needed > self.output.capacity() {
            let most = needed.max(self.limits.high_water);
            let room = (2 * self.output.capacity()).clamp(needed, most);
            self.output.reserve_exact(room - self.output.len());
        }
    }

    /// Hands waiting output to the kernel until it takes no more.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() && !self.is_connecting() {
            let output = mem::take(&mut self.output);
            let (front, back) = output.as_slices();
            let written = self.write(front, back);
            let whole = output.len();
            self.output = output;
            let written = written?;
            if written == whole {
                // An idle stream holds no buffer.
                self.output = VecDeque::new();
                break;
            }
            self.output.drain(..written);
            if written == 0 {
                break;
            }
        }
        if self.output.len() <= self.limits.low_water {
            self.congested = false;
        }
        if self.output.is_empty() && self.sending == Sending::Ending && !self.is_connecting() {
            self.sending = Sending::ShutDown;
            self.socket.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// One write: how many bytes the kernel took, 0 where it has no room.
    fn write(&mut self, front: &[u8], back: &[u8]) -> io::Result<usize> {
        loop {
            let outcome = if back.is_empty() {
                self.socket.send_with_flags(front, NOSIGNAL)
            } else {
                let both = [IoSlice::new(front), IoSlice::new(back)];
                self.socket.send_vectored_with_flags(&both, NOSIGNAL)
            };
            match outcome {
                Ok(written) => {
                    self.moved = true;
                    self.taken = true;
                    return Ok(written);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Ok(0),
                    _ => return Err(error),
                },
            }
        }
    }

    /// Whether the kernel has output to take, and nothing else holds it.
    pub(crate) fn wants_write(&self) -> bool {
        self.is_connecting() || !self.output.is_empty()
    }

    /// Whether the user may be asked for more output.
    pub(crate) fn has_room(&self) -> bool {
        self.is_open()
            && self.sending == Sending::Open
            && self.output.len() <= self.limits.low_water
    }

    // --- input ------------------------------------------------------------

    /// Whether the user wants, and may get, more input.
    pub(crate) fn wants_read(&self) -> bool {
        self.is_open() && !self.is_connecting() && !self.ended && !self.paused && !self.congested
    }

    /// Whether input is to be thrown away until the peer is done.
    pub(crate) fn is_lingering(&self) -> bool {
        self.ending == Ending::Lingering
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// One read into `buffer`.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        loop {
            match (&self.socket).read(buffer) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(Received::End);
                }
                Ok(read) => {
                    self.moved = true;
                    return Ok(Received::Data(read));
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Ok(Received::Nothing),
                    _ => return Err(error),
                },
            }
        }
    }

    /// The urgent byte that waits, if one does. Reading it takes it away,
    /// without which the source would stay ready for ever.
    pub(crate) fn receive_urgent(&mut self) -> Option<u8> {
        let mut byte = [0];
        match rustix::net::recv(&self.socket, &mut byte, RecvFlags::OOB) {
            Ok((1.., _)) => Some(byte[0]),
            // EINVAL: none waits, or it was read before.
            Ok(_) | Err(_) => None,
        }
    }

    /// While nothing is wanted from the socket, it reports only that it
    /// failed, or that both sides are shut.
    pub(crate) fn hung_up(&mut self) -> io::Result<()> {
        match self.socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    // --- connecting -------------------------------------------------------

    /// Whether the connection under way has come about. An address that
    /// failed is followed by the next one; `detach` takes the socket of the
    /// failed one out of the poller before it is closed.
    pub(crate) fn finish_connect(
        &mut self,
        detach: impl FnOnce(BorrowedFd<'_>),
    ) -> io::Result<bool> {
        match crate::connect::outcome(&self.socket) {
            Ok(()) => {
                self.connecting = None;
                self.moved = true;
                Ok(true)
            }
            Err(error) => self.connect_next(error, detach).map(|()| false),
        }
    }

    /// Gives up on the address at hand because of `error`.
    pub(crate) fn connect_next(
        &mut self,
        error: io::Error,
        detach: impl FnOnce(BorrowedFd<'_>),
    ) -> io::Result<()> {
        log::debug!("connect to {}: {error}", self.peer);
        let Some(connecting) = &mut self.connecting else { return Err(error) };
        let (socket, peer) = connecting.next(error)?;
        detach(self.socket.as_fd());
        self.socket = socket;
        self.peer = peer;
        Ok(())
    }

    // --- deadlines --------------------------------------------------------

    pub(crate) fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.idle_timeout = timeout;
        // Counted from now, not from what was received before.
        self.moved = true;
    }

    /// The next instant at which something must have happened.
    pub(crate) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        if mem::take(&mut self.moved) || self.moved_at.is_none() {
            self.moved_at = Some(now);
        }
        let taken = mem::take(&mut self.taken);
        if let Some(connecting) = &mut self.connecting {
            return connecting.deadline(now, self.limits.connect_timeout);
        }
        if self.output.is_empty() && !self.is_lingering() {
            self.waiting_since = None;
        } else if taken || self.waiting_since.is_none() {
            self.waiting_since = Some(now);
        }
        [self.wait_deadline(), self.idle_deadline()].into_iter().flatten().min()
    }

    /// Until when to wait for the peer to take output, or to close.
    fn wait_deadline(&self) -> Option<Instant> {
        let timeout = if self.is_lingering() { LINGER } else { self.limits.stall_timeout? };
        self.waiting_since?.checked_add(timeout)
    }

    fn idle_deadline(&self) -> Option<Instant> {
        self.moved_at?.checked_add(self.idle_timeout?)
    }

    /// Which deadline has passed at `now`; `None` for the end of lingering,
    /// which is no fault.
    pub(crate) fn timed_out(&mut self, now: Instant) -> Option<Timeout> {
        if self.is_lingering() {
            self.ending = Ending::Now;
            None
        } else if self.wait_deadline().is_some_and(|at| at <= now) {
            Some(Timeout::Stall)
        } else {
            Some(Timeout::Idle)
        }
    }

    // --- the end ----------------------------------------------------------

    /// Ends the sending side once all output is flushed.
    pub(crate) fn shutdown(&mut self) -> io::Result<()> {
        if self.sending == Sending::Open {
            self.sending = Sending::Ending;
            self.flush()?;
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

    /// The lingering peer is done.
    pub(crate) fn linger_over(&mut self) {
        self.ending = Ending::Now;
    }

    /// Whether the connection is over, and why.
    pub(crate) fn closed(&mut self) -> Option<Cause> {
        if let Some(error) = self.failure.take() {
            return Some(Cause::Error(error));
        }
        let flushed = self.output.is_empty() && !self.is_connecting();
        match self.ending {
            Ending::Now => Some(self.cause()),
            Ending::Flushing if flushed => self.linger(),
            // Both sides are shut, and all is handled: nothing can follow.
            Ending::No if self.ended && flushed && self.sending == Sending::ShutDown => {
                Some(self.cause())
            }
            _ => None,
        }
    }

    /// All is flushed: closes, unless unread input would turn that into a
    /// reset.
    fn linger(&mut self) -> Option<Cause> {
        let unread = !self.ended
            && matches!(rustix::net::recv(&self.socket, &mut [0], RecvFlags::PEEK), Ok((1.., _)));
        if !unread || self.socket.shutdown(Shutdown::Write).is_err() {
            return Some(self.cause());
        }
        self.ending = Ending::Lingering;
        None
    }

    fn cause(&self) -> Cause {
        if self.ended { Cause::PeerClosed } else { Cause::Local }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("unsent", &self.output.len())
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}
