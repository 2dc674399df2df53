//! Peers that speak something else, stop in the middle, or come in crowds.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use reactor::{Limits, Listener, Reactor, Stream};

use crate::common::{Event, Log, Probe, World, turn_until};

/// The start of a `ClientHello` of 512 bytes.
pub(crate) const HELLO_START: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

/// Sends `input` to a server, and returns its log and what it replied.
fn send(world: &World, input: &[u8], closes: bool) -> (Log, Vec<u8>) {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (server_socket, mut peer) = crate::common::tcp_pair();
    let limits =
        Limits { handshake_timeout: Some(Duration::from_millis(300)), ..Limits::default() };
    let stream = Stream::new(server_socket, Probe::echo("server", &log)).unwrap();
    let filter = world.server.filter().unwrap();
    reactor.add(stream.with_limits(limits).with_filter(filter)).unwrap();
    peer.write_all(input).unwrap();
    if closes {
        peer.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let reader = thread::spawn(move || {
        let mut reply = Vec::new();
        // Ends with a reset after a timeout.
        let _ = peer.read_to_end(&mut reply);
        reply
    });
    turn_until(&mut reactor, || log.get("server close:").is_some());
    drop(reactor);
    (log, reader.join().unwrap())
}

#[test]
fn what_is_not_tls_is_named_and_answered_by_an_alert() {
    let world = World::new();
    for (input, expected) in [
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], "not TLS: the peer sent plain HTTP"),
        (
            b"hello, this is no handshake\n",
            "not TLS: the peer sent another protocol, or plain text",
        ),
        (
            b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
            "not TLS: the peer sent a header of the PROXY protocol",
        ),
    ] {
        let (log, reply) = send(&world, input, false);
        assert_eq!(
            log.lines(),
            [format!("server error: {expected}"), format!("server close: {expected}")]
        );
        // A record of type alert, fatal.
        assert_eq!((reply[0], reply[5]), (21, 2), "{reply:?}");
    }
}

#[test]
fn incomplete_handshake_ends() {
    let world = World::new();
    let (log, _) = send(&world, b"", false);
    assert_eq!(log.lines(), ["server close: timed out: handshake timeout"]);
    let (log, _) = send(&world, HELLO_START, false);
    assert_eq!(log.lines(), ["server close: timed out: handshake timeout"]);
    let (log, _) = send(&world, HELLO_START, true);
    let expected = "the peer closed the connection during the TLS handshake";
    assert_eq!(log.get("server error:").as_deref(), Some(expected));
    // No error: a check of the port.
    let (log, _) = send(&world, b"", true);
    let expected = "server close: the peer closed the connection before the TLS handshake";
    assert_eq!(log.lines(), [expected]);
}

#[test]
fn garbage_after_the_start_of_a_handshake_is_an_error() {
    let world = World::new();
    let garbage = [HELLO_START, &testing::pattern(2000)].concat();
    let (log, reply) = send(&world, &garbage, false);
    assert!(log.get("server error:").is_some(), "{:?}", log.lines());
    assert_eq!(reply[0], 21, "{reply:?}");
}

/// A relay between a client and a server that passes the bytes on in pieces of `size`, and
/// changes the byte at `flip` towards the server.
fn relay(server: std::net::SocketAddr, size: usize, flip: Option<usize>) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(server).unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let pass = move |mut from: TcpStream, mut to: TcpStream, flip: Option<usize>| {
            let (mut buffer, mut at) = (vec![0; size], 0);
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                if let Some(index) = flip.and_then(|flip| flip.checked_sub(at))
                    && index < read
                {
                    buffer[index] ^= 0x10;
                }
                at += read;
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Write);
        };
        let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let back = thread::spawn(move || pass(from, to, None));
        pass(client, server, flip);
        let _ = back.join();
    });
    addr
}

/// Sends `len` bytes through a relay, and returns the log and how many came back.
fn echo_through(world: &World, len: usize, size: usize, flip: Option<usize>) -> (Log, usize) {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let to = log.clone();
    let listener = Listener::bind("127.0.0.1:0", move |_| Ok(Probe::echo("server", &to))).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(world.server.listen(listener)).unwrap();
    let relay = relay(addr, size, flip);
    let received = Rc::new(Cell::new(0));
    let count = Rc::clone(&received);
    let probe = Probe::new("client", &log, move |event, io| {
        match event {
            Event::Connect => io.send(&testing::pattern(len))?,
            Event::Read(data) => {
                assert!(testing::pattern(len)[count.get()..].starts_with(data));
                count.set(count.get() + data.len());
                if count.get() == len {
                    io.close();
                }
            }
            Event::Eof | Event::Timer => {}
        }
        Ok(())
    });
    let stream = Stream::connect([relay], probe);
    reactor.add(world.client.connect(stream, "localhost").unwrap()).unwrap();
    turn_until(&mut reactor, || {
        log.get("server close:").is_some() && log.get("client close:").is_some()
    });
    (log, received.get())
}

#[test]
fn records_may_arrive_byte_by_byte() {
    let world = World::new();
    for size in [1, 7, 16 * 1024 + 1] {
        let (log, received) = echo_through(&world, 3000, size, None);
        assert_eq!(received, 3000);
        assert_eq!(log.get("client close:").as_deref(), Some("closed"), "{:?}", log.lines());
    }
}

#[test]
fn changed_byte_is_an_error_wherever_it_is() {
    let world = World::new();
    // In the handshake, and in records, with what they contain.
    for flip in (0..1500).step_by(101).chain([1600, 2000, 3000, 5000]) {
        let (log, received) = echo_through(&world, 6000, 4096, Some(flip));
        let is_reported = log.get("server error:").is_some() || log.get("client error:").is_some();
        assert!(is_reported || flip > 6000, "byte {flip}: {:#?}", log.lines());
        assert!(received < 6000, "byte {flip}");
    }
}
