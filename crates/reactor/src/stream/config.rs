//! [`StreamConfig`]: what the streams of one listener share.

use crate::stream::connection_limit::ConnectionLimit;
use crate::stream::limits::Limits;
use crate::token::Token;

/// What the streams of one listener share.
#[derive(Clone, Default)]
pub(crate) struct StreamConfig {
    pub(super) limits: Limits,
    /// Each of the streams counts until it is dropped.
    counted_by: Option<ConnectionLimit>,
    /// Is notified when the stream is connected, and when it has ended.
    pub(super) reconnector: Option<Token>,
}

impl StreamConfig {
    /// The configuration of streams that `limit` counts when they are accepted.
    pub(crate) fn counted(limits: Limits, limit: ConnectionLimit) -> Self {
        StreamConfig { limits, counted_by: Some(limit), reconnector: None }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts one stream less.
    pub(crate) fn release(&self) {
        if let Some(limit) = &self.counted_by {
            limit.release();
        }
    }
}
