//! One attempt to connect to one address.

use std::io;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// Begins to connect, from the address `from` if one is given.
pub(crate) fn begin(
    addr: &SockAddr,
    domain: Domain,
    from: Option<&SockAddr>,
) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if domain != Domain::UNIX {
        // Small messages go out at once, as they do from `Listener`.
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(from) = from {
        socket.bind(from)?;
    }
    match socket.connect(addr) {
        Ok(()) => Ok(socket),
        // connect(2): the connection completes when the socket is writable.
        Err(e) if e.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Ok(socket),
        Err(e) => Err(e),
    }
}

/// The outcome for a socket that became writable while it was connecting;
/// `NotConnected` where it still is.
pub(crate) fn outcome(socket: &Socket) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    let peer = socket.peer_addr()?.as_socket();
    // A dead port in the ephemeral range: the kernel chose it for our own end
    // and connected the socket to itself (TCP's simultaneous open, RFC 9293
    // section 3.5).
    if peer.is_some() && peer == socket.local_addr()?.as_socket() {
        return Err(Errno::CONNREFUSED.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariant_3_a_connection_to_itself_counts_as_refused() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).expect("the kernel sees nothing wrong with it");
        let error = outcome(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
