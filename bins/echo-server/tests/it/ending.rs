//! How the server ends: by signals, and by none.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use testing::{DEADLINE, expect_end, until};

use crate::common::{Server, command, echo};

/// Waits until new connections are refused.
#[track_caller]
fn no_longer_listens(server: &Server) {
    until(|| TcpStream::connect_timeout(&server.addr, DEADLINE).map(drop), Result::is_err);
}

#[test]
fn a_signal_lets_peers_finish() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&["--drain-timeout", "1h"]);
        let peer = server.connect();
        echo(&peer, b"before");
        server.signal(signal);
        no_longer_listens(&server);
        echo(&peer, b"after");
        peer.shutdown(Shutdown::Write).unwrap();
        expect_end(&peer);
        assert_eq!(server.exit_code(), 0, "SIG{signal}");
    }
}

/// A listener that closed first would reset those that wait. There are more of
/// them than the reactor accepts at a time.
#[test]
#[cfg(target_os = "linux")]
fn a_signal_leaves_nobody_in_the_queue() {
    use testing::expect;

    let mut server = Server::start(&["--drain-timeout", "1h"]);
    server.signal("STOP");
    until(|| crate::faults::stat(server.id())[0].clone(), |state| state == "T");
    let peers: Vec<_> = (0..200_u8)
        .map(|number| {
            let mut peer = server.connect();
            peer.write_all(&[number]).unwrap();
            peer
        })
        .collect();
    server.signal("TERM");
    server.signal("CONT");
    for (number, peer) in (0..200).zip(&peers) {
        expect(peer, &[number]);
    }
    no_longer_listens(&server);
    for peer in peers {
        peer.shutdown(Shutdown::Write).unwrap();
        expect_end(&peer);
    }
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn the_drain_ends_at_its_deadline() {
    let mut server = Server::start(&["--drain-timeout", "1s"]);
    let silent = server.connect();
    echo(&silent, b"and no more");
    let stuck = server.connect();
    stuck.set_nonblocking(true).unwrap();
    // As much as goes in: it never reads its echo.
    let block = vec![0; 65_536];
    while (&stuck).write(&block).is_ok() {}

    let begin = Instant::now();
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    let took = begin.elapsed();
    eprintln!("drained for {took:?} of 1 s");
    assert!(took >= Duration::from_secs(1) && took < DEADLINE / 2, "{took:?}");
    server.stderr.next_with("the drain's time is up: closing 2 channels");
    expect_end(&silent);
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("INT", "TERM")] {
        let mut server = Server::start(&["--drain-timeout", "1h"]);
        let mut peer = server.connect();
        echo(&peer, b"and no more");
        server.signal(first);
        no_longer_listens(&server);
        let begin = Instant::now();
        server.signal(second);
        assert_eq!(server.exit_code(), 1, "SIG{first}, SIG{second}");
        eprintln!("ended {:?} after the second signal", begin.elapsed());
        let log = server.stderr.rest();
        assert!(
            log.last().unwrap().starts_with("echo-server: terminated by a second signal: "),
            "{log:#?}"
        );
        assert!(!matches!(peer.read(&mut [0]), Ok(1..)), "cut off");
    }
}

/// Connections that the old one had open hold the port no longer than it
/// lives.
#[test]
#[cfg(target_os = "linux")]
fn restarts_on_its_port_after_being_killed() {
    const ROUNDS: u32 = 100;
    // On an address of its own: no other test can take the port in between.
    let host = ["--host", "127.0.0.36"];
    let mut server = Server::start(&host);
    let port = server.addr.port().to_string();
    for round in 0..ROUNDS {
        let peers = [server.connect(), server.connect()];
        for peer in &peers {
            echo(peer, b"hello");
        }
        // The server closes this one first: its side waits in TIME-WAIT.
        let closed = server.connect();
        closed.shutdown(Shutdown::Write).unwrap();
        expect_end(&closed);
        server.kill();
        server = Server::spawn(command().args(host).args(["--port", &port]));
        assert_eq!(server.addr.port().to_string(), port, "round {round}");
    }
    echo(&server.connect(), b"at last");
    eprintln!("failed binds 0 of {ROUNDS}");
}
