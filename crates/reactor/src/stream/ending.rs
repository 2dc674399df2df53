//! The end of a [`Connection`]: the steps of [`CloseState`].

use std::io::{self, ErrorKind};

use crate::output_buffer::SendMode;
use crate::reactor::{Cause, CloseReason};
use crate::stream::closing::{CloseState, CloseStep, ReadHalf, UnreadInput, WriteHalf};
use crate::stream::connection::{Connection, read_once};
use crate::sys::socket::SendQueue;

/// How much input is discarded at once when another channel closes a stream.
const DISCARD_BUFFER_SIZE: usize = 8 * 1024;
const MAX_DISCARDS: usize = 128;

impl Connection {
    /// Shuts the write half down once all queued output is written. The stream continues
    /// to read until the peer closes its side too, and then closes.
    ///
    /// # Errors
    ///
    /// Returns `Unsupported` for a pipe, a terminal or a file.
    pub fn shutdown(&mut self) -> io::Result<()> {
        if !self.endpoint.supports_half_close() {
            return Err(ErrorKind::Unsupported.into());
        }
        if self.write_half == WriteHalf::Open {
            self.write_half = WriteHalf::ShuttingDown;
            self.update_gather_limit();
        }
        Ok(())
    }

    /// Closes the stream gracefully: queued output is written first. The only callback
    /// that follows is `handle_close`.
    ///
    /// Later calls of [`send`](Self::send) fail. If the current callback returns an
    /// `Err`, the stream closes without writing.
    ///
    /// If a TCP socket is closed while received data is unread, the kernel sends a reset,
    /// which can discard undelivered output (RFC 1122, section 4.2.2.13). To avoid this,
    /// the stream stays open until the kernel has sent all output, unless the peer has
    /// closed its side. If unread input arrives, it also waits until the peer closes the
    /// connection.
    ///
    /// While output is still queued,
    /// [`Limits::stall_timeout`](crate::Limits::stall_timeout) applies. Only afterwards
    /// does the stream give up after two seconds without progress, or, with
    /// [`TimeoutKind::Close`](crate::TimeoutKind::Close), after
    /// [`Limits::close_timeout`](crate::Limits::close_timeout).
    pub fn close(&mut self) {
        self.close_state = self.close_state.after_close();
        self.update_gather_limit();
    }

    /// Closes the stream immediately. Queued output is discarded, and counted in
    /// [`CloseReason::unsent`]. A TCP connection is reset, so the peer cannot mistake
    /// truncated data for a complete message.
    pub fn abort(&mut self) {
        self.close_state = CloseState::Aborted;
        self.update_gather_limit();
        self.set_output_blocked(true);
    }

    /// Prepares the socket for being closed. The peer receives the end of input if either
    /// side closed and all output was sent, and a reset otherwise: after an error, a panic
    /// or a timeout, more was perhaps to be sent. No callback but `handle_close` follows.
    pub(super) fn finish(&mut self, reason: &CloseReason) {
        let is_complete = reason.unsent == 0
            && self.close_state != CloseState::Aborted
            && matches!(reason.cause, Cause::Local | Cause::PeerClosed);
        if !is_complete {
            self.endpoint.reset_on_drop();
        } else if self.close_state.is_open() && self.read_half != ReadHalf::Eof {
            self.end_at_once();
        }
        self.close_state = CloseState::Closed;
        self.update_gather_limit();
    }

    /// Ends the output of a stream that another channel closes. Input that has arrived is
    /// discarded, because the kernel answers unread input with a reset.
    fn end_at_once(&mut self) {
        if self.is_filtered() {
            self.close_state = CloseState::Flushing;
            // An error shows in the next call.
            let _ = self.finish_filter();
        }
        if self.is_connecting() || self.endpoint.shutdown_write().is_err() {
            return;
        }
        let mut buffer = [0; DISCARD_BUFFER_SIZE];
        for _ in 0..MAX_DISCARDS {
            if !matches!(read_once(&self.endpoint, &mut buffer), Ok(1..)) {
                return;
            }
        }
    }

    /// Records that a write failed, and returns a copy of the error for the caller.
    ///
    /// If the connection is lost, what the kernel has received before is read first,
    /// because an answer may precede the reset. Otherwise the stream closes when it
    /// settles.
    #[cold]
    pub(super) fn fail_write(&mut self, error: io::Error) -> io::Error {
        let copy = match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        };
        let is_lost = matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
        );
        if !is_lost || !self.close_state.is_open() || !self.endpoint.supports_half_close() {
            self.set_pending_error(error);
            return copy;
        }
        self.write_half = WriteHalf::Failed;
        self.update_gather_limit();
        if let Some(output) = &mut self.output {
            output.abandon();
        }
        self.active_mut().write_error.get_or_insert(error);
        copy
    }

    /// Lets the stream close with `error` when it settles, unless it has failed before.
    pub(super) fn set_pending_error(&mut self, error: io::Error) {
        self.active_mut().pending_error.get_or_insert(error);
        self.update_gather_limit();
    }

    /// Returns `true` if nothing more is read or written.
    pub(super) fn has_ended(&self) -> bool {
        self.close_state.has_ended()
    }

    /// Returns `true` if the write half is neither shut down nor failed.
    pub(super) fn is_write_open(&self) -> bool {
        self.write_half == WriteHalf::Open
    }

    /// Returns `true` if a write has failed, and input that arrived before is read.
    pub(crate) fn has_failed_write(&self) -> bool {
        self.write_half == WriteHalf::Failed
    }

    /// All input that preceded a failed write is read, or will not be: the stream closes
    /// with the error of the write. Returns `false` if no write has failed.
    #[cold]
    pub(super) fn finish_failed(&mut self) -> bool {
        if self.write_half != WriteHalf::Failed {
            return false;
        }
        if let Some(error) = self.active_mut().write_error.take() {
            self.set_pending_error(error);
        }
        true
    }

    /// Like [`finish_failed`](Self::finish_failed), but after a read that found nothing,
    /// perhaps because it waits for the rate.
    #[cold]
    pub(super) fn finish_failed_read(&mut self) {
        if !self.is_read_throttled() {
            self.finish_failed();
        }
    }

    /// Ends a stream that does not read after a write has failed.
    #[cold]
    fn poll_failed(&mut self, is_readable: bool) {
        let reads = is_readable && self.read_half == ReadHalf::Open && self.close_state.is_open();
        if !reads {
            self.finish_failed();
        }
    }

    /// Ignores the error of a callback that only passes on that a write has failed: the
    /// stream reads what has arrived before, and closes with the error of the write.
    #[inline(always)]
    pub(crate) fn check_result(&self, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(error) if self.is_write_failure(&error) => Ok(()),
            result => result,
        }
    }

    #[cold]
    fn is_write_failure(&self, error: &io::Error) -> bool {
        let Some(active) = &self.active else { return false };
        let Some(cause) = &active.write_error else { return false };
        match error.raw_os_error() {
            Some(code) => cause.raw_os_error() == Some(code),
            None => error.kind() == ErrorKind::NotConnected,
        }
    }

    /// Advances the end of the stream by one step. Returns the cause once it has ended.
    #[inline(always)]
    pub(super) fn poll_close(&mut self, readable: impl FnOnce() -> bool) -> Option<Cause> {
        if self.is_resting() {
            return None;
        }
        if self.write_half == WriteHalf::Failed {
            self.poll_failed(readable());
        }
        self.advance_close()
    }

    fn advance_close(&mut self) -> Option<Cause> {
        if let Some(active) = &mut self.active {
            active.send_mode = SendMode::Strict;
            if let Some(error) = active.pending_error.take() {
                return Some(self.first_cause(Cause::Error(error)));
            }
        }
        if self.is_filtered()
            && let Err(error) = self.finish_filter()
        {
            drop(self.fail_write(error));
        }
        let cause = self.next_close_step()?;
        Some(self.first_cause(cause))
    }

    fn next_close_step(&mut self) -> Option<Cause> {
        match self.close_state {
            CloseState::Open => {
                // Both halves have ended: nothing can follow.
                let has_ended =
                    self.read_half == ReadHalf::Eof && self.write_half == WriteHalf::Shut;
                has_ended.then_some(Cause::PeerClosed)
            }
            state if state.has_ended() => Some(self.local_cause()),
            state if state.ends_when_flushed() && self.is_flushed() => self.try_finish_close(),
            _ => None,
        }
    }

    /// Called once all output is written. Ends, unless that would destroy output.
    #[cold]
    fn try_finish_close(&mut self) -> Option<Cause> {
        if (self.read_half == ReadHalf::Eof && !self.is_wire_open())
            || self.is_connecting()
            || !self.endpoint.supports_half_close()
        {
            return Some(self.local_cause());
        }
        let unread = match self.probe_unread_input() {
            Ok(unread) => unread,
            Err(error) => return Some(Cause::Error(error)),
        };
        let is_shut = self.write_half == WriteHalf::Shut;
        let queue = match self.close_state {
            _ if !self.has_sent => SendQueue::Empty,
            CloseState::AwaitingTransmit => {
                // An entry of the error queue would keep the socket ready.
                self.endpoint.discard_queued_errors();
                self.endpoint.check_send_queue(is_shut)
            }
            _ => self.endpoint.watch_send_queue(is_shut),
        };
        match CloseState::next(unread, queue) {
            CloseStep::End => Some(self.local_cause()),
            CloseStep::Enter(state) => {
                self.close_state = state;
                if state != CloseState::Lingering || is_shut {
                    return None;
                }
                self.write_half = WriteHalf::Shut;
                self.endpoint.shutdown_write().err().map(Cause::Error)
            }
        }
    }

    /// Reads one byte, if there is one. Peeking would not see beyond an urgent byte.
    fn probe_unread_input(&mut self) -> io::Result<UnreadInput> {
        match read_once(&self.endpoint, &mut [0]) {
            Ok(0) => return Ok(UnreadInput::Eof),
            Ok(_) => self.discarded_input = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        // The peer of a filter answers its end.
        let has_input = self.discarded_input || self.awaits_filter_end();
        Ok(if has_input { UnreadInput::Discarded } else { UnreadInput::None })
    }

    fn local_cause(&self) -> Cause {
        if self.read_half == ReadHalf::Eof { Cause::PeerClosed } else { Cause::Local }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::rc::Rc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::address::Address;
    use crate::reactor::{ReadBuffer, TimeoutKind};
    use crate::stream::closing::LINGER_TIMEOUT;
    use crate::sys::either::Socket;
    use crate::sys::endpoint::Endpoint;

    fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket2::SockRef::from(&peer).set_recv_buffer_size(32 * 1024).unwrap();
        let socket = Socket::from_owned(listener.accept().unwrap().0.into()).unwrap();
        let endpoint = Endpoint::Socket(socket);
        (Connection::new(endpoint, Address::Unknown, Rc::default()), peer)
    }

    /// A connection that is closed, with what it sent and received before.
    fn closed(sent: usize, input: &[u8]) -> (Connection, TcpStream) {
        let (mut connection, mut peer) = pair();
        connection.send(&vec![0; sent]).unwrap();
        peer.write_all(input).unwrap();
        connection.close();
        assert_eq!(connection.close_state, CloseState::Flushing);
        assert_eq!(connection.unsent(), 0, "the kernel accepts it");
        (connection, peer)
    }

    fn poll(connection: &mut Connection) -> Option<String> {
        connection.poll_close(|| true).map(|cause| cause.to_string())
    }

    /// Discards input until the state is no longer `from`.
    fn discard_in(connection: &mut Connection, from: CloseState) {
        let end = Instant::now() + Duration::from_secs(10);
        while connection.close_state == from && Instant::now() < end {
            connection.discard(&mut [0; 100]);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How much the kernel accepts, and cannot send to a peer that does not read.
    const UNSENT: usize = 200_000;

    #[test]
    fn close_state_follows_its_table() {
        use CloseState::{Aborted, AwaitingTransmit, Closed, Flushing, Lingering};
        let local = Some("closed".to_owned());

        for state in [CloseState::Open, Flushing, AwaitingTransmit, Lingering] {
            let (mut connection, _peer) = pair();
            connection.close_state = state;
            connection.abort();
            assert_eq!(connection.close_state, Aborted);
            assert_eq!(poll(&mut connection), local);
            connection.finish(&CloseReason::new(Cause::Local, 0));
            assert_eq!(connection.close_state, Closed);
        }

        // Nothing unsent, and no input.
        let (mut connection, _peer) = closed(0, b"");
        assert_eq!(poll(&mut connection), local);

        // The read half is at `Eof`.
        let (mut connection, peer) = pair();
        peer.shutdown(Shutdown::Write).unwrap();
        let buffer = vec![0; size_of::<ReadBuffer>()].into_boxed_slice();
        let mut buffer = Box::<ReadBuffer>::try_from(buffer).unwrap();
        connection.receive(&mut buffer, Instant::now()).unwrap();
        connection.close();
        assert_eq!(poll(&mut connection), Some("closed by the peer".to_owned()));

        // One read returns 0.
        let (mut connection, peer) = closed(UNSENT, b"");
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(poll(&mut connection), local);

        // One read fails. Not where the system reads a reset as the end (wine).
        let (mut connection, peer) = closed(0, b"");
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        let reason = poll(&mut connection).unwrap();
        let reset = io::Error::from(rustix::io::Errno::CONNRESET).to_string();
        assert!(reason == reset || (cfg!(windows) && reason == "closed"), "{reason}");

        // The kernel holds output; then it has sent all, without and with input. Not where
        // the system does not report what is unsent.
        let (connection, _peer) = pair();
        let is_reported = connection.endpoint.watch_send_queue(false) != SendQueue::Unknown;
        let inputs: &[&[u8]] = if is_reported { &[b"", b"input"] } else { &[] };
        for &input in inputs {
            let (mut connection, mut peer) = closed(UNSENT, input);
            assert_eq!(poll(&mut connection), None);
            assert_eq!(connection.close_state, AwaitingTransmit);
            connection.discard(&mut [0; 100]);
            assert_eq!(poll(&mut connection), None);
            assert_eq!(connection.close_state, AwaitingTransmit);
            peer.read_exact(&mut vec![0; UNSENT]).unwrap();
            if input.is_empty() {
                assert_eq!(poll(&mut connection), local);
                continue;
            }
            assert_eq!(poll(&mut connection), None);
            assert_eq!(
                (connection.close_state, connection.write_half),
                (Lingering, WriteHalf::Shut)
            );
            // Input does not change the state; its end does.
            peer.write_all(b"more").unwrap();
            connection.discard(&mut [0; 2]);
            assert_eq!(connection.close_state, Lingering);
            drop(peer);
            discard_in(&mut connection, Lingering);
            assert_eq!(poll(&mut connection), local);
        }

        // The write half is shut, so that nothing is known.
        let (mut connection, _peer) = pair();
        connection.send(b"x").unwrap();
        connection.shutdown().unwrap();
        drop(connection.flush_gathered(|_| ()).unwrap());
        connection.close();
        assert_eq!(poll(&mut connection), None);
        assert_eq!(connection.close_state, Lingering);

        // Both halves have ended.
        let (mut connection, _peer) = pair();
        connection.read_half = ReadHalf::Eof;
        connection.write_half = WriteHalf::Shut;
        assert_eq!(poll(&mut connection), Some("closed by the peer".to_owned()));

        // The timeouts.
        let occurring = if is_reported { &[AwaitingTransmit, Lingering][..] } else { &[Lingering] };
        for &state in occurring {
            for close_timeout in [None, Some(LINGER_TIMEOUT / 2)] {
                let (mut connection, _peer) = closed(UNSENT, b"");
                assert_eq!(poll(&mut connection), None);
                connection.set_limits(crate::Limits { close_timeout, ..Default::default() });
                connection.close_state = state;
                let now = Instant::now();
                connection.record_activity(now);
                assert_eq!(connection.expire(now + LINGER_TIMEOUT / 4), None);
                assert_eq!(connection.close_state, state);
                let expired = connection.expire(now + LINGER_TIMEOUT);
                assert_eq!(expired, close_timeout.map(|_| TimeoutKind::Close));
                let after = if close_timeout.is_none() { Closed } else { state };
                assert_eq!(connection.close_state, after);
            }
        }
    }
}
