//! The queue of errors and timestamps of a socket: ip(7) `IP_RECVERR`, socket(7)
//! `SO_TIMESTAMPING`, and `MSG_ZEROCOPY`. It exists if the program has requested it.

/// How many entries to discard at a time: the network fills the queue.
#[cfg(target_os = "linux")]
const MAX_ENTRIES: usize = 64;

/// Discards the entries of the queue, and returns how many. The poller reports a socket
/// in error until its queue is empty.
pub(super) fn discard(socket: &socket2::Socket) -> usize {
    #[cfg(target_os = "linux")]
    {
        use rustix::net::{RecvFlags, recv};
        use socket2::Domain;
        // A Unix socket has no such queue: it ignores the flag, and would read data.
        if !matches!(socket.domain(), Ok(Domain::IPV4 | Domain::IPV6)) {
            return 0;
        }
        (0..MAX_ENTRIES)
            .take_while(|_| recv(socket, &mut [0; 1], RecvFlags::ERRQUEUE).is_ok())
            .count()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        0
    }
}
