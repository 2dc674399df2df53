//! [`ConnectionLimit`]: how many accepted connections may be open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A limit on the number of open connections, and the count of those that are open.
///
/// Clones share the count. Give one to the listeners of several threads, and it limits
/// the server as a whole:
///
/// ```
/// # use std::io;
/// # use reactor::{ConnectionLimit, Io, Listener, Protocol};
/// # struct Echo;
/// # impl Protocol for Echo {
/// #     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> { io.send(data) }
/// # }
/// # fn main() -> io::Result<()> {
/// let limit = ConnectionLimit::new(1_000);
/// let listener =
///     Listener::bind("127.0.0.1:0", |_| Ok(Echo))?.with_connection_limit(limit.clone());
/// assert_eq!(limit.open_count(), 0);
/// # drop(listener);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ConnectionLimit {
    max: usize,
    open: Arc<AtomicUsize>,
}

impl ConnectionLimit {
    /// Creates a limit of `max` connections.
    pub fn new(max: usize) -> Self {
        ConnectionLimit { max, open: Arc::default() }
    }

    /// Returns the largest number of connections.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Returns the number of open connections.
    pub fn open_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts one more connection. Returns `false` if the limit is reached.
    pub(crate) fn try_acquire(&self) -> bool {
        let more = |open| (open < self.max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts one connection less.
    pub(crate) fn release(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for ConnectionLimit {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_count() {
        let limit = ConnectionLimit::new(2);
        let other = limit.clone();
        assert!(limit.try_acquire() && other.try_acquire());
        assert!(!limit.try_acquire() && !other.try_acquire());
        other.release();
        assert_eq!(limit.open_count(), 1);
        assert!(limit.try_acquire());
    }
}
