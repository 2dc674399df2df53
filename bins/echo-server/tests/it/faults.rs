//! Faults that the server survives. Each is provoked for real, and the bytes of
//! other peers are counted.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use testing::{DEADLINE, expect, expect_end, pattern, reset, status_kib, wait_until};

use crate::common::{
    SERVER, Server, connect, echo, open_descriptors, process_state, stat_fields, through_shell,
};

/// Returns the processor time that a process has used.
fn processor_time(id: u32) -> Duration {
    let stat = stat_fields(id);
    let ticks: u64 = stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap();
    // Linux reports 100 ticks per second.
    Duration::from_millis(10 * ticks)
}

/// Returns the resident memory of a process, in KiB.
fn resident_kib(id: u32) -> u64 {
    status_kib(id, "VmRSS").unwrap()
}

#[track_caller]
fn assert_no_panic(mut server: Server) {
    server.kill();
    let log = server.stderr.rest();
    assert!(log.iter().all(|line| !line.contains("panicked")), "{log:#?}");
}

// --- accept: rows 1, 2, 3, 4 -------------------------------------------------

#[test]
fn descriptor_shortage_pauses_only_accepting() {
    let started_at = Instant::now();
    let mut server = Server::spawn(through_shell("ulimit -n 24;", "").args(["--port", "0"]));
    let mut peers: Vec<_> = (0..40_u8).map(|number| (number, server.connect())).collect();
    for (number, peer) in &mut peers {
        peer.write_all(&[*number]).unwrap();
    }

    // The log contains the number of open connections.
    let line = server.stderr.next_with("cannot accept");
    assert!(line.contains("Too many open files"), "{line}");
    assert!(line.contains("the limit is 24"), "{line}");
    let (before, _) = line.split_once(" connections open").unwrap();
    let fitting: usize = before.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((5..24).contains(&fitting), "{line}");
    for (number, peer) in peers.iter().take(fitting) {
        expect(peer, &[*number]);
    }
    let message = pattern(10_000);
    for _ in 0..20 {
        for (_, peer) in peers.iter().take(fitting) {
            echo(peer, &message);
        }
    }

    // Meanwhile: at most one line per second, and little processor time.
    let (then, used) = (Instant::now(), processor_time(server.id()));
    for lines in 1..=3_u64 {
        server.stderr.next_with("cannot accept");
        assert!(started_at.elapsed() >= Duration::from_secs(lines), "{lines} more lines already");
    }
    let (lasted, used) = (then.elapsed(), processor_time(server.id()).saturating_sub(used));
    let percent = 100.0 * used.as_secs_f64() / lasted.as_secs_f64();
    eprintln!("shortage: {fitting} of 40 fit, {percent:.1} % processor time over {lasted:?}");
    assert!(percent < 20.0, "{percent} %");

    // The queued peers are accepted as others disconnect.
    drop(peers.drain(..fitting));
    for (number, peer) in peers {
        expect(&peer, &[number]);
        echo(&peer, b"served");
    }
    assert_no_panic(server);
}

/// Starts a server whose system calls `calls` fail as `fault` describes, or
/// returns `None` without strace. `name` is part of the name of strace's log.
fn server_with_fault(name: &str, calls: &str, fault: &str) -> Option<(Server, PathBuf)> {
    // With the process ID, so that concurrent runs use different files.
    let name = format!("strace-{name}-{}", process::id());
    let record = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut command = testing::with_fault(SERVER, calls, fault, &record)?;
    let server = Server::spawn(command.args(["--port", "0", "-vv"]));
    Some((server, record))
}

/// Terminates the server and returns the number of calls that failed.
fn terminate_and_count(mut server: Server, record: PathBuf) -> usize {
    // While strace has stopped the main thread, the kernel gives the signal to
    // another one, in which the fault affects the signal handler.
    let mut sleeping = 0;
    let id = server.id();
    let count_sleeping = || {
        sleeping = if process_state(id) == "S" { sleeping + 1 } else { 0 };
        sleeping
    };
    wait_until(count_sleeping, |count| *count == 10);
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    count_failed_calls(record)
}

/// Returns the number of calls of an exited server that failed.
fn count_failed_calls(record: PathBuf) -> usize {
    // strace finishes its log after the server has exited.
    let text = || fs::read_to_string(&record).unwrap();
    wait_until(|| text().ends_with("+++\n"), |ended| *ended);
    let count = text().matches("(INJECTED)").count();
    fs::remove_file(record).unwrap();
    count
}

#[test]
fn kernel_resource_shortage_is_retried() {
    for error in ["ENFILE", "ENOBUFS", "ENOMEM", "EPROTO"] {
        let fault = format!("error={error}:when=1..2");
        let Some((mut server, record)) = server_with_fault(error, "accept4", &fault) else {
            return;
        };
        let started_at = Instant::now();
        for _ in 0..3 {
            echo(&server.connect(), error.as_bytes());
        }
        eprintln!("{error}: three peers were served after {:?}", started_at.elapsed());
        server.stderr.next_with("cannot accept with 0 connections open");
        assert_eq!(terminate_and_count(server, record), 2);
    }
}

#[test]
fn transient_accept_error_is_retried() {
    for error in ["ECONNABORTED", "EINTR"] {
        let fault = format!("error={error}:when=1..2");
        let Some((mut server, record)) = server_with_fault(error, "accept4", &fault) else {
            return;
        };
        for _ in 0..3 {
            echo(&server.connect(), error.as_bytes());
        }
        server.stderr.next_with("accept: ");
        assert_eq!(terminate_and_count(server, record), 2);
        eprintln!("{error} twice: accepts lost 0 of 3");
    }
}

/// A permanent error of the listening socket ends the server with an error.
#[test]
fn failed_listening_socket_exits_with_1() {
    // The first call accepts a peer, the second finds none, the third fails.
    let fault = "error=EINVAL:when=3";
    let Some((mut server, record)) = server_with_fault("EINVAL", "accept4", fault) else { return };
    let first = server.connect();
    echo(&first, b"before");
    // It may be reset while connecting, when the listener closes.
    let _second = TcpStream::connect_timeout(&server.addr, DEADLINE);
    server.stderr.next_with("listener closed");
    echo(&first, b"open connections remain");
    drop(first);
    assert_eq!(server.exit_code(), 1);
    server.stderr.next_with("echo-server: stopped listening on 127.0.0.1:");
    fs::remove_file(record).unwrap();
}

#[test]
fn reset_before_accept_leaks_no_descriptor() {
    let server = Server::start(&[]);
    echo(&server.connect(), b"first");
    let base = open_descriptors(server.id());
    server.signal("STOP");
    wait_until(|| process_state(server.id()), |state| state == "T");
    for _ in 0..20 {
        reset(server.connect());
        let mut peer = server.connect();
        peer.write_all(b"then reset").unwrap();
        reset(peer);
    }
    server.signal("CONT");
    echo(&server.connect(), b"next");
    wait_until(|| open_descriptors(server.id()), |open| *open <= base);
    eprintln!("40 connections reset before accept: descriptors +0, panics 0");
    assert_no_panic(server);
}

// --- reading and writing: rows 5, 6, 8, 9, 10, 11 ----------------------------

#[test]
fn interrupted_io_loses_no_bytes() {
    let (calls, fault) = ("recvfrom,sendto,sendmsg", "error=EINTR:when=1+3");
    let Some((mut server, record)) = server_with_fault("EINTR-io", calls, fault) else { return };
    let sent = pattern(2_000_000);
    let peer = server.connect();
    thread::scope(|scope| {
        scope.spawn(|| (&peer).write_all(&sent).unwrap());
        expect(&peer, &sent);
    });
    drop(peer);
    // Not SIGTERM: its handler calls `sendto`, which the fault may interrupt and
    // which is not retried.
    server.kill();
    let count = count_failed_calls(record);
    eprintln!("{count} calls were interrupted");
    assert!(count > 10, "{count}");
}

/// The peer closes its sending side while its echo is still queued.
#[test]
fn half_close_waits_for_pending_output() {
    let fault = "error=EAGAIN:when=1..50";
    let Some((server, record)) = server_with_fault("EAGAIN", "sendto", fault) else { return };
    let mut peer = server.connect();
    peer.write_all(b"final message").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    expect(&peer, b"final message");
    expect_end(&peer);
    assert_eq!(terminate_and_count(server, record), 50);
}

#[test]
fn resets_under_load_do_not_affect_other_peers() {
    let server = Server::start(&[]);
    let steady = server.connect();
    echo(&steady, b"first");
    let base = open_descriptors(server.id());
    let addr = server.addr;
    let (message, block) = (pattern(5_000), vec![0; 100_000]);
    let mut echoed = 0;
    thread::scope(|scope| {
        let abuse = scope.spawn(|| {
            for round in 0..60 {
                let mut peer = connect(addr);
                if round % 2 == 0 {
                    // While the server reads.
                    peer.write_all(&block).unwrap();
                } else {
                    // While the server writes: all buffers are full.
                    peer.set_nonblocking(true).unwrap();
                    while peer.write(&block).is_ok() {}
                }
                reset(peer);
            }
        });
        while !abuse.is_finished() {
            echo(&steady, &message);
            echoed += message.len();
        }
    });
    echo(&steady, &message);
    wait_until(|| open_descriptors(server.id()), |open| *open <= base);
    eprintln!("60 resets in mid-transfer: other peers lost 0 of {echoed} bytes");
    assert_no_panic(server);
}

/// Sends `data` until the kernel's buffers and the server's are full. Returns
/// the number of bytes sent.
fn fill(mut peer: &TcpStream, data: &[u8]) -> usize {
    peer.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while sent < data.len() {
        match peer.write(&data[sent..data.len().min(sent + 65_536)]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // The process was stopped and resumed.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    peer.set_write_timeout(Some(DEADLINE)).unwrap();
    sent
}

#[test]
fn stalled_peers_use_bounded_memory() {
    const STUCK: u64 = 4;
    const OTHERS: u64 = 50;
    /// The documented maximum for each connection, in KiB.
    const MAX_PER_CONNECTION: u64 = 128;
    /// For the program itself: code that is paged in, the read buffer, memory
    /// that the allocator keeps.
    const SLACK: u64 = 3072;

    let server = Server::start(&["-q"]);
    echo(&server.connect(), &pattern(100_000));
    let base = resident_kib(server.id());

    let stuck: Vec<_> = (0..STUCK).map(|_| server.connect()).collect();
    // The kernel buffers a part. A server that kept reading would hold the rest.
    let flood = vec![0; 32 << 20];
    let sent: usize = thread::scope(|scope| {
        let fillers: Vec<_> = stuck.iter().map(|peer| scope.spawn(|| fill(peer, &flood))).collect();
        fillers.into_iter().map(|filler| filler.join().unwrap()).sum()
    });
    let with_stuck = resident_kib(server.id());

    let message = pattern(20_000);
    let others: Vec<_> = (0..OTHERS).map(|_| server.connect()).collect();
    for _ in 0..10 {
        for mut peer in &others {
            peer.write_all(&message).unwrap();
        }
        for peer in &others {
            expect(peer, &message);
        }
    }
    let with_all = resident_kib(server.id());
    eprintln!(
        "{STUCK} peers sent {sent} bytes and read none: {base} KiB before, {with_stuck} KiB then, \
         {with_all} KiB with {OTHERS} others"
    );
    assert!(
        with_stuck <= base + STUCK * MAX_PER_CONNECTION + SLACK,
        "{base} KiB, then {with_stuck}"
    );
    assert!(
        with_all <= base + (STUCK + OTHERS) * MAX_PER_CONNECTION + SLACK,
        "{base} KiB, then {with_all}"
    );
    drop(stuck);
    assert_no_panic(server);
}

/// The counterpart of the client's test of the same size: memory does not depend
/// on the amount of data.
#[test]
fn long_conversation_uses_bounded_memory() {
    /// A little less than 1 MiB, so that it is no multiple of a buffer.
    const PIECE: usize = 1_048_573;
    const PIECES: usize = 101;
    /// In KiB: at most 128 KiB for the connection; the rest for the program.
    const MAX_MEMORY: u64 = 16 * 1024;

    let server = Server::start(&["-q"]);
    let piece = pattern(PIECE);
    let peer = server.connect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..PIECES {
                (&peer).write_all(&piece).unwrap();
            }
            peer.shutdown(Shutdown::Write).unwrap();
        });
        for _ in 0..PIECES {
            expect(&peer, &piece);
        }
    });
    expect_end(&peer);
    let peak = status_kib(server.id(), "VmHWM").unwrap();
    eprintln!("{} bytes were echoed, with at most {peak} KiB", PIECES * PIECE);
    assert!(peak < MAX_MEMORY, "{peak} KiB");
    assert_no_panic(server);
}

#[test]
fn stalled_peer_is_closed_at_stall_timeout() {
    let mut server = Server::start(&["-vv", "--stall-timeout", "2s"]);
    let other = server.connect();
    echo(&other, b"before");
    let started_at = Instant::now();
    let stuck = server.connect();
    let (mut sent, block) = (0, vec![0; 65_536]);
    let error = loop {
        match (&stuck).write(&block) {
            Ok(written) => sent += written,
            // Linux returns this for a socket with a timeout when the process
            // is stopped and resumed.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break error,
        }
    };
    let lasted = started_at.elapsed();
    eprintln!("closed after {lasted:?} and {sent} bytes: {error}");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    server.stderr.next_with("timed out: stall timeout");
    assert!(lasted >= Duration::from_secs(2), "{lasted:?}");
    echo(&other, b"after");
    assert_no_panic(server);
}

/// The peer starts to read after the server has stopped reading: covers partial
/// writes, the high-water mark and resuming below the low-water mark.
#[test]
fn late_reader_receives_all_bytes_in_order() {
    let server = Server::start(&[]);
    let sent = pattern(16_000_000);
    let peer = server.connect();
    let before = fill(&peer, &sent);
    eprintln!("{before} bytes were sent before the first was read");
    assert!(before < sent.len(), "the server buffers all of them");
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&peer).write_all(&sent[before..]).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
        });
        (&peer).read_to_end(&mut received).unwrap();
    });
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}
