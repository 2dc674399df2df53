//! [`Signals`]: Unix signals, and console events of Windows, as events of the loop.

use std::fmt;
use std::io;

use crate::reactor::{Context, Dispatcher};
use crate::sys::either::SignalSource;
use crate::sys::source::Source;

#[cfg(unix)]
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
/// use reactor::{Reactor, signal::Signals};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// // Peers may finish, for at most three seconds. `cx.stop()` instead would leave the
/// // loop at once, with channels open.
/// reactor.add(Signals::termination(|cx| cx.drain(Duration::from_secs(3)))?)?;
/// reactor.run() // there is nothing else to wait for: returns at once
/// # }
/// ```
#[must_use]
pub struct Signals {
    source: SignalSource,
    handler: Handler,
}

impl Signals {
    /// Handles what asks a program to end:
    ///
    /// - on Unix, SIGINT (Ctrl-C) and SIGTERM, as [`new`](Self::new) does. A closed terminal
    ///   (SIGHUP) is not included, since programs started by nohup(1) ignore it;
    /// - on Windows, Ctrl-C and Ctrl-Break in the console of the program, and that this
    ///   console is closed or the system is shut down. After one of the last two, the system
    ///   ends the process about five seconds later, so a drain must be shorter.
    ///
    /// From then on these events do not terminate the process, even after this value is
    /// dropped, except the last two.
    ///
    /// # Errors
    ///
    /// Returns the system's error if no file descriptors are available, or there is no
    /// memory.
    pub fn termination(mut handler: impl FnMut(&mut Context) + 'static) -> io::Result<Self> {
        let handler = Box::new(move |cx: &mut Context, _| handler(cx));
        Ok(Signals { source: SignalSource::termination()?, handler })
    }

    /// Installs handlers for `signals`. From then on these signals do not terminate the
    /// process, even after this value is dropped.
    ///
    /// Those that are blocked, for example since the process was started, are unblocked
    /// in this thread, except real-time signals. Windows has no such signals, and not this
    /// function.
    ///
    /// # Errors
    ///
    /// * `InvalidInput` for a signal that does not exist, cannot be handled (`SIGKILL`,
    ///   `SIGSTOP`) or reports a fault of the program itself (`SIGSEGV`, `SIGILL`,
    ///   `SIGFPE`);
    /// * the system's error if no file descriptors are available.
    #[cfg(unix)]
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
