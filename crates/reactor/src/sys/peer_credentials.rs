//! [`PeerCredentials`]: who is at the other end of a Unix socket.

use std::io;

use crate::sys::socket::Socket;

/// The process at the other end of a Unix socket, from
/// [`Connection::peer_credentials`](crate::Connection::peer_credentials).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The effective user ID.
    pub uid: u32,
    /// The effective group ID.
    pub gid: u32,
    /// The process ID, or `None` if the system does not report it. The process may have
    /// ended since, and the number may belong to another one.
    pub pid: Option<u32>,
}

impl Socket {
    /// Returns the credentials of the peer of a Unix socket.
    pub(crate) fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        let socket = self.inner();
        // For a socket that is not connected, and for a TCP socket, Linux returns the user
        // -1, which does not exist.
        if socket.peer_addr()?.as_socket().is_some() {
            let message = "only the peer of a Unix socket has credentials";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        credentials(socket)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn credentials(socket: &socket2::Socket) -> io::Result<PeerCredentials> {
    // Not with rustix, whose type for it cannot represent the process ID 0: that of a process
    // in another namespace (pid_namespaces(7)).
    let peer = nix::sys::socket::getsockopt(socket, nix::sys::socket::sockopt::PeerCredentials)?;
    let pid = u32::try_from(peer.pid()).ok().filter(|&pid| pid != 0);
    Ok(PeerCredentials { uid: peer.uid(), gid: peer.gid(), pid })
}

#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd"
))]
fn credentials(socket: &socket2::Socket) -> io::Result<PeerCredentials> {
    let (uid, gid) = nix::unistd::getpeereid(socket)?;
    Ok(PeerCredentials { uid: uid.as_raw(), gid: gid.as_raw(), pid: None })
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
fn credentials(_socket: &socket2::Socket) -> io::Result<PeerCredentials> {
    let message = "this system does not report the credentials of a peer";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}
