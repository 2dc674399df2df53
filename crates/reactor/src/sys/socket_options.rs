//! [`SocketOptions`]: what a program can set on stream sockets.

use std::io;
use std::time::Duration;

use socket2::{Domain, TcpKeepalive};

/// Options of a stream socket. What is `None` stays as the system, or this library, sets
/// it.
///
/// On a Unix socket only the buffer sizes have an effect; the others are ignored. For any
/// other option, see [`Connection::socket_options`](crate::Connection::socket_options).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use reactor::{Keepalive, SocketOptions};
///
/// // A peer that is lost is detected after two minutes.
/// let options = SocketOptions {
///     keepalive: Some(Keepalive {
///         idle: Some(Duration::from_secs(60)),
///         interval: Some(Duration::from_secs(20)),
///         probes: Some(3),
///     }),
///     user_timeout: Some(Duration::from_secs(120)),
///     ..SocketOptions::default()
/// };
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Sends probes on an idle connection, so that a peer that was lost without a message
    /// is detected (socket(7), `SO_KEEPALIVE`). Default: none are sent.
    pub keepalive: Option<Keepalive>,
    /// Sends small messages at once (tcp(7), `TCP_NODELAY`). Default: `true`, which this
    /// library sets.
    pub nodelay: Option<bool>,
    /// The size of the kernel's send buffer in bytes (socket(7), `SO_SNDBUF`). Linux
    /// reserves twice as much, and limits it to `net.core.wmem_max` without an error.
    /// Default: adapted by the system.
    pub send_buffer_size: Option<usize>,
    /// The size of the kernel's receive buffer in bytes (socket(7), `SO_RCVBUF`). Linux
    /// reserves twice as much, and limits it to `net.core.rmem_max` without an error.
    /// Default: adapted by the system.
    pub receive_buffer_size: Option<usize>,
    /// The type of service or traffic class of the packets: DSCP in the upper six bits, of
    /// which RFC 4594 lists the usual values (ip(7), `IP_TOS`; ipv6(7), `IPV6_TCLASS`).
    /// Default: 0.
    pub traffic_class: Option<u8>,
    /// Closes the connection with `TimedOut` if sent data is not acknowledged for this long
    /// (tcp(7), `TCP_USER_TIMEOUT`; Linux and Android). [`Limits::stall_timeout`] applies
    /// if the peer acknowledges, and does not read. Default: decided by the number of
    /// retransmissions, on Linux after about a quarter of an hour.
    ///
    /// [`Limits::stall_timeout`]: crate::Limits::stall_timeout
    pub user_timeout: Option<Duration>,
}

/// Probes on an idle connection (tcp(7), `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`).
///
/// Durations are rounded up to whole seconds. Linux accepts 1 to 32,767 seconds and 1 to
/// 127 probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// The time without traffic before the first probe. Default: two hours on Linux.
    pub idle: Option<Duration>,
    /// The time between two probes. Default: 75 seconds on Linux.
    pub interval: Option<Duration>,
    /// How many probes are not answered before the connection ends. Default: 9 on Linux.
    pub probes: Option<u32>,
}

impl SocketOptions {
    /// Sets the options on `socket`, which is of the family `domain`.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first option that cannot be set.
    pub(super) fn set_on(&self, socket: &socket2::Socket, domain: Domain) -> io::Result<()> {
        if let Some(size) = self.send_buffer_size {
            socket.set_send_buffer_size(size).map_err(named("SO_SNDBUF"))?;
        }
        if let Some(size) = self.receive_buffer_size {
            socket.set_recv_buffer_size(size).map_err(named("SO_RCVBUF"))?;
        }
        if domain == Domain::UNIX {
            return Ok(());
        }
        if let Some(nodelay) = self.nodelay {
            socket.set_tcp_nodelay(nodelay).map_err(named("TCP_NODELAY"))?;
        }
        if let Some(keepalive) = self.keepalive {
            keepalive.set_on(socket)?;
        }
        if let Some(class) = self.traffic_class {
            set_traffic_class(socket, class, domain)?;
        }
        if let Some(timeout) = self.user_timeout {
            set_user_timeout(socket, timeout).map_err(named("TCP_USER_TIMEOUT"))?;
        }
        Ok(())
    }
}

impl Keepalive {
    fn set_on(self, socket: &socket2::Socket) -> io::Result<()> {
        let unchanged = TcpKeepalive::new();
        socket.set_tcp_keepalive(&unchanged).map_err(named("SO_KEEPALIVE"))?;
        if let Some(idle) = self.idle {
            let idle = unchanged.with_time(whole_seconds(idle));
            socket.set_tcp_keepalive(&idle).map_err(named("TCP_KEEPIDLE"))?;
        }
        if let Some(interval) = self.interval {
            set_interval(socket, whole_seconds(interval)).map_err(named("TCP_KEEPINTVL"))?;
        }
        if let Some(probes) = self.probes {
            set_probes(socket, probes).map_err(named("TCP_KEEPCNT"))?;
        }
        Ok(())
    }
}

/// Adds the name of an option to an error.
fn named(option: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot set {option}: {error}"))
}

/// Rounds up to whole seconds, because the system would cut a part of a second to zero.
fn whole_seconds(duration: Duration) -> Duration {
    let seconds = duration.as_secs();
    Duration::from_secs(if duration.subsec_nanos() > 0 {
        seconds.saturating_add(1)
    } else {
        seconds
    })
}

/// An IPv6 socket may also serve IPv4, whose packets have a field of their own.
fn set_traffic_class(socket: &socket2::Socket, class: u8, domain: Domain) -> io::Result<()> {
    let set_tos = || set_tos(socket, class).map_err(named("IP_TOS"));
    if domain != Domain::IPV6 {
        return set_tos();
    }
    // A socket for IPv6 alone, or a system that does not have the two together.
    let _ = set_tos();
    set_tclass(socket, class).map_err(named("IPV6_TCLASS"))
}

fn set_tos(socket: &socket2::Socket, class: u8) -> io::Result<()> {
    #[cfg(not(target_os = "solaris"))]
    return socket.set_tos_v4(class.into());
    #[cfg(target_os = "solaris")]
    return unsupported(socket, class);
}

fn set_tclass(socket: &socket2::Socket, class: u8) -> io::Result<()> {
    #[cfg(all(unix, not(target_os = "solaris")))]
    return socket.set_tclass_v6(class.into());
    #[cfg(not(all(unix, not(target_os = "solaris"))))]
    return unsupported(socket, class);
}

fn set_user_timeout(socket: &socket2::Socket, timeout: Duration) -> io::Result<()> {
    // To the kernel, 0 means its default.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return socket.set_tcp_user_timeout(Some(timeout.max(Duration::from_millis(1))));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return unsupported(socket, timeout);
}

fn set_interval(socket: &socket2::Socket, interval: Duration) -> io::Result<()> {
    #[cfg(not(any(target_os = "openbsd", target_os = "solaris")))]
    return socket.set_tcp_keepalive(&TcpKeepalive::new().with_interval(interval));
    #[cfg(any(target_os = "openbsd", target_os = "solaris"))]
    return unsupported(socket, interval);
}

fn set_probes(socket: &socket2::Socket, probes: u32) -> io::Result<()> {
    #[cfg(not(any(target_os = "openbsd", target_os = "solaris")))]
    return socket.set_tcp_keepalive(&TcpKeepalive::new().with_retries(probes));
    #[cfg(any(target_os = "openbsd", target_os = "solaris"))]
    return unsupported(socket, probes);
}

/// The error for an option that this system does not have.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn unsupported<T>(_socket: &socket2::Socket, _value: T) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not have it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_to_seconds() {
        let seconds = |duration| whole_seconds(duration).as_secs();
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_secs(2)), 2);
        assert_eq!(seconds(Duration::new(2, 1)), 3);
        assert_eq!(seconds(Duration::MAX), u64::MAX);
    }
}
