//! [`SignalSource`]: Unix signals as a source that becomes readable.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::FORBIDDEN;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

pub use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::sys::source::Source;

/// Handlers for a set of signals, and a socket that is readable when one arrived.
pub(crate) struct SignalSource(SignalDelivery<UnixStream, SignalOnly>);

impl SignalSource {
    /// Installs handlers for `signals`, and unblocks them in this thread.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` for a signal that does not exist or cannot be handled.
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        if let Some(signal) = signals.iter().find(|signal| !can_register(**signal)) {
            let message = format!("signal {signal} cannot be handled");
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, [0_i32; 0])?;
        for &signal in signals {
            delivery.handle().add_signal(signal).map_err(|error| {
                io::Error::new(error.kind(), format!("signal {signal} cannot be handled: {error}"))
            })?;
        }
        // Only now: one that is pending would end the process without a handler.
        unblock(signals)?;
        Ok(SignalSource(delivery))
    }

    /// Installs handlers for the signals that ask a program to end.
    pub(crate) fn termination() -> io::Result<Self> {
        Self::new(&[SIGINT, SIGTERM])
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::from(self.0.get_read())
    }

    /// Removes the signals that arrived and returns their numbers.
    pub(crate) fn take_arrived(&mut self) -> impl Iterator<Item = i32> + '_ {
        self.0.pending()
    }
}

/// Returns `false` for a signal on which signal-hook panics. A number that it accepts
/// may still not exist.
fn can_register(signal: i32) -> bool {
    (1..128).contains(&signal) && !FORBIDDEN.contains(&signal)
}

/// Unblocks `signals` in this thread, since a process inherits from its parent which
/// signals are blocked. One thread suffices: the kernel delivers a signal of the
/// process to any thread that does not block it. Real-time signals have no names, so
/// that they stay as they are.
fn unblock(signals: &[i32]) -> io::Result<()> {
    let named = signals.iter().filter_map(|&signal| Signal::try_from(signal).ok());
    Ok(named.collect::<SigSet>().thread_unblock()?)
}

impl fmt::Debug for SignalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
