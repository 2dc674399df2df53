//! [`Progress`]: the progress bar.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Interval at which the bar is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Time to remove the bar. A stopped terminal (Ctrl-S) must not delay the end.
const CLEAR_TIMEOUT: Duration = Duration::from_millis(500);

/// The number of messages, which all threads add to.
#[derive(Default)]
pub(crate) struct MessageCount(AtomicU64);

impl MessageCount {
    /// Adds `messages`.
    pub(crate) fn add(&self, messages: u64) {
        self.0.fetch_add(messages, Ordering::Relaxed);
    }
}

/// A progress bar on a separate thread, since a terminal may block. It is drawn
/// only if standard error is a terminal, and removed when dropped.
pub(crate) struct Progress {
    count: Arc<MessageCount>,
    /// Dropped to end the thread.
    end_tx: Option<Sender<()>>,
    cleared_rx: Receiver<()>,
}

impl Progress {
    /// Creates a bar for a run that takes `total`, starting now.
    pub(crate) fn new(total: Duration) -> Self {
        let count = Arc::<MessageCount>::default();
        let (end_tx, end_rx) = mpsc::channel();
        let (cleared_tx, cleared_rx) = mpsc::channel();
        if io::stderr().is_terminal() {
            let count = Arc::clone(&count);
            let draw = move || {
                draw_until_end(total, &count, &end_rx);
                // The other end may have given up.
                let _ = cleared_tx.send(());
            };
            // Without the thread there is no bar.
            let _ = thread::Builder::new().name("progress".to_owned()).spawn(draw);
        }
        Progress { count, end_tx: Some(end_tx), cleared_rx }
    }

    /// Returns the count that the bar shows.
    pub(crate) fn count(&self) -> &Arc<MessageCount> {
        &self.count
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end_tx.take());
        // Returns at once if there is no thread.
        let _ = self.cleared_rx.recv_timeout(CLEAR_TIMEOUT);
    }
}

fn draw_until_end(total: Duration, count: &MessageCount, end_rx: &Receiver<()>) {
    let started_at = Instant::now();
    let bar = ProgressBar::new(as_millis(total));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {msg}") {
        bar.set_style(style);
    }
    while end_rx.recv_timeout(DRAW_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        bar.set_position(as_millis(started_at.elapsed()));
        bar.set_message(format!("{} messages", count.0.load(Ordering::Relaxed)));
    }
    bar.finish_and_clear();
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
