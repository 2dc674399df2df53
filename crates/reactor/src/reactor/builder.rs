//! [`ReactorBuilder`]: a reactor with other than the default settings.

use std::io;
use std::time::Duration;

use crate::reactor::Reactor;
use crate::reactor::stats::CallbackMonitor;

/// Creates a [`Reactor`] that monitors its callbacks, or polls before it sleeps.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use reactor::Reactor;
///
/// # fn main() -> std::io::Result<()> {
/// let reactor = Reactor::builder()
///     .slow_callback_threshold(Duration::from_millis(50))
///     .spin_limit(1_000)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ReactorBuilder {
    monitor: CallbackMonitor,
    busy_poll: Duration,
}

impl Reactor {
    /// Returns a builder for a reactor with other than the default settings.
    pub fn builder() -> ReactorBuilder {
        ReactorBuilder::default()
    }
}

impl ReactorBuilder {
    /// Logs a warning for each callback that runs longer than `threshold` and so blocks
    /// all other channels. It costs two clock readings for each callback.
    pub fn slow_callback_threshold(mut self, threshold: Duration) -> Self {
        self.monitor.slow_callback_threshold = Some(threshold);
        self
    }

    /// Logs a warning when a channel had `limit` events in a row without progress (no
    /// byte moved, no connection accepted). Its source stays ready, which keeps a
    /// processor busy. Only streams, listeners and datagram sockets are checked.
    pub fn spin_limit(mut self, limit: u16) -> Self {
        self.monitor.spin_limit = Some(limit);
        self
    }

    /// Polls without blocking for up to `limit` before the reactor sleeps. This uses
    /// processor time, but events that arrive in that time are handled sooner. 100 µs is
    /// a good limit. Default: zero, which disables polling.
    ///
    /// After several attempts without an event, polling is suspended until an event
    /// arrives within `limit`. It has no effect on systems without epoll.
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.busy_poll = limit;
        self
    }

    /// Creates the reactor.
    ///
    /// # Errors
    ///
    /// The same as for [`Reactor::new`].
    pub fn build(self) -> io::Result<Reactor> {
        let mut reactor = Reactor::new()?;
        reactor.set_busy_poll(self.busy_poll);
        reactor.context().monitor = self.monitor;
        Ok(reactor)
    }
}
