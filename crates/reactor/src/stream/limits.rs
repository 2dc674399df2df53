//! [`Limits`]: what one stream may cost.

use std::num::NonZeroU64;
use std::time::Duration;

/// How much memory one stream may use, and how long it may wait.
///
/// A stream with [`high_water`](Self::high_water) bytes of queued output stops reading if
/// some of that output was sent in reply to input, that is, in
/// [`handle_read`](crate::Protocol::handle_read). So an echo server, whose messages are
/// one read of at most 64 KiB, uses at most 128 KiB for each connection with the default
/// limits. Other output, such as an upload, does not stop reading, because two peers that
/// both send before they read would otherwise wait for each other.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use reactor::Limits;
///
/// let limits = Limits { idle_timeout: Some(Duration::from_secs(60)), ..Limits::default() };
/// assert_eq!(limits.high_water, 64 * 1024 + 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Once this many bytes are queued, [`send`](crate::Connection::send) returns
    /// `WouldBlock`, and reading stops if replies are among them. Default: 64 KiB and one
    /// byte, so that one read alone does not reach it.
    pub high_water: usize,
    /// A callback that starts below [`high_water`](Self::high_water) may exceed it by one
    /// message of any size, and then by this many bytes, so that a reply may consist of
    /// several messages. The limit does not apply to
    /// [`handle_write`](crate::Protocol::handle_write), where
    /// [`send`](crate::Connection::send) returns `WouldBlock` at the mark. Default: 16
    /// MiB.
    pub max_excess: usize,
    /// Continues to read, however much output is queued. Use this in clients that reply
    /// to input with more than [`high_water`](Self::high_water) bytes, to a peer that
    /// does the same. Default: `false`.
    pub read_while_congested: bool,
    /// Once no more than this many bytes are queued, reading resumes. A value greater
    /// than or equal to [`high_water`](Self::high_water) is treated as `high_water - 1`.
    /// Default: 16 KiB.
    pub low_water: usize,
    /// Closes the stream after this long without traffic. As after any timeout, a TCP
    /// connection is reset. Default: none.
    pub idle_timeout: Option<Duration>,
    /// Closes a stream whose peer reads none of the queued output for this long;
    /// `None` for never. Default: one minute.
    pub stall_timeout: Option<Duration>,
    /// The maximum time that [`close`](crate::Connection::close) waits, after all queued
    /// output has been written to the socket, for the peer to receive it. `None` means no
    /// limit while the peer makes progress. Default: two minutes.
    pub close_timeout: Option<Duration>,
    /// Limits how long connecting may take, for all addresses together, name
    /// resolution included; `None` for the system's own limit. Default: 30 seconds.
    pub connect_timeout: Option<Duration>,
    /// Limits how long the filters of a stream may take to be ready, for example for a TLS
    /// handshake; `None` for no limit. Default: 10 seconds.
    pub handshake_timeout: Option<Duration>,
    /// Limits reading to this many bytes per second, averaged over a tenth of a second
    /// or more; TCP then slows the peer down. Default: none.
    pub read_rate: Option<NonZeroU64>,
    /// Limits writing to this many bytes per second, averaged over a tenth of a second
    /// or more. Default: none.
    pub write_rate: Option<NonZeroU64>,
}

impl Limits {
    /// The low-water mark in force.
    pub(super) fn low_water(&self) -> usize {
        self.low_water.min(self.high_water.saturating_sub(1))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            high_water: 64 * 1024 + 1,
            max_excess: 16 * 1024 * 1024,
            read_while_congested: false,
            low_water: 16 * 1024,
            idle_timeout: None,
            stall_timeout: Some(Duration::from_secs(60)),
            close_timeout: Some(Duration::from_secs(120)),
            connect_timeout: Some(Duration::from_secs(30)),
            handshake_timeout: Some(Duration::from_secs(10)),
            read_rate: None,
            write_rate: None,
        }
    }
}
