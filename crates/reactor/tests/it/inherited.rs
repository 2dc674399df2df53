//! What a process inherits from its parent, and leaves to its children.

use std::net::{TcpListener, TcpStream, UdpSocket};

use reactor::{Datagram, Listener, SockRef, Stream};
use rustix::io::{FdFlags, fcntl_getfd};

use crate::common::{Echo, Quiet};

#[track_caller]
fn assert_close_on_exec(socket: &SockRef<'_>) {
    assert_eq!(fcntl_getfd(&**socket).unwrap(), FdFlags::CLOEXEC);
}

/// Clears the flag, as for a socket that a child is to inherit.
fn inherited<T: std::os::fd::AsFd>(socket: T) -> T {
    SockRef::from(&socket).set_cloexec(false).unwrap();
    socket
}

/// Otherwise a helper program that the server starts keeps its port in use.
#[test]
fn sockets_that_are_passed_in_are_closed_on_exec() {
    let listener = inherited(TcpListener::bind("127.0.0.1:0").unwrap());
    let connected = inherited(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let datagram = inherited(UdpSocket::bind("127.0.0.1:0").unwrap());
    let other = listener.try_clone().unwrap();
    let listener = Listener::new(listener, |_| Ok(Echo)).unwrap();
    assert_close_on_exec(&listener.socket_options());
    let listener = Listener::with_handler(inherited(other), |_, _, _| Ok(())).unwrap();
    assert_close_on_exec(&listener.socket_options());
    let stream = Stream::new(connected, Echo).unwrap();
    assert_close_on_exec(&stream.socket_options().unwrap());
    let datagram = Datagram::new(datagram, Quiet).unwrap();
    assert_close_on_exec(&datagram.socket_options());
}
