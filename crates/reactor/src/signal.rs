//! [`Signals`]: Unix signals as events of the loop.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::FORBIDDEN;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

pub use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::reactor::context::Context;
use crate::reactor::dispatcher::Dispatcher;

/// What to do about a signal, given its number.
type Handler = Box<dyn FnMut(&mut Context, i32)>;

/// Calls a closure for each signal that arrives, in the loop and not in a
/// signal handler, so that it may do anything a callback may.
///
/// Several signals of one number that arrive close together may be reported
/// once, as the kernel does it. This channel does not keep the loop running.
///
/// ```
/// use std::time::Duration;
/// use reactor::{Reactor, signal::{self, Signals}};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// // Peers may finish, for five seconds at most. `cx.stop()` in place of it
/// // would leave the loop at once, with what is open.
/// reactor.add(Signals::new([signal::SIGINT, signal::SIGTERM], |cx, _| {
///     cx.drain(Duration::from_secs(5));
/// })?)?;
/// reactor.run() // nothing else is there to wait for: returns at once
/// # }
/// ```
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    handler: Handler,
}

impl Signals {
    /// Installs handlers for `signals`; from here on they no longer end the
    /// process by themselves, not even after this value is dropped.
    ///
    /// Fails where no more descriptors are to be had, and with `InvalidInput`
    /// for a signal that cannot be caught (`SIGKILL`, `SIGSTOP`) or stands for
    /// a fault of the program itself (`SIGSEGV`, `SIGILL`, `SIGFPE`).
    pub fn new(
        signals: impl IntoIterator<Item = i32>,
        handler: impl FnMut(&mut Context, i32) + 'static,
    ) -> io::Result<Self> {
        let signals: Vec<_> = signals.into_iter().collect();
        // signal-hook panics on these.
        if let Some(signal) = signals.iter().find(|signal| FORBIDDEN.contains(signal)) {
            let message = format!("signal {signal} cannot be caught");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
        Ok(Signals { delivery, handler: Box::new(handler) })
    }
}

impl Dispatcher for Signals {
    fn source(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    fn is_background(&self) -> bool {
        true
    }

    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        for signal in self.delivery.pending() {
            cx.progress();
            (self.handler)(cx, signal);
        }
        Ok(())
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}
