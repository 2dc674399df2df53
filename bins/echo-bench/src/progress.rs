//! [`Progress`]: the progress bar.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar that all threads advance. It is drawn only if standard error
/// is a terminal, and removed when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    started_at: Instant,
    messages: AtomicU64,
}

impl Progress {
    /// Creates a bar for a run that takes `total`, starting now.
    pub(crate) fn new(total: Duration) -> Self {
        let bar = ProgressBar::new(as_millis(total));
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {msg}") {
            bar.set_style(style);
        }
        Progress { bar, started_at: Instant::now(), messages: AtomicU64::new(0) }
    }

    /// Returns `true` if the bar is drawn.
    pub(crate) fn is_visible(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Adds `messages` to the count, and moves the bar.
    pub(crate) fn add(&self, messages: u64) {
        let total = self.messages.fetch_add(messages, Ordering::Relaxed) + messages;
        self.bar.set_position(as_millis(self.started_at.elapsed()));
        self.bar.set_message(format!("{total} messages"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
