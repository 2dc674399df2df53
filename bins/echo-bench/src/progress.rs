//! [`Progress`]: what a person at a terminal sees meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that all threads move. Where standard error is no terminal it is not
/// drawn.
pub(crate) struct Progress {
    bar: ProgressBar,
    begun: Instant,
    messages: AtomicU64,
}

impl Progress {
    pub(crate) fn new(total: Duration) -> Self {
        let bar = ProgressBar::new(u64::try_from(total.as_millis()).unwrap_or(u64::MAX));
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {msg}") {
            bar.set_style(style);
        }
        Progress { bar, begun: Instant::now(), messages: AtomicU64::new(0) }
    }

    /// So many messages came to those before. Whether anybody sees it.
    pub(crate) fn more(&self, messages: u64) -> bool {
        if self.bar.is_hidden() {
            return false;
        }
        let all = self.messages.fetch_add(messages, Ordering::Relaxed) + messages;
        self.bar.set_position(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.bar.set_message(format!("{all} messages"));
        true
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
