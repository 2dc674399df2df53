//! How much is sent at a time, and the limits of the connection.

use std::time::Duration;

use reactor::Limits;

/// Maximum number of bytes in one call of [`Connection::send`](reactor::Connection::send).
pub(crate) const SEND_CHUNK: usize = 64 * 1024;

/// Returns the limits that both kinds of conversation share.
pub(crate) fn connection_limits(connect_timeout: Duration, timeout: Duration) -> Limits {
    Limits {
        connect_timeout: Some(connect_timeout),
        handshake_timeout: Some(timeout),
        // One chunk may be queued while the next is sent. The high-water mark
        // is much higher, since reading stops there: if the server also stops
        // reading when its output is full, both would wait for each other.
        low_water: SEND_CHUNK,
        high_water: 4 * SEND_CHUNK,
        // Each protocol has its own timeout for a server without progress.
        stall_timeout: None,
        ..Limits::default()
    }
}
