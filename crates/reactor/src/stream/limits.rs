//! [`Limits`]: what one stream may cost.

use std::num::NonZeroU64;
use std::time::Duration;

/// How much memory one stream may hold, and how long it may wait.
///
/// A stream that holds [`high_water`](Self::high_water) bytes of output stops
/// reading; so an echo server, whose messages are one read of at most 64 KiB,
/// holds at most 128 KiB for each connection with the default limits.
///
/// ```
/// use std::time::Duration;
/// use reactor::Limits;
///
/// let limits = Limits { idle_timeout: Some(Duration::from_secs(60)), ..Limits::default() };
/// assert_eq!(limits.high_water, 64 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// With so many bytes of output waiting, [`send`](crate::Io::send) takes
    /// no further message and reading stops. Default: 64 KiB.
    pub high_water: usize,
    /// With no more than so many bytes of output waiting, reading resumes; a
    /// mark that is not below [`high_water`](Self::high_water) counts as just
    /// below it. Default: 16 KiB.
    pub low_water: usize,
    /// Closes a stream on which nothing was received or sent for so long.
    /// Default: none.
    pub idle_timeout: Option<Duration>,
    /// Closes a stream whose peer took none of the waiting output for so
    /// long; `None` for never. Default: one minute.
    pub stall_timeout: Option<Duration>,
    /// How long connecting may take, all addresses together; `None` for as long
    /// as the system tries. Default: 30 seconds.
    pub connect_timeout: Option<Duration>,
    /// Reads no more than so many bytes a second, on average over a tenth of
    /// a second and more; TCP then slows the peer down. Default: no limit.
    pub read_rate: Option<NonZeroU64>,
    /// Hands no more than so many bytes a second to the kernel, on average
    /// over a tenth of a second and more. Default: no limit.
    pub write_rate: Option<NonZeroU64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            high_water: 64 * 1024,
            low_water: 16 * 1024,
            idle_timeout: None,
            stall_timeout: Some(Duration::from_secs(60)),
            connect_timeout: Some(Duration::from_secs(30)),
            read_rate: None,
            write_rate: None,
        }
    }
}
