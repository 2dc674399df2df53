//! [`Rejected`]: the graceful close of a connection over the limit.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::reactor::{Context, Dispatcher};
use crate::sys::either::Socket;
use crate::sys::source::Source;

/// How long a rejected peer has to read the last message and to end.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How many rejected peers one listener waits for. Others are closed at once, which
/// may reset them.
const MAX_LINGERING: usize = 128;

/// How many reads discard what the peer sent to a connection that is closed at once.
const MAX_DISCARDS: usize = 64;

/// Counts the rejected connections of one listener that are still open.
#[derive(Clone, Default)]
pub(super) struct Lingering(Rc<()>);

impl Lingering {
    /// Sends `message` and the end of input. Then input is discarded until the peer
    /// closes its side too, because the kernel answers unread input with a reset, which
    /// may overtake the message.
    pub(super) fn reject(&self, cx: &mut Context, socket: Socket, message: Vec<u8>) {
        let mut rejected = Rejected {
            socket,
            message,
            deadline: cx.clock().checked_add(TIMEOUT),
            _counted: self.clone(),
        };
        if rejected.write_message().is_err() || rejected.has_ended(cx) {
            return;
        }
        if Rc::strong_count(&self.0) <= MAX_LINGERING + 1 {
            // If the reactor is ending, the socket is closed.
            let _ = cx.add(rejected);
        }
    }
}

struct Rejected {
    socket: Socket,
    /// What is not written yet.
    message: Vec<u8>,
    deadline: Option<Instant>,
    _counted: Lingering,
}

impl Rejected {
    /// Writes what the kernel accepts, and after that the end.
    fn write_message(&mut self) -> io::Result<()> {
        while !self.message.is_empty() {
            match self.socket.write(&self.message) {
                Ok(written) => drop(self.message.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.socket.shutdown_write()
    }

    /// Discards what has arrived. Returns `true` if the peer has closed its side.
    fn has_ended(&self, cx: &mut Context) -> bool {
        let mut buffer = cx.lend_read_buffer();
        let mut ended = false;
        for _ in 0..MAX_DISCARDS {
            match self.socket.read(&mut *buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let is_blocked = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
                    ended = !result.as_ref().is_err_and(is_blocked);
                    break;
                }
            }
        }
        cx.return_read_buffer(buffer);
        ended
    }
}

impl Dispatcher for Rejected {
    fn source(&self) -> Source<'_> {
        self.socket.source()
    }

    fn writable(&self) -> bool {
        !self.message.is_empty()
    }

    fn update_deadline(&mut self, _cx: &Context) -> Option<Instant> {
        self.deadline
    }

    fn unsent(&self) -> usize {
        self.message.len()
    }

    /// It does not keep the loop alive.
    fn is_background(&self) -> bool {
        true
    }

    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.has_ended(cx) {
            cx.close(cx.token());
        }
        Ok(())
    }

    fn handle_write(&mut self, _cx: &mut Context) -> io::Result<()> {
        self.write_message()
    }

    /// Discards it too; it would keep the socket ready.
    fn handle_expt(&mut self, _cx: &mut Context) -> io::Result<()> {
        self.socket.take_urgent_byte();
        Ok(())
    }

    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        cx.close(cx.token());
        Ok(())
    }
}
