//! [`Signals`]: Unix signals as events of the loop.

use std::fmt;
use std::io;

use crate::reactor::{Context, Dispatcher};
use crate::sys::signals::SignalSource;
use crate::sys::source::Source;

pub use crate::sys::signals::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// Handles a signal, given its number.
type Handler = Box<dyn FnMut(&mut Context, i32)>;

/// Calls a closure for each signal that arrives, in the loop rather than in a signal
/// handler, so that it may do anything a callback may.
///
/// Several signals of one number that arrive close together may be reported once, as by
/// the kernel. This channel does not keep the loop running.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use reactor::{Reactor, signal::{self, Signals}};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// // Peers may finish, for at most five seconds. `cx.stop()` instead would leave the
/// // loop at once, with channels open.
/// reactor.add(Signals::new(&[signal::SIGINT, signal::SIGTERM], |cx, _| {
///     cx.drain(Duration::from_secs(5));
/// })?)?;
/// reactor.run() // there is nothing else to wait for: returns at once
/// # }
/// ```
#[must_use]
pub struct Signals {
    source: SignalSource,
    handler: Handler,
}

impl Signals {
    /// Installs handlers for `signals`. From then on these signals do not terminate the
    /// process, even after this value is dropped.
    ///
    /// Those that are blocked, for example since the process was started, are unblocked
    /// in this thread, except real-time signals.
    ///
    /// # Errors
    ///
    /// * `InvalidInput` for a signal that does not exist, cannot be handled (`SIGKILL`,
    ///   `SIGSTOP`) or reports a fault of the program itself (`SIGSEGV`, `SIGILL`,
    ///   `SIGFPE`);
    /// * the system's error if no file descriptors are available.
    pub fn new(
        signals: &[i32],
        handler: impl FnMut(&mut Context, i32) + 'static,
    ) -> io::Result<Self> {
        Ok(Signals { source: SignalSource::new(signals)?, handler: Box::new(handler) })
    }
}

impl Dispatcher for Signals {
    fn source(&self) -> Source<'_> {
        self.source.source()
    }

    fn is_background(&self) -> bool {
        true
    }

    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        for signal in self.source.take_arrived() {
            // The handler closed this channel.
            if cx.is_closing() {
                break;
            }
            (self.handler)(cx, signal);
        }
        Ok(())
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("source", &self.source).finish_non_exhaustive()
    }
}
