//! [`ActiveState`]: what a stream has only at times.

use std::io;
use std::time::Instant;

use crate::output_buffer::SendMode;
use crate::stream::connect::Connecting;
use crate::stream::throttle::Throttle;

/// Rate limits, which few streams have.
#[derive(Default)]
pub(super) struct Throttles {
    pub(super) read: Option<Throttle>,
    pub(super) write: Option<Throttle>,
}

/// What a stream has only at times: most streams of a server are idle, and small.
#[derive(Default)]
pub(super) struct ActiveState {
    pub(super) connecting: Option<Connecting>,
    pub(super) throttles: Throttles,
    /// An error with which the stream closes when it settles.
    pub(super) pending_error: Option<io::Error>,
    /// The error of the write half that has failed.
    pub(super) write_error: Option<io::Error>,
    /// Since when the peer has read no output, or a closing stream has waited.
    pub(super) stalled_since: Option<Instant>,
    pub(super) linger: Option<Linger>,
    /// As that of the output, while there is none: output that is not gathered.
    pub(super) send_mode: SendMode,
}

/// The progress of a stream that is closing and flushed.
pub(super) struct Linger {
    pub(super) since: Instant,
    /// When it was last seen that the peer reads.
    pub(super) progress_at: Instant,
    /// What the kernel had not sent then, as
    /// [`measure_send_queue`](crate::sys::endpoint::Endpoint::measure_send_queue) returns
    /// it.
    pub(super) unsent: Option<u32>,
}

impl ActiveState {
    pub(super) fn is_needed(&self) -> bool {
        self.connecting.is_some()
            || self.throttles.read.is_some()
            || self.throttles.write.is_some()
            || self.pending_error.is_some()
            || self.write_error.is_some()
            || self.stalled_since.is_some()
            || self.linger.is_some()
    }
}
