//! The peer of a program.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

use crate::DEADLINE;

/// Sets timeouts on `peer`, so that its calls fail instead of hanging.
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
    assert_eq!(peer.read(&mut [0; 64]).expect("receiving the end"), 0);
}

/// Receives a reset, and no data before it: the connection was cut short.
#[track_caller]
pub fn expect_reset(mut peer: &TcpStream) {
    let error = peer.read(&mut [0; 64]).expect_err("the end came in good order");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Closes a connection with a reset.
pub fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}
