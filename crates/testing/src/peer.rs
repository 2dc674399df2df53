//! The peer of a program.

use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::{DEADLINE, report_skip};

/// What [`local_pair`] returns: a Unix socket, where there is one.
#[cfg(unix)]
pub type LocalStream = std::os::unix::net::UnixStream;
/// What [`local_pair`] returns.
#[cfg(windows)]
pub type LocalStream = TcpStream;

/// Returns the two ends of a connection within this machine.
///
/// # Errors
///
/// Returns an error if no sockets are available.
pub fn local_pair() -> io::Result<(LocalStream, LocalStream)> {
    #[cfg(unix)]
    return LocalStream::pair();
    // As for Unix sockets: small buffers, and no delays.
    #[cfg(windows)]
    {
        use socket2::{Domain, Socket, Type};
        const BUFFER: usize = 64 * 1024;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        SockRef::from(&listener).set_recv_buffer_size(BUFFER)?;
        let one = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        one.set_recv_buffer_size(BUFFER)?;
        one.connect(&listener.local_addr()?.into())?;
        let other = listener.accept()?.0.into();
        for socket in [&one, &other] {
            socket.set_tcp_nodelay(true)?;
            socket.set_send_buffer_size(BUFFER)?;
        }
        Ok((one.into(), other.into()))
    }
}

/// Sets timeouts on `peer`, so that its calls fail instead of hanging. `read` can then fail
/// with `Interrupted` although no signal is handled: if the machine or the process is
/// stopped and continued, see signal(7). `read_exact` and `read_to_end` continue.
pub fn with_timeouts(peer: TcpStream) -> TcpStream {
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.set_write_timeout(Some(DEADLINE)).unwrap();
    peer
}

/// Receives exactly `message`.
#[track_caller]
pub fn expect(mut peer: &TcpStream, message: &[u8]) {
    let mut received = vec![0; message.len()];
    peer.read_exact(&mut received).expect("receiving");
    assert!(received == message, "received other data");
}

/// Receives the end of the connection, and no data before it.
#[track_caller]
pub fn expect_end(mut peer: &TcpStream) {
    let mut rest = Vec::new();
    assert_eq!(peer.read_to_end(&mut rest).expect("receiving the end"), 0);
}

/// Receives a reset, and no data before it: the connection was cut short.
#[track_caller]
pub fn expect_reset(mut peer: &TcpStream) {
    let error = peer.read_exact(&mut [0]).expect_err("the end came in good order");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Closes a connection with a reset.
pub fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// Returns `true` if this system reports a reset. Otherwise reports that a test is skipped:
/// wine reads a reset as the end of input.
pub fn reports_resets() -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    reset(listener.accept().unwrap().0);
    let is_reported = one.read(&mut [0]).is_err();
    assert!(is_reported || cfg!(windows), "all Unix systems report it");
    if !is_reported {
        report_skip("this system does not report a reset");
    }
    is_reported
}
