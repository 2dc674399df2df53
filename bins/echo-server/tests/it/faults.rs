//! What the server survives. Each fault is provoked for real, and the others'
//! bytes are counted.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use testing::{DEADLINE, expect, expect_end, memory, pattern, reset, until};

use crate::common::{SERVER, Server, connect, echo, through_shell};

/// What the kernel tells of a process, from its state on: field 3 of
/// `/proc/PID/stat` and those after it.
pub(crate) fn stat(id: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().map(str::to_owned).collect()
}

/// The processor time that a process has used.
fn processor_time(id: u32) -> Duration {
    let stat = stat(id);
    let ticks: u64 = stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap();
    // Linux counts 100 of them a second on every machine of today.
    Duration::from_millis(10 * ticks)
}

/// The memory that a process holds, in KiB.
fn resident(id: u32) -> u64 {
    memory(id, "VmRSS").unwrap()
}

/// How many descriptors a process has open.
fn descriptors(id: u32) -> usize {
    fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
}

#[track_caller]
fn never_panicked(mut server: Server) {
    server.kill();
    let log = server.stderr.rest();
    assert!(log.iter().all(|line| !line.contains("panicked")), "{log:#?}");
}

// --- accept: rows 1, 2, 3, 4 -------------------------------------------------

#[test]
fn a_shortage_of_descriptors_disturbs_nobody() {
    let begin = Instant::now();
    let mut server = Server::spawn(through_shell("ulimit -n 24;", "").args(["--port", "0"]));
    let mut peers: Vec<_> = (0..40_u8).map(|number| (number, server.connect())).collect();
    for (number, peer) in &mut peers {
        peer.write_all(&[*number]).unwrap();
    }

    // How many fit, the log tells.
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

    // While it lasts: a line a second at most, and hardly any work.
    let (then, used) = (Instant::now(), processor_time(server.id()));
    for lines in 1..=3_u64 {
        server.stderr.next_with("cannot accept");
        assert!(begin.elapsed() >= Duration::from_secs(lines), "{lines} lines more already");
    }
    let (lasted, used) = (then.elapsed(), processor_time(server.id()).saturating_sub(used));
    let percent = 100.0 * used.as_secs_f64() / lasted.as_secs_f64();
    eprintln!("shortage: {fitting} of 40 fit, {percent:.1} % processor time over {lasted:?}");
    assert!(percent < 20.0, "{percent} %");

    // Those that wait come in as others go.
    drop(peers.drain(..fitting));
    for (number, peer) in peers {
        expect(&peer, &[number]);
        echo(&peer, b"at last");
    }
    never_panicked(server);
}

/// A server of which system calls fail as `fault` says; `None` where that
/// cannot be had. `name` is for the file that records them.
fn injected(name: &str, calls: &str, fault: &str) -> Option<(Server, PathBuf)> {
    // Of this process, lest two runs at the same time share it.
    let name = format!("strace-{name}-{}", process::id());
    let record = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut command = testing::injected(SERVER, calls, fault, &record)?;
    let server = Server::spawn(command.args(["--port", "0", "-vv"]));
    Some((server, record))
}

/// Ends the server and counts how many calls were made to fail.
fn injections(mut server: Server, record: PathBuf) -> usize {
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    recorded(record)
}

/// How many calls of a server that has ended were made to fail.
fn recorded(record: PathBuf) -> usize {
    // strace writes the end of its record after the server's.
    let text = || fs::read_to_string(&record).unwrap();
    until(|| text().ends_with("+++\n"), |ended| *ended);
    let count = text().matches("(INJECTED)").count();
    fs::remove_file(record).unwrap();
    count
}

#[test]
fn a_shortage_in_the_system_passes() {
    for error in ["ENFILE", "ENOBUFS", "ENOMEM"] {
        let fault = format!("error={error}:when=1..2");
        let Some((mut server, record)) = injected(error, "accept4", &fault) else { return };
        let begin = Instant::now();
        for _ in 0..3 {
            echo(&server.connect(), error.as_bytes());
        }
        eprintln!("{error}: three peers were served after {:?}", begin.elapsed());
        server.stderr.next_with("cannot accept with 0 connections open");
        assert_eq!(injections(server, record), 2);
    }
}

#[test]
fn an_accept_that_fails_once_is_tried_again() {
    for error in ["ECONNABORTED", "EINTR", "EPROTO"] {
        let fault = format!("error={error}:when=1..2");
        let Some((mut server, record)) = injected(error, "accept4", &fault) else { return };
        for _ in 0..3 {
            echo(&server.connect(), error.as_bytes());
        }
        server.stderr.next_with("accept: ");
        assert_eq!(injections(server, record), 2);
        eprintln!("{error} twice: accepts lost 0 of 3");
    }
}

/// A listening socket that is beyond repair ends the server, and not as if
/// that had been asked for.
#[test]
fn a_listening_socket_that_fails_is_an_error() {
    // The first finds a peer, the second nobody, the third the next peer.
    let fault = "error=EINVAL:when=3";
    let Some((mut server, record)) = injected("EINVAL", "accept4", fault) else { return };
    let first = server.connect();
    echo(&first, b"before");
    // It may be reset as it is connecting: the queue goes with the listener.
    let _second = TcpStream::connect_timeout(&server.addr, DEADLINE);
    server.stderr.next_with("the listener closes");
    echo(&first, b"its peers may finish");
    drop(first);
    assert_eq!(server.exit_code(), 1);
    server.stderr.next_with("echo-server: stopped listening on 127.0.0.1:");
    fs::remove_file(record).unwrap();
}

#[test]
fn peers_that_reset_before_they_are_accepted_leave_nothing_behind() {
    let server = Server::start(&[]);
    echo(&server.connect(), b"first");
    let base = descriptors(server.id());
    server.signal("STOP");
    until(|| stat(server.id())[0].clone(), |state| state == "T");
    for _ in 0..20 {
        reset(server.connect());
        let mut peer = server.connect();
        peer.write_all(b"and gone").unwrap();
        reset(peer);
    }
    server.signal("CONT");
    echo(&server.connect(), b"next");
    until(|| descriptors(server.id()), |open| *open <= base);
    eprintln!("40 reset before they were accepted: descriptors +0, panics 0");
    never_panicked(server);
}

// --- reading and writing: rows 5, 6, 8, 9, 10, 11 ----------------------------

#[test]
fn interrupted_reads_and_writes_lose_nothing() {
    let (calls, fault) = ("recvfrom,sendto,sendmsg", "error=EINTR:when=1+3");
    let Some((mut server, record)) = injected("EINTR-io", calls, fault) else { return };
    let sent = pattern(2_000_000);
    let peer = server.connect();
    thread::scope(|scope| {
        scope.spawn(|| (&peer).write_all(&sent).unwrap());
        expect(&peer, &sent);
    });
    drop(peer);
    // SIGTERM would do only sometimes: its handler passes it on by a `sendto`,
    // which cannot be interrupted but here, and does not try again.
    server.kill();
    let count = recorded(record);
    eprintln!("{count} calls were interrupted");
    assert!(count > 10, "{count}");
}

/// The peer ends its side while its echo still waits in the server.
#[test]
fn an_end_does_not_overtake_what_waits() {
    let fault = "error=EAGAIN:when=1..50";
    let Some((server, record)) = injected("EAGAIN", "sendto", fault) else { return };
    let mut peer = server.connect();
    peer.write_all(b"the last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    expect(&peer, b"the last words");
    expect_end(&peer);
    assert_eq!(injections(server, record), 50);
}

#[test]
fn resets_under_load_cost_others_nothing() {
    let server = Server::start(&[]);
    let steady = server.connect();
    echo(&steady, b"first");
    let base = descriptors(server.id());
    let addr = server.addr;
    let (message, block) = (pattern(5_000), vec![0; 100_000]);
    let mut echoed = 0;
    thread::scope(|scope| {
        let abuse = scope.spawn(|| {
            for round in 0..60 {
                let mut peer = connect(addr);
                if round % 2 == 0 {
                    // In the middle of its reading.
                    peer.write_all(&block).unwrap();
                } else {
                    // In the middle of its writing: it is full to the brim.
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
    until(|| descriptors(server.id()), |open| *open <= base);
    eprintln!("60 resets in mid-transfer: bytes lost 0 of {echoed} beside them");
    never_panicked(server);
}

/// Sends of `data` what goes in: until the kernel's buffers on both sides are
/// full, and the server's own. Returns how much that was.
fn fill(mut peer: &TcpStream, data: &[u8]) -> usize {
    peer.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while sent < data.len() {
        match peer.write(&data[sent..data.len().min(sent + 65_536)]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // The process was stopped, and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    peer.set_write_timeout(Some(DEADLINE)).unwrap();
    sent
}

#[test]
fn peers_that_never_read_cost_little_memory_and_nobody_else() {
    const STUCK: u64 = 4;
    const OTHERS: u64 = 50;
    /// What `--help` and the library promise for each connection, in KiB.
    const MOST: u64 = 128;
    /// What is the program's and not a connection's: code that is paged in as
    /// it is used, the read buffer, what the allocator keeps.
    const SLACK: u64 = 3072;

    let server = Server::start(&["-q"]);
    echo(&server.connect(), &pattern(100_000));
    let base = resident(server.id());

    let stuck: Vec<_> = (0..STUCK).map(|_| server.connect()).collect();
    // The kernel takes a part of it. A server that read on would hold the rest.
    let flood = vec![0; 32 << 20];
    let sent: usize = thread::scope(|scope| {
        let fillers: Vec<_> = stuck.iter().map(|peer| scope.spawn(|| fill(peer, &flood))).collect();
        fillers.into_iter().map(|filler| filler.join().unwrap()).sum()
    });
    let with_stuck = resident(server.id());

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
    let with_all = resident(server.id());
    eprintln!(
        "{STUCK} peers sent {sent} bytes and read none: {base} KiB, {with_stuck} KiB with them, \
         {with_all} KiB with {OTHERS} others"
    );
    assert!(with_stuck <= base + STUCK * MOST + SLACK, "{base} KiB, then {with_stuck}");
    assert!(with_all <= base + (STUCK + OTHERS) * MOST + SLACK, "{base} KiB, then {with_all}");
    drop(stuck);
    never_panicked(server);
}

/// The counterpart of the client's test of the same size: what went through
/// leaves nothing behind.
#[test]
fn a_long_conversation_costs_no_more_memory_than_a_short_one() {
    /// Of 1 MiB but for a bit, so that no buffer's length divides it.
    const PIECE: usize = 1_048_573;
    const PIECES: usize = 101;
    /// In KiB. 128 KiB are the connection's at the most; the rest is the
    /// program.
    const MOST: u64 = 16 * 1024;

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
    let peak = memory(server.id(), "VmHWM").unwrap();
    eprintln!("{} bytes went through, with {peak} KiB at the most", PIECES * PIECE);
    assert!(peak < MOST, "{peak} KiB");
    never_panicked(server);
}

#[test]
fn a_peer_that_never_reads_is_closed_in_time() {
    let mut server = Server::start(&["-vv", "--stall-timeout", "2s"]);
    let other = server.connect();
    echo(&other, b"before");
    let begin = Instant::now();
    let stuck = server.connect();
    let (mut sent, block) = (0, vec![0; 65_536]);
    let error = loop {
        match (&stuck).write(&block) {
            Ok(written) => sent += written,
            // Linux says so of a socket with a timeout when the process is
            // stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break error,
        }
    };
    let lasted = begin.elapsed();
    eprintln!("closed after {lasted:?} and {sent} bytes: {error}");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    server.stderr.next_with("timed out: the peer does not read");
    assert!(lasted >= Duration::from_secs(2), "{lasted:?}");
    echo(&other, b"after");
    never_panicked(server);
}

/// It goes on reading when the server has long stopped to: partial writes,
/// the high-water mark and the way back from it lie on the way.
#[test]
fn a_late_reader_gets_every_byte_in_order() {
    let server = Server::start(&[]);
    let sent = pattern(16_000_000);
    let peer = server.connect();
    let before = fill(&peer, &sent);
    eprintln!("{before} bytes went in before the first was read");
    assert!(before < sent.len(), "the server holds them all");
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
