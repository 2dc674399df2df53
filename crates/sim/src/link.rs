//! [`Link`]: how the network behaves between two machines.

use std::time::Duration;

/// How the network behaves between two machines when nothing goes wrong.
///
/// Latency and jitter of zero make a link on which bytes arrive in the instant in which
/// they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// How long a segment takes.
    pub latency: Duration,
    /// By how much longer it may take, at random. The bytes of a connection keep their
    /// order; datagrams do not.
    pub jitter: Duration,
    /// How many bytes per second it carries in one direction of one connection; `None` for
    /// no limit.
    pub bandwidth: Option<u64>,
    /// The longest segment. Output is cut into segments of random lengths up to it.
    pub max_segment: usize,
    /// How much output a sending socket holds until it is acknowledged.
    pub send_buffer: usize,
    /// How much input a receiving socket holds until it is read.
    pub receive_buffer: usize,
}

impl Default for Link {
    /// Returns the link of a local network: 50 µs each way.
    fn default() -> Self {
        Link {
            latency: Duration::from_micros(50),
            jitter: Duration::from_micros(20),
            bandwidth: None,
            max_segment: 1460,
            send_buffer: 64 * 1024,
            receive_buffer: 64 * 1024,
        }
    }
}

impl Link {
    /// Sets the latency and the jitter.
    #[must_use]
    pub fn with_latency(self, latency: Duration, jitter: Duration) -> Self {
        Link { latency, jitter, ..self }
    }

    /// Sets how many bytes the sockets at its ends hold.
    #[must_use]
    pub fn with_buffers(self, send_buffer: usize, receive_buffer: usize) -> Self {
        Link { send_buffer, receive_buffer, ..self }
    }

    /// Sets how many bytes per second it carries.
    #[must_use]
    pub fn with_bandwidth(self, bytes_per_second: u64) -> Self {
        Link { bandwidth: Some(bytes_per_second), ..self }
    }
}
