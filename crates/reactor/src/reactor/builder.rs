//! [`Builder`]: a reactor with more than the defaults.

use std::io;
use std::time::Duration;

use crate::reactor::Reactor;
use crate::reactor::stats::Watch;

/// Makes a [`Reactor`] that watches over its callbacks, or looks for events
/// before it sleeps.
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
pub struct ReactorBuilder {
    watch: Watch,
    busy_poll: Duration,
}

impl Reactor {
    /// A reactor with more than the defaults.
    pub fn builder() -> ReactorBuilder {
        ReactorBuilder::default()
    }
}

impl ReactorBuilder {
    /// Logs a warning for each callback that takes longer than `most`: every
    /// other channel waited for it. Costs two looks at the clock a callback.
    #[must_use]
    pub fn slow_callback_threshold(mut self, most: Duration) -> Self {
        self.watch.slow_callback = Some(most);
        self
    }

    /// Logs a warning when a channel was told of `limit` events in a row
    /// without getting anything done (no byte moved, nobody accepted): its
    /// source is ready and stays so, which keeps a processor busy.
    ///
    /// A [`Dispatcher`](crate::Dispatcher) of one's own must say when it got
    /// something done: [`Context::progress`](crate::Context::progress).
    #[must_use]
    pub fn spin_limit(mut self, limit: u16) -> Self {
        self.watch.spin_limit = Some(limit);
        self
    }

    /// Before it goes to sleep, polls without blocking for up to `limit`: the
    /// answer to a message that comes so soon is quicker by what waking a
    /// thread takes, 30 µs or so. 100 µs is a good limit.
    ///
    /// It costs processor time only while it pays: after some looks in vain it
    /// sleeps at once, until an event that comes soon after shows that looking
    /// would have paid. Of no effect where the system has no epoll.
    #[must_use]
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.busy_poll = limit;
        self
    }

    /// Fails as [`Reactor::new`] does.
    pub fn build(self) -> io::Result<Reactor> {
        let mut reactor = Reactor::new()?;
        reactor.set_busy_poll(self.busy_poll);
        reactor.context().watch = self.watch;
        Ok(reactor)
    }
}
