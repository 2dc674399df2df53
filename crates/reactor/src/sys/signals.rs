//! [`SignalSource`]: Unix signals as a source that becomes readable.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::FORBIDDEN;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

pub use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::sys::source::Source;

/// Handlers for a set of signals, and a socket that is readable when one arrived.
pub(crate) struct SignalSource(SignalDelivery<UnixStream, SignalOnly>);

impl SignalSource {
    /// Installs handlers for `signals`.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` for a signal that cannot be handled.
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        // signal-hook panics on these.
        if let Some(signal) = signals.iter().find(|signal| FORBIDDEN.contains(signal)) {
            let message = format!("signal {signal} cannot be handled");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        SignalDelivery::with_pipe(read, write, SignalOnly, signals).map(SignalSource)
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::from(self.0.get_read())
    }

    /// Removes the signals that arrived and returns their numbers.
    pub(crate) fn take_arrived(&mut self) -> impl Iterator<Item = i32> + '_ {
        self.0.pending()
    }
}

impl fmt::Debug for SignalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
