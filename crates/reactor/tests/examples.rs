//! Runs each example program with real peers.
//!
//! `cargo test` builds the examples. `cargo test --test examples` does not: it
//! runs the existing binaries.
//!
//! With `REACTOR_FULL=1` in the environment the proxy transfers 1 GiB instead
//! of 64 MiB.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test is the report of a failure"
)]

use std::env;
use std::fmt::Debug;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

/// A time limit that no test reaches, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

const ANY_PORT: &str = "127.0.0.1:0";

/// Returns how an error of the system is shown.
fn shown(error: Errno) -> String {
    io::Error::from(error).to_string()
}

// --- http_client ----------------------------------------------------------

#[test]
fn http_client_sends_get_and_prints_response() {
    const ANSWER: &str = "HTTP/1.0 200 OK\r\nContent-Length: 12\r\n\r\nhello\nworld\n";
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = Program::start("http_client", &["localhost", &port.to_string(), "/index.html"]);
    let mut server = accept(&listener);
    expect(&server, format!("GET /index.html HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n"));
    server.write_all(ANSWER.as_bytes()).unwrap();
    drop(server);
    assert_eq!(client.end(), (0, ANSWER.into(), String::new()));
}

#[test]
fn http_client_failure_prints_reason() {
    let (_held, addr) = closed_port();
    let port = addr.port().to_string();
    let (code, stdout, stderr) = Program::start("http_client", &["127.0.0.1", &port]).end();
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(stderr, format!("Error: 127.0.0.1:{port}: {}\n", shown(Errno::CONNREFUSED)));

    if !testing::reports_resets() {
        return;
    }
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut client = Program::start("http_client", &["127.0.0.1", &port]);
    let mut server = accept(&listener);
    server.write_all(b"HTTP/1.0 200 OK\r\n").unwrap();
    assert_eq!(client.line(), "HTTP/1.0 200 OK\r");
    reset(server);
    let (code, _, stderr) = client.end();
    assert_eq!(code, 1);
    assert_eq!(stderr, format!("Error: 127.0.0.1:{port}: {}\n", shown(Errno::CONNRESET)));
}

// --- chat_server ----------------------------------------------------------

/// The number of peers, and of those that send.
const PEERS: usize = 200;
const SPEAKERS: usize = 5;
/// The number of messages of each speaker, of 200 bytes including the newline.
const MESSAGES: usize = 60;

fn chat_line(number: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
    format!("{number:03} {}", letter.to_string().repeat(195))
}

/// Connects a peer to the chat, and waits for the announcement that it has joined.
fn join(server: &mut Program, addr: SocketAddr) -> TcpStream {
    let peer = connect(addr);
    let joined = format!("{} joined", peer.local_addr().unwrap());
    assert_eq!(server.line(), joined);
    expect(&peer, joined + "\n");
    peer
}

/// Receives lines, without those that tell who joined or left.
fn said(peer: &TcpStream) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(peer.try_clone().unwrap()).lines().map(Result::unwrap);
    lines.filter(|line| line.split_once(": ").is_some_and(|(name, _)| !name.contains(' ')))
}

#[test]
fn chat_server_broadcasts_while_one_peer_never_reads() {
    let (mut server, addr) = Program::server("chat_server", &[ANY_PORT]);
    let mut peers: Vec<_> = (0..PEERS).map(|_| join(&mut server, addr)).collect();
    let stalled = peers.pop().unwrap();

    let readers: Vec<_> = peers
        .iter()
        .map(|peer| {
            let lines = said(peer);
            thread::spawn(move || lines.take(SPEAKERS * MESSAGES).collect::<Vec<_>>())
        })
        .collect();
    let speakers: Vec<_> = peers[..SPEAKERS]
        .iter()
        .map(|peer| {
            let mut peer = peer.try_clone().unwrap();
            thread::spawn(move || {
                for number in 0..MESSAGES {
                    peer.write_all(format!("{}\n", chat_line(number)).as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for speaker in speakers {
        speaker.join().unwrap();
    }
    let received: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();

    for peer in &peers[..SPEAKERS] {
        let name = format!("{}: ", peer.local_addr().unwrap());
        let sent: Vec<_> =
            received[0].iter().filter_map(|line| line.strip_prefix(name.as_str())).collect();
        let expected: Vec<_> = (0..MESSAGES).map(chat_line).collect();
        assert!(sent == expected, "{name}{sent:#?}");
    }
    assert_eq!(received[0].len(), SPEAKERS * MESSAGES);
    assert!(
        received.iter().all(|lines| *lines == received[0]),
        "the peers received different lines"
    );
    server.assert_memory_below(32 * 1024, "chat_server, 200 peers");

    // The server announces that a peer has left, and the others still receive messages.
    let name = stalled.local_addr().unwrap();
    drop(stalled);
    let left = server.line();
    assert!(left.starts_with(&format!("{name} left: ")), "{left}");
    (&peers[0]).write_all(b"bye\r\n").unwrap();
    let bye = format!("{left}\n{}: bye\n", peers[0].local_addr().unwrap());
    for peer in &peers {
        expect(peer, &bye);
    }
}

#[test]
fn chat_server_closes_peer_that_does_not_read() {
    /// More than the kernel holds for one connection.
    const MAX: usize = 128 * 1024 * 1024;
    let (mut server, addr) = Program::server("chat_server", &[ANY_PORT]);
    let speaker = join(&mut server, addr);
    let listener = join(&mut server, addr);
    let stalled: Vec<_> = (0..20).map(|_| join(&mut server, addr)).collect();
    let mut names: Vec<_> =
        stalled.iter().map(|peer| peer.local_addr().unwrap().to_string()).collect();

    let (mut to_listener, mut to_speaker) = (said(&listener), said(&speaker));
    let line = "x".repeat(60_000);
    let message = format!("{}: {line}", speaker.local_addr().unwrap());
    let mut sent = 0;
    while !names.is_empty() {
        assert!(sent < MAX, "not closed: {names:?}");
        (&speaker).write_all(format!("{line}\n").as_bytes()).unwrap();
        // The others receive it without delay.
        for peer in [&mut to_listener, &mut to_speaker] {
            assert!(peer.next().unwrap() == message, "received other data");
        }
        sent += message.len();
        while let Some(left) = server.available_line() {
            let (name, reason) = left.split_once(" left: ").unwrap();
            assert!(reason.starts_with("closed, ") && reason.ends_with(" bytes unsent"), "{left}");
            names.remove(names.iter().position(|other| other == name).unwrap());
        }
    }
    server.assert_memory_below(16 * 1024, "chat_server, 20 stalled peers");
    (&listener).write_all(b"the end\n").unwrap();
    let message = format!("{}: the end", listener.local_addr().unwrap());
    assert_eq!(to_listener.next().unwrap(), message);
    assert_eq!(to_speaker.next().unwrap(), message);
}

// --- proxy ----------------------------------------------------------------

/// More than the kernel holds in the four socket buffers.
const IN_THE_KERNEL: usize = 96 * 1024 * 1024;

/// Starts a proxy; returns its address and the listener of its target.
fn proxy() -> (Program, SocketAddr, TcpListener) {
    let target = TcpListener::bind(ANY_PORT).unwrap();
    let addr = target.local_addr().unwrap().to_string();
    let (proxy, addr) = Program::server("proxy", &[ANY_PORT, &addr]);
    (proxy, addr, target)
}

/// Returns both ends of a connection through the proxy.
fn connect_through(addr: SocketAddr, target: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(addr);
    (client, accept(target))
}

/// Returns a block whose length divides no buffer size, so that in a repetition
/// a missing or extra byte is detected.
fn block() -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(1_000_003).collect()
}

/// Sends bytes `from` to `to` of the infinite repetition of `block`.
fn send_blocks(mut peer: &TcpStream, block: &[u8], from: usize, to: usize) {
    let mut at = from;
    while at < to {
        let rest = &block[at % block.len()..];
        let part = &rest[..rest.len().min(to - at)];
        peer.write_all(part).unwrap();
        at += part.len();
    }
}

/// Sends the same bytes until no more are accepted; returns their number.
#[track_caller]
fn send_until_full(mut peer: &TcpStream, block: &[u8]) -> usize {
    peer.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    loop {
        match peer.write(&block[sent % block.len()..]) {
            Ok(written) => sent += written,
            Err(error) => {
                // Windows: `TimedOut`.
                let kinds = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                assert!(kinds.contains(&error.kind()), "{error}");
                peer.set_write_timeout(Some(DEADLINE)).unwrap();
                return sent;
            }
        }
        assert!(sent < IN_THE_KERNEL, "accepted without a limit");
    }
}

/// Receives and compares the bytes of [`send_blocks`] up to the end; returns
/// their number.
fn receive_blocks(mut peer: &TcpStream, block: &[u8]) -> usize {
    let mut buffer = vec![0; 256 * 1024];
    let mut at = 0;
    loop {
        let start = at % block.len();
        let most = buffer.len().min(block.len() - start);
        let read = peer.read(&mut buffer[..most]).unwrap();
        if read == 0 {
            return at;
        }
        assert!(
            buffer[..read] == block[start..start + read],
            "received data differs after {at} bytes"
        );
        at += read;
    }
}

#[test]
fn proxy_uses_little_memory_for_any_amount() {
    let full = env::var_os("REACTOR_FULL").is_some_and(|value| value == "1");
    let mib = if full { 1024 } else { 64 };
    if !full {
        report("proxy: transferring 64 MiB; 1 GiB with REACTOR_FULL=1");
    }
    let amount = mib * 1024 * 1024;
    let (proxy, addr, target) = proxy();
    let (client, target) = connect_through(addr, &target);
    let begin = Instant::now();
    let sink = thread::spawn(move || {
        let amount = receive_blocks(&target, &block());
        (&target).write_all(b"thank you").unwrap();
        amount
    });
    send_blocks(&client, &block(), 0, amount);
    client.shutdown(Shutdown::Write).unwrap();
    expect(&client, "thank you");
    expect_end(&client);
    assert_eq!(sink.join().unwrap(), amount);
    report(&format!("proxy: {mib} MiB in {:.1} s", begin.elapsed().as_secs_f64()));
    proxy.assert_memory_below(16 * 1024, "proxy");
}

#[test]
fn proxy_forwards_half_close_in_both_directions() {
    const AMOUNT: usize = 20_000_000;
    let block = block();
    let (proxy, addr, target) = proxy();
    let idle = proxy.count_descriptors();
    for client_ends_first in [true, false] {
        let (client, target) = connect_through(addr, &target);
        let (first, second) = if client_ends_first { (client, target) } else { (target, client) };
        // So much that the end arrives while some of it is queued.
        thread::scope(|scope| {
            scope.spawn(|| {
                send_blocks(&first, &block, 0, AMOUNT);
                first.shutdown(Shutdown::Write).unwrap();
            });
            assert_eq!(receive_blocks(&second, &block), AMOUNT);
        });
        thread::scope(|scope| {
            scope.spawn(|| {
                send_blocks(&second, &block, 0, AMOUNT);
                second.shutdown(Shutdown::Write).unwrap();
            });
            assert_eq!(receive_blocks(&first, &block), AMOUNT);
        });
        // Both halves are closed, although both peers keep their sockets open.
        wait_until(|| proxy.count_descriptors(), |now| *now == idle);
    }
}

#[test]
fn proxy_reads_no_more_than_the_other_side_accepts() {
    const ALL: usize = 2 * IN_THE_KERNEL;
    let block = block();
    let (proxy, addr, target) = proxy();
    for client_sends in [true, false] {
        let (client, target) = connect_through(addr, &target);
        let (sender, receiver) = if client_sends { (client, target) } else { (target, client) };
        let sent = send_until_full(&sender, &block);
        report(&format!("proxy: {sent} bytes accepted for a peer that does not read"));
        proxy.assert_memory_below(16 * 1024, "proxy");

        // It continues where it stopped.
        thread::scope(|scope| {
            scope.spawn(|| {
                send_blocks(&sender, &block, sent, ALL);
                sender.shutdown(Shutdown::Write).unwrap();
            });
            assert_eq!(receive_blocks(&receiver, &block), ALL);
        });
    }
}

#[test]
fn proxy_closes_client_if_target_refuses() {
    let (_held, target) = closed_port();
    let (mut proxy, addr) = Program::server("proxy", &[ANY_PORT, &target.to_string()]);
    for _ in 0..3 {
        let client = connect(addr);
        // The same for a client that sends. If the proxy has closed already, the
        // kernel answers with a reset.
        let _ = (&client).write_all(b"hello");
        match (&client).read(&mut [0; 64]) {
            Ok(read) => assert_eq!(read, 0, "unexpected data"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        let line = proxy.error_line();
        let refused = format!("{target}: {}", shown(Errno::CONNREFUSED));
        assert!(line.starts_with(&refused), "{line}");
    }
}

#[test]
fn proxy_forwards_reset_as_close() {
    if !testing::reports_resets() {
        return;
    }
    let block = block();
    let (mut proxy, addr, target) = proxy();
    let idle = proxy.count_descriptors();
    for client_resets in [true, false] {
        for full in [false, true] {
            let (client, target) = connect_through(addr, &target);
            let (one, other) = if client_resets { (client, target) } else { (target, client) };
            (&one).write_all(b"x").unwrap();
            expect(&other, "x");
            if full {
                // As much as the proxy accepts: it stops reading from this side,
                // but still detects the failure.
                send_until_full(&one, &block);
            }
            // The local address here is the peer address in the proxy.
            let name = one.local_addr().unwrap();
            reset(one);
            assert_eq!(proxy.error_line(), format!("{name}: {}", shown(Errno::CONNRESET)));
            // The proxy still delivers its queued data, and then the end.
            io::copy(&mut &other, &mut io::sink()).unwrap();
            wait_until(|| proxy.count_descriptors(), |now| *now == idle);
        }
    }
}

// --- udp_echo -------------------------------------------------------------

#[test]
fn udp_echo_returns_each_datagram_to_its_sender() {
    let (_server, addr) = Program::server("udp_echo", &[ANY_PORT]);
    let peers: Vec<_> = (0..3)
        .map(|_| {
            let peer = UdpSocket::bind(ANY_PORT).unwrap();
            peer.connect(addr).unwrap();
            peer.set_read_timeout(Some(DEADLINE)).unwrap();
            peer
        })
        .collect();
    for len in [5, 0, 1400, 60_000] {
        for (number, peer) in (1..).zip(&peers) {
            peer.send(&vec![number; len]).unwrap();
        }
        for (number, peer) in (1..).zip(&peers) {
            let mut buffer = vec![0; 65_536];
            let read = peer.recv(&mut buffer).unwrap();
            assert!(buffer[..read] == vec![number; len], "{read} bytes for {len}");
        }
    }
}

// --- follow_pipe ----------------------------------------------------------

#[cfg(unix)] // pipes
#[test]
fn follow_pipe_prints_each_line_on_arrival() {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut program = Program::start_with("follow_pipe", &[], reader.into());
    for (number, line) in ["one", "", "and three"].iter().enumerate() {
        writeln!(writer, "{line}").unwrap();
        assert_eq!(program.line(), format!("{}: {line}", number + 1));
    }
    writer.write_all(b"no end").unwrap();
    drop(writer);
    assert_eq!(program.end(), (0, "4: no end\n".into(), String::new()));
}

#[cfg(unix)] // pipes
#[test]
fn follow_pipe_reads_fifo_and_non_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let name = path.to_str().unwrap();
    let mut program = Program::start("follow_pipe", &[name]);
    // Opened for both, so that it does not block (fifo(7)).
    let mut writer = fs::File::options().read(true).write(true).open(&path).unwrap();
    writer.write_all(b"one\n").unwrap();
    assert_eq!(program.line(), "1: one");
    drop(writer);
    assert_eq!(program.end(), (0, String::new(), String::new()));

    let path = dir.path().join("file");
    fs::write(&path, "one\ntwo\n").unwrap();
    let program = Program::start("follow_pipe", &[path.to_str().unwrap()]);
    assert_eq!(program.end(), (0, "1: one\n2: two\n".into(), String::new()));

    let program = Program::start("follow_pipe", &["/no/such/pipe"]);
    let error = "Error: /no/such/pipe: No such file or directory (os error 2)\n";
    assert_eq!(program.end(), (1, String::new(), error.into()));
}

#[cfg(unix)] // pipes
#[test]
fn follow_pipe_restores_the_pipe_mode() {
    use rustix::fs::{OFlags, fcntl_getfl};
    use rustix::process::{Pid, Signal, kill_process};

    let (reader, mut writer) = io::pipe().unwrap();
    let ours = reader.try_clone().unwrap();
    let mut program = Program::start_with("follow_pipe", &[], reader.into());
    writer.write_all(b"one\n").unwrap();
    assert_eq!(program.line(), "1: one");
    assert!(fcntl_getfl(&ours).unwrap().contains(OFlags::NONBLOCK));
    let pid = Pid::from_raw(program.child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(program.end(), (0, String::new(), String::new()));
    assert!(!fcntl_getfl(&ours).unwrap().contains(OFlags::NONBLOCK));
}

#[cfg(unix)] // pipes
#[test]
fn follow_pipe_failure_prints_reason() {
    let (reader, mut writer) = io::pipe().unwrap();
    let program = Program::start_with("follow_pipe", &[], reader.into());
    // The program may end before it has read everything.
    let _ = writer.write_all(&vec![b'x'; 200_000]);
    let error = "Error: message longer than 65536 bytes\n";
    assert_eq!(program.end(), (1, String::new(), error.into()));
}

// --- periodic -------------------------------------------------------------

#[test]
fn periodic_ticks_n_times_never_early_without_drift() {
    const PERIOD: f64 = 2.0;
    /// The printed time has three decimal places.
    const ROUNDED: f64 = 0.000_6;
    let (code, stdout, stderr) = Program::start("periodic", &["100", "2"]).end();
    assert_eq!((code, stderr.as_str()), (0, ""));
    let late: Vec<f64> = (1..)
        .zip(stdout.lines())
        .map(|(number, line)| {
            let rest = line.strip_prefix(&format!("{number} after ")).unwrap();
            let at: f64 = rest.strip_suffix(" ms").unwrap().parse().unwrap();
            at - f64::from(number) * PERIOD
        })
        .collect();
    assert_eq!(late.len(), 100);
    assert!(late.iter().all(|late| *late > -ROUNDED), "early: {late:?}");
    // A drifting timer is later every time.
    assert!(late.windows(2).any(|pair| pair[1] < pair[0] - ROUNDED), "it drifts: {late:?}");

    assert_eq!(Program::start("periodic", &["0"]).end(), (0, String::new(), String::new()));
}

// --- post_from_thread -----------------------------------------------------

#[test]
fn post_from_thread_answers_in_order_also_after_half_close() {
    let (_server, addr) = Program::server("post_from_thread", &[ANY_PORT]);
    // A client that does not wait for its answer does not affect the others.
    connect(addr).write_all(b"1000003\n").unwrap();
    let peer = connect(addr);
    (&peer).write_all(b"1009\n1001\nten\r\n").unwrap();
    // Input that needs no work is answered before input that does.
    let mut lines = Vec::from(["", "", ""].map(String::from));
    let mut reader = BufReader::new(&peer);
    for line in &mut lines {
        reader.read_line(line).unwrap();
    }
    let (slow, quick): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.contains("prime"));
    assert_eq!(slow, ["1009 is prime\n", "1001 is not prime\n"]);
    assert_eq!(quick, ["not a number\n"]);

    (&peer).write_all(b"0\n2\n").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "0 is not prime\n2 is prime\n");
}

#[test]
fn post_from_thread_serves_others_during_slow_work() {
    let (_server, addr) = Program::server("post_from_thread", &[ANY_PORT]);
    let busy_client = connect(addr);
    // The largest 64-bit prime keeps the worker busy; the other questions exceed
    // its queue.
    let questions = "18446744073709551557\n".to_owned() + &"7\n".repeat(150);
    (&busy_client).write_all(questions.as_bytes()).unwrap();
    expect(&busy_client, "too busy, ask again\n");
    let other = connect(addr);
    (&other).write_all(b"ten\n").unwrap();
    expect(&other, "not a number\n");
}

// --- inotify --------------------------------------------------------------

#[cfg(target_os = "linux")]
#[test]
fn inotify_prints_directory_events() {
    let dir = tempfile::tempdir().unwrap();
    let watched = dir.path().join("watched");
    fs::create_dir(&watched).unwrap();
    let name = watched.to_str().unwrap();
    let mut program = Program::start("inotify", &[name]);
    assert_eq!(program.line(), format!("Watching {name}"));
    fs::write(watched.join("a"), "hello").unwrap();
    assert_eq!([program.line(), program.line()], ["created: \"a\"", "written: \"a\""]);
    fs::rename(watched.join("a"), watched.join("b\n")).unwrap();
    assert_eq!([program.line(), program.line()], ["moved away: \"a\"", "moved here: \"b\\n\""]);
    // More events at once than one buffer holds.
    for number in 0..300 {
        fs::create_dir(watched.join(number.to_string())).unwrap();
    }
    for number in 0..300 {
        assert_eq!(program.line(), format!("created: \"{number}\""));
    }
    fs::remove_file(watched.join("b\n")).unwrap();
    assert_eq!(program.line(), "deleted: \"b\\n\"");
    fs::remove_dir_all(&watched).unwrap();
    let (code, stdout, stderr) = program.end();
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout.lines().count(), 301);
    assert!(stdout.ends_with("the directory was removed\n"));

    let (code, _, stderr) = Program::start("inotify", &["/dev/null"]).end();
    assert_eq!((code, stderr.as_str()), (1, "Error: /dev/null: Not a directory (os error 20)\n"));
}

// --- resp -----------------------------------------------------------------

/// A command of RESP: its arguments, each with its length.
fn command(args: &[&str]) -> String {
    let bulk = |arg: &&str| format!("${}\r\n{arg}\r\n", arg.len());
    format!("*{}\r\n", args.len()) + &args.iter().map(bulk).collect::<Vec<_>>().concat()
}

#[test]
fn resp_answers_pipelined_commands_in_order() {
    let (_server, addr) = Program::server("resp", &[ANY_PORT]);
    let peer = connect(addr);
    let exchanges: [(&[&str], &str); 13] = [
        (&["PING"], "+PONG\r\n"),
        (&["ECHO", "two\r\nlines"], "$10\r\ntwo\r\nlines\r\n"),
        (&["get", "key"], "$-1\r\n"),
        (&["SET", "key", "value"], "+OK\r\n"),
        (&["GET", "key"], "$5\r\nvalue\r\n"),
        (&["TTL", "key"], ":-1\r\n"),
        (&["EXPIRE", "key", "100"], ":1\r\n"),
        (&["TTL", "key"], ":100\r\n"),
        (&["SET", "key", ""], "+OK\r\n"),
        (&["TTL", "key"], ":-1\r\n"),
        (&["DEL", "key", "other"], ":1\r\n"),
        (&["TTL", "key"], ":-2\r\n"),
        (&["NONE"], "-ERR unknown command or number of arguments\r\n"),
    ];
    let commands: String = exchanges.iter().map(|(args, _)| command(args)).collect();
    let replies: String = exchanges.iter().map(|(_, reply)| *reply).collect();
    (&peer).write_all(commands.as_bytes()).unwrap();
    expect(&peer, &replies);
    // In any pieces, and as a person types it.
    for byte in commands.as_bytes() {
        (&peer).write_all(&[*byte]).unwrap();
    }
    expect(&peer, &replies);
    (&peer).write_all(b"SET key word\r\n\r\nGET key\r\nQUIT\r\n").unwrap();
    expect(&peer, "+OK\r\n$4\r\nword\r\n+OK\r\n");
    expect_end(&peer);
}

#[test]
fn resp_removes_expired_entry() {
    let (_server, addr) = Program::server("resp", &[ANY_PORT]);
    let peer = connect(addr);
    (&peer).write_all(b"SET key value\r\nEXPIRE key 0\r\n").unwrap();
    expect(&peer, "+OK\r\n:1\r\n");
    let mut lines = BufReader::new(&peer).lines();
    let mut ttl = || {
        (&peer).write_all(b"TTL key\r\n").unwrap();
        lines.next().unwrap().unwrap()
    };
    wait_until(&mut ttl, |reply| reply == ":-2");
}

#[test]
fn resp_publishes_to_remaining_subscribers() {
    let (_server, addr) = Program::server("resp", &[ANY_PORT]);
    let [first, second, publisher] = [connect(addr), connect(addr), connect(addr)];
    for peer in [&first, &second] {
        { peer }.write_all(b"SUBSCRIBE news\r\n").unwrap();
        expect(peer, "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    }
    (&publisher).write_all(b"PUBLISH news one\r\n").unwrap();
    expect(&publisher, ":2\r\n");
    for peer in [&first, &second] {
        expect(peer, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\none\r\n");
    }
    (&second).write_all(b"QUIT\r\n").unwrap();
    expect(&second, "+OK\r\n");
    expect_end(&second);
    (&publisher).write_all(b"PUBLISH news two\r\n").unwrap();
    expect(&publisher, ":1\r\n");
}

#[test]
fn resp_resets_peer_on_protocol_error() {
    let (_server, addr) = Program::server("resp", &[ANY_PORT]);
    let inputs = [
        "*x\r\n",
        "*9999\r\n",
        "*1\r\nPING\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$1\r\nxyz",
        "*1\r\n$9999999\r\n",
    ];
    for input in inputs {
        let peer = connect(addr);
        (&peer).write_all(input.as_bytes()).unwrap();
        let error = (&peer).read(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{input:?}");
    }
}

// --- the tutorial: count, delay, retry ------------------------------------

#[test]
fn count_keeps_state_for_each_connection() {
    let (mut server, addr) = Program::server("count", &[ANY_PORT]);
    let [first, second] = [connect(addr), connect(addr)];
    for peer in [&first, &second] {
        expect(peer, "Type something.\n");
    }
    for (mut peer, message, reply) in [
        (&first, "abc", "3 bytes so far\n"),
        (&second, "x", "1 bytes so far\n"),
        (&first, "de", "5 bytes so far\n"),
    ] {
        peer.write_all(message.as_bytes()).unwrap();
        expect(peer, reply);
    }
    let name = first.local_addr().unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    expect_end(&first);
    assert_eq!(server.line(), format!("{name}: 5 bytes; closed by the peer"));
}

#[test]
fn delay_replies_after_a_second_and_closes_idle_peers() {
    let (mut server, addr) = Program::server("delay", &[ANY_PORT]);
    let mut peer = connect(addr);
    let name = peer.local_addr().unwrap();
    let sent = Instant::now();
    peer.write_all(b"hello").unwrap();
    expect(&peer, "hello");
    assert!(sent.elapsed() >= Duration::from_secs(1), "after {:?}", sent.elapsed());
    assert_eq!(server.line(), format!("{name}: timed out: idle timeout"));
    assert!(sent.elapsed() >= Duration::from_secs(4), "after {:?}", sent.elapsed());

    // The end of input is read after the reply.
    let mut peer = connect(addr);
    peer.write_all(b"bye").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    expect(&peer, "bye");
    expect_end(&peer);
}

#[test]
fn retry_connects_once_there_is_a_server() {
    let (socket, addr) = closed_port();
    let port = addr.port().to_string();
    let mut client = Program::start("retry", &["127.0.0.1", &port]);
    let refused = shown(Errno::CONNREFUSED);
    for _ in 0..2 {
        expect_retry(&mut client, &format!("{addr}: {refused}"));
    }
    socket.listen(8).unwrap();
    let listener = TcpListener::from(socket);
    // A connection without a reply is a failure too.
    drop(accept(&listener));
    let mut line = client.line();
    while line.contains(&refused) {
        line = client.line();
    }
    assert!(line.contains("; connecting again in "), "{line}");
    let mut server = accept(&listener);
    expect(&server, "Hello\n");
    server.write_all(b"Welcome\n").unwrap();
    let (code, stdout, stderr) = client.end();
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "Welcome\n", ""));
}

// --- reconnect ------------------------------------------------------------

/// Starts a client of `addr`, and returns its standard input.
fn start_reconnect(addr: SocketAddr) -> (Program, io::PipeWriter) {
    let (reader, input) = io::pipe().unwrap();
    let args = [addr.ip().to_string(), addr.port().to_string()];
    let args = args.each_ref().map(String::as_str);
    (Program::start_with("reconnect", &args, reader.into()), input)
}

/// Listens on an address that no other test uses, so that it can be used again.
fn own_listener() -> (TcpListener, SocketAddr) {
    let ip = if cfg!(target_os = "linux") { "127.0.0.77" } else { "127.0.0.1" };
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Asserts that the client reports `failure`, and that it connects again.
#[track_caller]
fn expect_retry(client: &mut Program, failure: &str) {
    let line = client.line();
    assert!(line.starts_with(&format!("{failure}; connecting again in ")), "{line}");
}

#[test]
fn reconnect_returns_to_a_server_that_was_restarted() {
    let (listener, addr) = own_listener();
    let (mut client, mut input) = start_reconnect(addr);
    let server = accept(&listener);
    assert_eq!(client.line(), format!("connected to {addr}"));
    input.write_all(b"hello\n").unwrap();
    expect(&server, "hello\n");
    (&server).write_all(b"welcome\n").unwrap();
    assert_eq!(client.line(), "welcome");

    drop(listener);
    drop(server);
    expect_retry(&mut client, &format!("{addr}: closed by the peer"));
    expect_retry(&mut client, &format!("{addr}: {}", shown(Errno::CONNREFUSED)));
    // In a pause, unless this test is slow: then the attempt fails with the line.
    input.write_all(b"lost\n").unwrap();
    let line = client.line();
    assert!(line == "not sent: not connected" || line.contains("5 bytes unsent"), "{line}");

    let listener = TcpListener::bind(addr).unwrap();
    while client.line() != format!("connected to {addr}") {}
    let server = accept(&listener);
    input.write_all(b"hello again\n").unwrap();
    drop(input);
    expect(&server, "hello again\n");
    expect_end(&server);
    drop(server);
    assert_eq!(client.end(), (0, String::new(), String::new()));
}

#[test]
fn reconnect_ends_during_a_pause() {
    let (_held, addr) = closed_port();
    let (mut client, input) = start_reconnect(addr);
    expect_retry(&mut client, &format!("{addr}: {}", shown(Errno::CONNREFUSED)));
    drop(input);
    let (code, _, stderr) = client.end();
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[cfg(target_os = "linux")] // namespaces, and more than one loopback address
#[test]
fn reconnect_resolves_the_name_for_each_attempt() {
    let (listener, old) = own_listener();
    let new = SocketAddr::from(([127, 0, 0, 78], old.port()));
    let Some(hosts) = testing::HostsFile::new("moved.test", &[old.ip()]) else { return };
    let (reader, _input) = io::pipe().unwrap();
    let mut command = hosts.command(example("reconnect").to_str().unwrap());
    command.args(["moved.test", &old.port().to_string()]);
    let mut client = Program::spawn(&mut command, reader.into());
    assert_eq!(client.line(), format!("connected to {old}"));
    let server = accept(&listener);
    hosts.set("moved.test", &[new.ip()]);
    let listener = TcpListener::bind(new).unwrap();
    drop(server);
    expect_retry(&mut client, &format!("moved.test:{}: closed by the peer", old.port()));
    assert_eq!(client.line(), format!("connected to {new}"));
    accept(&listener);
}

// --- all of them ----------------------------------------------------------

#[test]
fn wrong_command_line_prints_one_line() {
    const MANY: [&str; 4] = ["1", "2", "3", "4"];
    let usages = [
        ("http_client", "HOST [PORT] [PATH]"),
        ("chat_server", "[ADDRESS]"),
        ("proxy", "LISTEN TARGET"),
        ("udp_echo", "[ADDRESS]"),
        ("follow_pipe", "[PATH]"),
        ("periodic", "N [MILLISECONDS]"),
        ("post_from_thread", "[ADDRESS]"),
        ("inotify", "DIRECTORY"),
        ("reconnect", "HOST PORT"),
        ("resp", "[ADDRESS]"),
    ];
    for (name, usage) in usages {
        let is_missing = match name {
            "inotify" => !cfg!(target_os = "linux"),
            "follow_pipe" => !cfg!(unix),
            _ => false,
        };
        if is_missing {
            continue;
        }
        let expected = format!("Error: usage: {name} {usage}\n");
        assert_eq!(Program::start(name, &MANY).end(), (1, String::new(), expected));
    }
    let (code, _, stderr) = Program::start("http_client", &["localhost", "http"]).end();
    assert_eq!((code, stderr.as_str()), (1, "Error: PORT: invalid digit found in string\n"));
}

#[test]
fn unavailable_address_prints_one_line() {
    let tcp = TcpListener::bind(ANY_PORT).unwrap();
    let udp = UdpSocket::bind(ANY_PORT).unwrap();
    let tcp_addr = tcp.local_addr().unwrap().to_string();
    let udp_addr = udp.local_addr().unwrap().to_string();
    for (name, args) in [
        ("chat_server", vec![&*tcp_addr]),
        ("proxy", vec![&*tcp_addr, &*tcp_addr]),
        ("udp_echo", vec![&*udp_addr]),
        ("post_from_thread", vec![&*tcp_addr]),
        ("resp", vec![&*tcp_addr]),
    ] {
        let expected = format!("Error: {}: {}\n", args[0], shown(Errno::ADDRINUSE));
        assert_eq!(Program::start(name, &args).end(), (1, String::new(), expected));
    }
}

// --- helpers --------------------------------------------------------------

/// Prints a line even if the test passes.
#[expect(clippy::explicit_write, reason = "libtest captures `eprintln!`")]
fn report(line: &str) {
    writeln!(io::stderr(), "{line}").unwrap();
}

/// Waits until `is_done` returns `true` for `state`.
#[track_caller]
fn wait_until<T: Debug>(mut state: impl FnMut() -> T, is_done: impl Fn(&T) -> bool) {
    let begin = Instant::now();
    loop {
        let now = state();
        if is_done(&now) {
            return;
        }
        assert!(begin.elapsed() < DEADLINE, "still {now:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Makes blocking calls on `peer` fail after [`DEADLINE`].
fn with_timeouts(peer: TcpStream) -> TcpStream {
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.set_write_timeout(Some(DEADLINE)).unwrap();
    peer
}

fn connect(addr: SocketAddr) -> TcpStream {
    with_timeouts(TcpStream::connect_timeout(&addr, DEADLINE).unwrap())
}

/// Accepts the next connection within [`DEADLINE`].
#[track_caller]
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_until(
        || {
            accepted = listener.accept().ok();
            accepted.is_some()
        },
        |accepted| *accepted,
    );
    let (peer, _) = accepted.unwrap();
    peer.set_nonblocking(false).unwrap();
    with_timeouts(peer)
}

/// Returns an address that has no listener while the socket is held.
fn closed_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// Receives exactly `message`.
#[track_caller]
fn expect(mut peer: &TcpStream, message: impl AsRef<[u8]>) {
    let mut got = vec![0; message.as_ref().len()];
    peer.read_exact(&mut got).expect("receiving");
    let (got, expected) =
        (String::from_utf8_lossy(&got), String::from_utf8_lossy(message.as_ref()));
    assert!(got == expected, "{got:?} instead of {expected:?}");
}

/// Expects end of input without any data.
#[track_caller]
fn expect_end(mut peer: &TcpStream) {
    assert_eq!(peer.read_to_end(&mut Vec::new()).expect("receiving the end"), 0);
}

/// Closes a connection by a reset.
fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// Returns the path of an example: beside the directory of the tests.
fn example(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples");
    let path = path.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} not found: `cargo test --test examples` does not build the examples; \
         run `cargo build --package reactor --examples` first",
        path.display()
    );
    path
}

/// A running example, killed when dropped.
struct Program {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Program {
    fn start(name: &str, args: &[&str]) -> Self {
        Self::start_with(name, args, Stdio::null())
    }

    fn start_with(name: &str, args: &[&str], stdin: Stdio) -> Self {
        Self::spawn(Command::new(example(name)).args(args), stdin)
    }

    fn spawn(command: &mut Command, stdin: Stdio) -> Self {
        let mut child = command
            // anyhow would print a backtrace.
            .env_remove("RUST_BACKTRACE")
            .env_remove("RUST_LIB_BACKTRACE")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = read_lines(child.stdout.take().unwrap());
        let stderr = read_lines(child.stderr.take().unwrap());
        Program { child, stdout, stderr }
    }

    /// Starts a server, and waits until it prints its address.
    fn server(name: &str, args: &[&str]) -> (Self, SocketAddr) {
        let mut program = Self::start(name, args);
        let line = program.line();
        let addr = line.strip_prefix("Listening on ").unwrap_or_else(|| panic!("{line}"));
        (program, addr.parse().unwrap())
    }

    /// Returns the next line of standard output.
    #[track_caller]
    fn line(&mut self) -> String {
        next_line(&self.stdout)
            .unwrap_or_else(|| panic!("the program ended: {}", remaining_text(&self.stderr)))
    }

    /// Returns the next line of standard output if it is available.
    fn available_line(&mut self) -> Option<String> {
        self.stdout.try_recv().ok().map(|line| line.trim_end_matches('\n').to_owned())
    }

    /// Returns the next line of standard error.
    #[track_caller]
    fn error_line(&mut self) -> String {
        next_line(&self.stderr).expect("no line in time")
    }

    /// Waits until the program exits; returns its exit code and the remaining
    /// output.
    #[track_caller]
    fn end(mut self) -> (i32, String, String) {
        let (stdout, stderr) = (remaining_text(&self.stdout), remaining_text(&self.stderr));
        let mut status = None;
        wait_until(
            || {
                status = self.child.try_wait().unwrap();
                status
            },
            Option::is_some,
        );
        (status.unwrap().code().expect("terminated by a signal"), stdout, stderr)
    }

    /// Returns the number of open descriptors, or `None` without /proc.
    fn count_descriptors(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.child.id())).ok()?.count())
    }

    /// Prints the peak memory, and asserts that it is below a limit.
    #[track_caller]
    fn assert_memory_below(&self, kib: u64, what: &str) {
        let Ok(status) = fs::read_to_string(format!("/proc/{}/status", self.child.id())) else {
            return report("SKIPPED: no /proc with the memory of a process");
        };
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        report(&format!("{what}: peak {peak} KiB"));
        assert!(peak < kib, "{peak} KiB");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if the program has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads `source` on a separate thread, and returns its lines with their ends.
fn read_lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
            line.clear();
        }
    });
    receiver
}

/// Returns the next line without its end, or `None` at the end.
#[track_caller]
fn next_line(lines: &Receiver<String>) -> Option<String> {
    match lines.recv_timeout(DEADLINE) {
        Ok(line) => Some(line.strip_suffix('\n').expect("a line without its end").to_owned()),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("no line in time"),
    }
}

/// Returns all remaining text.
#[track_caller]
fn remaining_text(lines: &Receiver<String>) -> String {
    let mut rest = String::new();
    loop {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => rest += &line,
            Err(RecvTimeoutError::Disconnected) => return rest,
            Err(RecvTimeoutError::Timeout) => panic!("the output does not end; so far {rest:?}"),
        }
    }
}
