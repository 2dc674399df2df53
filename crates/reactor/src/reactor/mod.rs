//! The event loop. [`turn`] contains the turn from top to bottom.

mod builder;
mod call;
mod close_reason;
mod context;
mod dispatcher;
mod drain;
mod handle;
mod inbox;
mod panic;
mod registration;
mod schedule;
mod settle;
mod slots;
mod stats;
#[cfg(test)]
mod tests;
mod timers;
mod turn;

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::poll::either::{Events, Poller};
use crate::sys::source::Source;
use crate::token::Token;

pub use builder::ReactorBuilder;
pub use close_reason::{Cause, CloseReason, TimeoutKind};
pub use context::{ChannelInfo, Context};
pub use dispatcher::Dispatcher;
pub use handle::{Handle, ReactorClosed};
pub use inbox::{Inbox, InboxSender, SendError, inbox};
pub use stats::Stats;
pub use timers::TimerId;

pub(crate) use context::{READ_BUFFER_SIZE, ReadBuffer};
pub(crate) use panic::catch_panic;

/// An event loop and the channels it serves, all on one thread.
///
/// A reactor is not [`Send`]: create it on the thread that runs it. Other threads
/// reach it through a [`Handle`] or an [`inbox()`].
///
/// It belongs to the process that created it. A child of fork(2) may drop its copy,
/// which closes the descriptors of the child and does not affect the parent. All other
/// use is an error there.
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::net::TcpListener;
/// use reactor::{Io, Protocol, Reactor, Stream};
///
/// struct Hello;
///
/// impl Protocol for Hello {
///     fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
///         io.send(b"hello")?;
///         io.close();
///         Ok(())
///     }
///     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
///         Ok(())
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let mut reactor = Reactor::new()?;
/// reactor.add(Stream::connect([server.local_addr()?], Hello))?;
/// reactor.run()?; // returns once the stream is closed
/// assert_eq!(io::read_to_string(server.accept()?.0)?, "hello");
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Reactor {
    cx: Context,
    events: Events,
}

impl Reactor {
    /// Creates a reactor with no channels.
    ///
    /// # Errors
    ///
    /// Returns an error if its file descriptors (four on Linux) cannot be opened.
    pub fn new() -> io::Result<Self> {
        Self::with_poller(Poller::new()?)
    }

    fn with_poller(poller: Poller) -> io::Result<Self> {
        let events = poller.new_events()?;
        Ok(Reactor { cx: Context::new(poller), events })
    }

    /// Adds a channel and returns its token. See [`Context::add`].
    ///
    /// # Errors
    ///
    /// The same as for [`Context::add`].
    pub fn add(&mut self, dispatcher: impl Dispatcher) -> io::Result<Token> {
        self.cx.add(dispatcher)
    }

    /// Returns a channel, from outside the loop. See [`Context::get_mut`].
    pub fn get_mut<T: Dispatcher>(&mut self, token: Token) -> Option<&mut T> {
        self.cx.get_mut(token)
    }

    /// Returns a handle for posting work to this reactor from other threads.
    pub fn handle(&self) -> Handle {
        self.cx.handle()
    }

    /// Returns the context that callbacks receive, to set timers or to stop from
    /// outside a callback.
    pub fn context(&mut self) -> &mut Context {
        &mut self.cx
    }

    /// Runs until no work remains (no foreground channel, no [`Context::call_later`], no
    /// post), or until [`Context::stop`]. After a stop the channels stay open. Run the
    /// reactor again, or drop it.
    ///
    /// # Errors
    ///
    /// Returns an error if the system's poller fails, or in a child of fork(2). Errors of
    /// channels close the channel and do not end the loop.
    pub fn run(&mut self) -> io::Result<()> {
        self.run_turns(usize::MAX).map(drop)
    }

    /// Runs at most `count` turns (asyncore's `count`). Returns `true` if work
    /// remains, as [`turn`](Self::turn) does.
    ///
    /// # Errors
    ///
    /// The same as for [`run`](Self::run).
    pub fn run_turns(&mut self, count: usize) -> io::Result<bool> {
        self.cx.poller.owner().check()?;
        self.cx.settle_pending();
        let mut continues = self.cx.continue_run();
        for _ in 0..count {
            if !continues {
                break;
            }
            continues = self.run_turn(None)?;
        }
        Ok(continues)
    }

    /// Runs until the channel `token` is closed, and returns why it closed. Other
    /// channels are served meanwhile, and stay open.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if there is no such channel, `Interrupted` if
    /// [`Context::stop`] ended the loop first, and an error if the system's poller
    /// fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use reactor::{Cause, Io, Protocol, Reactor, Stream};
    ///
    /// struct Probe;
    ///
    /// impl Protocol for Probe {
    ///     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let addr = server.local_addr()?;
    /// let mut reactor = Reactor::new()?;
    /// let token = reactor.add(Stream::connect([addr], Probe))?;
    /// # drop(server.accept()?);
    /// let reason = reactor.run_until_closed(token)?;
    /// assert!(matches!(reason.cause, Cause::PeerClosed));
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_until_closed(&mut self, token: Token) -> io::Result<CloseReason> {
        self.cx.poller.owner().check()?;
        self.cx.await_close(token)?;
        self.cx.settle_pending();
        let mut continues = self.cx.continue_run();
        loop {
            if let Some(reason) = self.cx.take_awaited_close() {
                return Ok(reason);
            }
            if !continues {
                let message = "the reactor stopped before the channel closed";
                return Err(io::Error::new(io::ErrorKind::Interrupted, message));
            }
            continues = self.run_turn(None)?;
        }
    }

    /// Returns the instant at which the next [`turn`](Self::turn) has work to do
    /// even if no source becomes ready, or `None` if there is no such instant. It
    /// may be in the past.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.cx.wait_deadline(None)
    }

    /// Returns a source that is readable if a channel has an event or a post is pending, to
    /// watch this reactor from another loop. It is [`Source::NONE`] on Windows, and on systems that only
    /// have poll(2).
    pub fn source(&self) -> Source<'_> {
        self.cx.poller.source()
    }

    /// Returns this reactor's counters.
    pub fn stats(&self) -> &Stats {
        self.cx.stats()
    }

    /// Closes every channel, with [`Cause::Shutdown`]. Pending output is discarded and
    /// counted in the close reason; to shut down gracefully, use [`Context::drain`]. It
    /// has no effect in a child of fork(2).
    pub fn close_all(&mut self) {
        if self.cx.poller.owner().is_this_process() {
            self.cx.close_all();
            self.cx.settle_pending();
        }
    }

    fn set_busy_poll(&mut self, limit: Duration) {
        self.events.set_busy_poll(limit);
    }
}

impl Drop for Reactor {
    /// Closes every channel, as [`Reactor::close_all`] does. Later posts fail.
    fn drop(&mut self) {
        self.cx.shut_down();
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cx.fmt_as("Reactor", f)
    }
}
