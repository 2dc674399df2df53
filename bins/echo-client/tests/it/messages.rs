//! Messages and their replies, without faults.

use std::ffi::OsStr;
use std::io::Write;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use testing::{Lines, Process, command, expect, expect_end, pattern, run};

use crate::common::{
    CLIENT, Output, Server, WIRE, client, echo, echo_server, run_bytes, ten_lines,
};

/// Starts a server that receives `wire` and then replies with `pieces`, one
/// after another.
fn reply_server(wire: &'static [u8], pieces: Vec<Vec<u8>>) -> Server<()> {
    Server::start(move |mut peer: TcpStream| {
        peer.set_nodelay(true).unwrap();
        expect(&peer, wire);
        for piece in pieces {
            peer.write_all(&piece).unwrap();
            // So that the client mostly reads each piece separately. Joined
            // pieces must work too.
            thread::sleep(Duration::from_millis(1));
        }
        expect_end(&peer);
    })
}

/// Returns a message that fits an argument, of at most 128 KiB on Linux.
fn long_message() -> Vec<u8> {
    pattern(100_000).iter().map(|byte| b'a' + byte % 26).collect()
}

#[test]
fn default_messages_print_ten_lines() {
    let server = Server::start(|peer| {
        let mut wire = Vec::new();
        // Returns when the client closes.
        echo(&peer, |piece| wire.extend_from_slice(piece));
        wire
    });
    let outcome = run_bytes(&mut client(server.addr));
    assert_eq!(outcome, (0, b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n".to_vec(), vec![]));
    assert_eq!(server.join(), WIRE);
}

#[test]
fn reply_is_printed_when_complete() {
    let (reply_tx, reply_rx) = mpsc::channel();
    let server = Server::start(move |mut peer: TcpStream| {
        expect(&peer, WIRE);
        for reply in reply_rx {
            peer.write_all(reply).unwrap();
        }
        expect_end(&peer);
    });
    let mut process = Process::start(client(server.addr).stdout(Stdio::piped()));
    let mut stdout = Lines::from_reader(process.take_stdout());
    // The first byte of each reply arrives with the last byte of the previous.
    for (reply, line) in [("12", "1"), ("3", "2"), ("45", "3"), ("67891", "4")] {
        reply_tx.send(reply.as_bytes()).unwrap();
        assert_eq!(stdout.next().as_deref(), Some(line));
    }
    reply_tx.send(b"0").unwrap();
    drop(reply_tx);
    assert_eq!(stdout.rest(), ["5", "6", "7", "8", "9", "10"]);
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    server.join();
}

#[test]
fn replies_arriving_byte_by_byte_are_printed() {
    let server = reply_server(WIRE, WIRE.iter().map(|&byte| vec![byte]).collect());
    assert_eq!(run(&mut client(server.addr)), (0, ten_lines(), vec![]));
    server.join();
}

#[test]
fn replies_arriving_together_are_separated() {
    let server = reply_server(WIRE, vec![WIRE.to_vec()]);
    assert_eq!(run(&mut client(server.addr)), (0, ten_lines(), vec![]));
    server.join();
}

#[test]
fn replies_split_anywhere_are_joined() {
    const WIRE: &[u8] = b"alphabetagamma";
    for cut in 1..WIRE.len() {
        let (first, second) = WIRE.split_at(cut);
        let server = reply_server(WIRE, vec![first.to_vec(), second.to_vec()]);
        let (code, lines, stderr) = run(client(server.addr).args(["--", "alpha", "beta", "gamma"]));
        assert_eq!((code, stderr), (0, vec![]), "cut at {cut}");
        assert_eq!(lines, ["alpha", "beta", "gamma"], "cut at {cut}");
        server.join();
    }
}

#[cfg(unix)] // arguments that are not Unicode
#[test]
fn messages_may_contain_any_bytes() {
    let messages: [&[u8]; 5] = [
        "how are you?".as_bytes(),
        "你好,Grüße 🦀".as_bytes(),
        b"\xff\xfe no UTF-8",
        b"a\nb",
        b" ",
    ];
    let server = Server::start(|peer| {
        let mut wire = Vec::new();
        echo(&peer, |piece| wire.extend_from_slice(piece));
        wire
    });
    let outcome = run_bytes(client(server.addr).arg("--").args(messages.map(OsStr::from_bytes)));
    let lines: Vec<u8> = messages.map(|message| [message, b"\n"].concat()).concat();
    assert_eq!(outcome, (0, lines, vec![]));
    assert_eq!(server.join(), messages.concat());
}

#[test]
fn messages_may_be_options() {
    let server = reply_server(b"one-2", vec![b"one-2".to_vec()]);
    let (code, lines, stderr) = run(client(server.addr).args(["-m", "one", "--message", "-2"]));
    assert_eq!((code, stderr), (0, vec![]));
    assert_eq!(lines, ["one", "-2"]);
    server.join();
}

#[test]
fn messages_may_begin_with_dash() {
    let server = reply_server(b"-1-2", vec![b"-1-2".to_vec()]);
    let (code, lines, stderr) = run(client(server.addr).args(["--", "-1", "-2"]));
    assert_eq!((code, stderr), (0, vec![]));
    assert_eq!(lines, ["-1", "-2"]);
    server.join();
}

/// Each is sent in several slices, and received in several reads.
#[cfg(unix)] // arguments that are not Unicode
#[test]
fn long_messages_are_echoed() {
    let server = echo_server();
    let message = long_message();
    let messages = [OsStr::from_bytes(&message); 12];
    let (code, bytes, stderr) = run_bytes(client(server.addr).arg("--").args(messages));
    assert_eq!((code, stderr), (0, vec![]));
    assert!(bytes == [&message[..], b"\n"].concat().repeat(12), "{} bytes", bytes.len());
    assert_eq!(server.join(), 12 * message.len() as u64);
}

/// While its own output blocks, the client does not read from the server. This
/// must not count as a missing reply.
#[cfg(unix)] // arguments that are not Unicode
#[test]
fn slow_stdout_reader_does_not_time_out() {
    let message = long_message();
    let server = echo_server();
    let mut command = client(server.addr);
    command.args(["--timeout", "1s", "--"]).args([OsStr::from_bytes(&message); 10]);
    let mut process = Process::start(command.stdout(Stdio::piped()));
    let stdout = process.take_stdout();
    // Not to wait for a result: this is the fault.
    thread::sleep(Duration::from_millis(2500));
    let bytes = Output::from_reader(stdout).rest();
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    assert!(bytes == [&message[..], b"\n"].concat().repeat(10), "{} bytes", bytes.len());
    server.join();
}

#[test]
fn log_level_option_overrides_environment() {
    for (options, rust_log, info, debug) in [
        (&[][..], None, false, false),
        (&["-v"], None, true, false),
        (&["-vv"], None, true, true),
        (&[], Some("debug"), true, true),
        (&["-v"], Some("debug"), true, false),
        (&["-q"], Some("debug"), false, false),
    ] {
        let server = echo_server();
        let mut command = client(server.addr);
        if let Some(rust_log) = rust_log {
            command.env("RUST_LOG", rust_log);
        }
        let (code, lines, log) = run(command.args(options));
        assert_eq!((code, lines), (0, ten_lines()), "{options:?} {log:#?}");
        let has = |level| log.iter().any(|line| line.contains(level));
        assert_eq!((has(" INFO "), has(" DEBUG ")), (info, debug), "{options:?} {log:#?}");
        server.join();
    }
}

#[test]
fn version_and_help_are_printed() {
    let (code, version, _) = run(command(CLIENT).arg("--version"));
    assert_eq!((code, version), (0, vec![format!("echo-client {}", env!("CARGO_PKG_VERSION"))]));

    let (code, help, stderr) = run(command(CLIENT).arg("--help"));
    let help = help.join("\n");
    assert_eq!((code, stderr.len()), (0, 0));
    for part in ["127.0.0.1]", "9999]", "10s]", "Examples:", "Exit codes:", "RUST_LOG"] {
        assert!(help.contains(part), "{part} is missing: {help}");
    }
}
