//! [`ActiveState`]: what a stream has only at times.

use std::io;
use std::time::Instant;

use crate::filter::Filter;
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
    pub(super) filtering: Option<Box<Filtering>>,
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
        self.filtering.is_some() || self.is_needed_without_filter()
    }

    fn is_needed_without_filter(&self) -> bool {
        self.connecting.is_some()
            || self.throttles.read.is_some()
            || self.throttles.write.is_some()
            || self.pending_error.is_some()
            || self.write_error.is_some()
            || self.stalled_since.is_some()
            || self.linger.is_some()
    }

    /// Returns `true` if all there is is a filter that waits for input.
    pub(super) fn has_open_filter_only(&self) -> bool {
        !self.is_needed_without_filter()
            && self.filtering.as_ref().is_some_and(|filtering| filtering.rests())
    }
}

/// The filters of a stream.
pub(super) struct Filtering {
    /// `None` after the last one has given way, until the protocol has read its input.
    pub(super) current: Option<Box<dyn Filter>>,
    /// Those that follow, the next one last.
    pub(super) later: Vec<Box<dyn Filter>>,
    pub(super) phase: FilterPhase,
    pub(super) wire: Wire,
    pub(super) input: ProtocolInput,
    pub(super) notified: Notified,
    /// The protocol is to be notified of a drain once the filter is ready.
    pub(super) drain_pending: bool,
    /// The filter has failed, and closes the stream.
    pub(super) closes_stream: bool,
    pub(super) failure: Failure,
}

/// The socket, as its filter sees it.
#[derive(Default)]
pub(super) struct Wire {
    /// Its input has ended.
    pub(super) has_ended: bool,
    /// The last write took less than it was offered.
    pub(super) is_blocked: bool,
}

/// What has passed the filter, and the protocol is to read.
#[derive(Default)]
pub(super) struct ProtocolInput {
    pub(super) bytes: Vec<u8>,
    /// The end follows `bytes`.
    pub(super) ends: bool,
}

impl ProtocolInput {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.ends
    }
}

/// State machine for what the protocol was notified of: `Unconnected`, or `Connected` if the
/// connection was in use before. When a filter is ready, `ConnectDue` or `UpgradeDue` until
/// the protocol is notified; then `Connected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notified {
    Unconnected,
    ConnectDue,
    Connected,
    UpgradeDue,
}

impl Notified {
    pub(super) fn is_due(self) -> bool {
        matches!(self, Notified::ConnectDue | Notified::UpgradeDue)
    }

    /// The state after a filter is ready.
    fn after_ready(self) -> Self {
        match self {
            Notified::Unconnected | Notified::ConnectDue => Notified::ConnectDue,
            Notified::Connected | Notified::UpgradeDue => Notified::UpgradeDue,
        }
    }

    /// The state after a failure, of which the protocol is notified instead.
    pub(super) fn after_failure(self) -> Self {
        match self {
            Notified::Unconnected | Notified::ConnectDue => Notified::Unconnected,
            Notified::Connected | Notified::UpgradeDue => Notified::Connected,
        }
    }
}

/// State machine for the error of a filter: `Pending` until the protocol has received
/// what preceded it, then `Closing` while the filter's last output is sent.
pub(super) enum Failure {
    None,
    Pending(io::Error),
    Closing(io::Error),
}

/// State machine for a filter: `Waiting` until the connection is established, then
/// `Handshake` until it is ready, `Open`, and `Finished` once it has ended the output.
/// The next filter starts in `Handshake`, with the same deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilterPhase {
    Waiting,
    Handshake {
        /// `None` before the stream settles, or for never.
        deadline: Option<Instant>,
    },
    Open,
    Finished,
}

impl Filtering {
    pub(super) fn new(filter: Box<dyn Filter>) -> Self {
        Filtering {
            current: Some(filter),
            later: Vec::new(),
            phase: FilterPhase::Waiting,
            wire: Wire::default(),
            input: ProtocolInput::default(),
            notified: Notified::Unconnected,
            drain_pending: false,
            closes_stream: false,
            failure: Failure::None,
        }
    }

    /// Returns `true` if nothing waits to be delivered, and only input is to follow.
    fn rests(&self) -> bool {
        self.phase == FilterPhase::Open
            && self.current.is_some()
            && self.input.is_empty()
            && !self.wire.has_ended
            && !self.notified.is_due()
            && matches!(self.failure, Failure::None)
    }

    pub(super) fn set_ready(&mut self) {
        if matches!(self.phase, FilterPhase::Waiting | FilterPhase::Handshake { .. }) {
            self.phase = FilterPhase::Open;
            self.notified = self.notified.after_ready();
        }
    }
}
