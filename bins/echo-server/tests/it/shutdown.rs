//! How the server exits after signals, and restarts.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use testing::{DEADLINE, expect_end, expect_reset, wait_until};

use crate::common::{Server, echo};

/// Waits until new connections are refused.
#[track_caller]
fn wait_until_refused(server: &Server) {
    wait_until(|| TcpStream::connect_timeout(&server.addr, DEADLINE).map(drop), Result::is_err);
}

#[cfg(unix)] // signals
#[test]
fn signal_lets_peers_finish() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&["--drain-timeout", "1h"]);
        let peer = server.connect();
        echo(&peer, b"before");
        server.signal(signal);
        wait_until_refused(&server);
        echo(&peer, b"after");
        peer.shutdown(Shutdown::Write).unwrap();
        expect_end(&peer);
        assert_eq!(server.exit_code(), 0, "SIG{signal}");
    }
}

/// Closing the listener first would reset the queued connections. There are more
/// of them than the reactor accepts in one turn.
#[cfg(unix)] // signals
#[test]
#[cfg(target_os = "linux")]
fn signal_accepts_queued_connections() {
    use crate::common::process_state;
    use testing::expect;

    let mut server = Server::start(&["--drain-timeout", "1h"]);
    server.signal("STOP");
    wait_until(|| process_state(server.id()), |state| state == "T");
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
    wait_until_refused(&server);
    for peer in peers {
        peer.shutdown(Shutdown::Write).unwrap();
        expect_end(&peer);
    }
    assert_eq!(server.exit_code(), 0);
}

#[cfg(unix)] // signals
#[test]
fn drain_ends_at_its_deadline() {
    let mut server = Server::start(&["--drain-timeout", "1s"]);
    let silent = server.connect();
    echo(&silent, b"and no more");
    let stuck = server.connect();
    stuck.set_nonblocking(true).unwrap();
    // Until all buffers are full: this peer never reads its echo.
    let block = vec![0; 65_536];
    while (&stuck).write(&block).is_ok() {}

    let started_at = Instant::now();
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    let took = started_at.elapsed();
    eprintln!("drained for {took:?} of 1 s");
    assert!(took >= Duration::from_secs(1) && took < DEADLINE / 2, "{took:?}");
    let log = server.stderr.rest();
    for (peer, unsent) in [(&silent, "with 0 bytes unsent"), (&stuck, " bytes unsent")] {
        let start = format!("{}: closed by the shutdown, with ", peer.local_addr().unwrap());
        let is_named = |line: &String| line.contains(&start) && line.ends_with(unsent);
        assert!(log.iter().any(is_named), "no {start} in {log:#?}");
    }
    expect_reset(&silent);
}

/// Connections on all threads, and only connections.
#[cfg(unix)] // signals
#[test]
fn drain_logs_how_many_peers_it_waits_for() {
    for threads in ["1", "3"] {
        let mut server = Server::start(&["--drain-timeout", "1h", "-v", "--threads", threads]);
        let peers = [(); 5].map(|()| server.connect());
        for peer in &peers {
            echo(peer, b"hello");
        }
        server.signal("TERM");
        server.stderr.next_with("shutting down: open connections: 5, for at most 3600s");
        drop(peers);
        assert_eq!(server.exit_code(), 0);
        let log = server.stderr.rest();
        assert!(!log.iter().any(|line| line.contains("closed by the shutdown")), "{log:#?}");
    }
}

/// The log stays short, however many peers there are.
#[cfg(unix)] // signals
#[test]
fn drain_logs_the_number_of_connections_it_closes() {
    let mut server = Server::start(&["--drain-timeout", "0"]);
    let peers: Vec<_> = (0..30).map(|_| server.connect()).collect();
    for peer in &peers {
        echo(peer, b"hello");
    }
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    let log = server.stderr.rest();
    let named = log.iter().filter(|line| line.contains(": closed by the shutdown, with ")).count();
    assert_eq!(named, 20, "{log:#?}");
    assert!(log.iter().any(|line| line.ends_with("connections closed by the shutdown: 30")));
}

#[cfg(unix)] // signals
#[test]
fn second_signal_exits_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("INT", "TERM")] {
        let mut server = Server::start(&["--drain-timeout", "1h"]);
        let mut peer = server.connect();
        echo(&peer, b"and no more");
        server.signal(first);
        wait_until_refused(&server);
        let started_at = Instant::now();
        server.signal(second);
        assert_eq!(server.exit_code(), 1, "SIG{first}, SIG{second}");
        eprintln!("exited {:?} after the second signal", started_at.elapsed());
        let log = server.stderr.rest();
        assert!(
            log.last().unwrap().starts_with("echo-server: terminated by a second signal: "),
            "{log:#?}"
        );
        assert!(!matches!(peer.read(&mut [0]), Ok(1..)), "the connection is closed");
    }
}

/// Connections of the killed server do not block its port.
#[test]
#[cfg(target_os = "linux")]
fn restart_after_kill_binds_same_port() {
    use crate::common::command;

    const ROUNDS: u32 = 100;
    // A separate address, so that no other test binds the port meanwhile.
    let host = ["--host", "127.0.0.36"];
    let mut server = Server::start(&host);
    let port = server.addr.port().to_string();
    for round in 0..ROUNDS {
        let peers = [server.connect(), server.connect()];
        for peer in &peers {
            echo(peer, b"hello");
        }
        // The server closes this one first, so its side is in TIME-WAIT.
        let closed = server.connect();
        closed.shutdown(Shutdown::Write).unwrap();
        expect_end(&closed);
        server.kill();
        server = Server::spawn(command().args(host).args(["--port", &port]));
        assert_eq!(server.addr.port().to_string(), port, "round {round}");
    }
    echo(&server.connect(), b"done");
    eprintln!("failed binds 0 of {ROUNDS}");
}

/// A shell that blocks signals passes its mask on to the server.
#[cfg(unix)] // signals
#[test]
fn signals_blocked_by_the_parent_end_the_server() {
    const SCRIPT: &str = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
os.execv(sys.argv[1], sys.argv[1:])";
    if testing::command("python3").arg("--version").output().is_err() {
        testing::report_skip("no python3 is available");
        return;
    }
    for threads in ["1", "2"] {
        for signal in ["TERM", "INT"] {
            let mut command = testing::command("python3");
            command.args(["-c", SCRIPT, crate::common::SERVER, "--port", "0"]);
            let mut server = Server::spawn(command.args(["--threads", threads]));
            echo(&server.connect(), b"hello");
            server.signal(signal);
            assert_eq!(server.exit_code(), 0, "SIG{signal}, {threads} threads");
        }
    }
}
