//! [`ReplyTimeout`]: a timeout for pending replies.

use std::time::{Duration, Instant};

use reactor::Io;

/// Measures the time without data from the server while replies are pending.
///
/// The stream's idle timeout does not serve this purpose: it also runs while no
/// reply is pending, and sending restarts it, so that steady input would hide a
/// server that never replies.
pub(crate) struct ReplyTimeout {
    timeout: Duration,
    /// The clock's time and not the turn's: writing to standard output may
    /// block for longer than the timeout.
    last_progress_at: Instant,
    /// A timer is set. Progress does not move it; when it expires, it is set
    /// again for the rest of the time.
    timer_is_set: bool,
}

impl ReplyTimeout {
    pub(crate) fn new(timeout: Duration) -> Self {
        ReplyTimeout { timeout, last_progress_at: Instant::now(), timer_is_set: false }
    }

    /// Starts the timeout: replies are pending from now on.
    pub(crate) fn start(&mut self, io: &mut Io<'_>) {
        self.record_progress();
        self.set_timer(io);
    }

    /// Restarts the timeout: the server made progress.
    pub(crate) fn record_progress(&mut self) {
        self.last_progress_at = Instant::now();
    }

    /// Records that the timer has expired. Call it from `handle_timer`.
    pub(crate) fn on_timer(&mut self) {
        self.timer_is_set = false;
    }

    /// Returns `true` if the time without progress has reached the timeout.
    pub(crate) fn has_expired(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Sets a timer for the remaining time, unless one is set.
    pub(crate) fn set_timer(&mut self, io: &mut Io<'_>) {
        if !self.timer_is_set {
            io.set_timer(self.remaining());
            self.timer_is_set = true;
        }
    }

    fn remaining(&self) -> Duration {
        self.timeout.saturating_sub(self.last_progress_at.elapsed())
    }
}
