//! The listening socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use socket2::{Domain, Socket, Type};

/// Listens on the port that the command line names last, without blocking, and says
/// so. Where std's own `bind` has a queue of 128, this one has what ours has.
pub fn listen() -> io::Result<TcpListener> {
    let port = std::env::args().skip(1).last().and_then(|port| port.parse().ok());
    let port = port.ok_or_else(|| io::Error::other("usage: SERVER PORT"))?;
    let addr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    // Standard output is line-buffered.
    println!("Listening on {addr}");
    Ok(socket.into())
}
