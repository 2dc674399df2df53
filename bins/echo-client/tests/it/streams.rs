//! Standard input, output and error of all kinds, also closed: rows 32 and 33.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc;

use testing::{Process, expect, run, through_shell};

use crate::common::{
    CLIENT, Refusing, Server, WIRE, client, echo_server, failure, run_bytes, ten_lines, to_server,
    wait_for_close,
};

/// Creates a command for a shell with `redirection` that becomes the client.
fn redirected(redirection: &str, server: &Server<u64>) -> Command {
    to_server(through_shell(CLIENT, "", redirection), server.addr)
}

/// Starts a server that echoes the first data, and then waits until the client
/// closes.
fn echo_once() -> Server<()> {
    Server::start(|mut peer: TcpStream| {
        let mut buffer = [0; 64];
        let read = peer.read(&mut buffer).unwrap();
        peer.write_all(&buffer[..read]).unwrap();
        wait_for_close(&peer);
    })
}

#[test]
fn messages_are_sent_with_any_stdin() {
    for redirection in ["<&-", "</dev/null", "</dev/zero", "<Cargo.toml", "<."] {
        let server = echo_server();
        assert_eq!(
            run(&mut redirected(redirection, &server)),
            (0, ten_lines(), vec![]),
            "{redirection}"
        );
        server.join();
    }
}

#[test]
fn closed_or_empty_stdin_sends_nothing() {
    for redirection in ["<&-", "</dev/null"] {
        let server = echo_server();
        let outcome = run(redirected(redirection, &server).arg("--stdin"));
        assert_eq!(outcome, (0, vec![], vec![]), "{redirection}");
        assert_eq!(server.join(), 0, "{redirection}");
    }
}

#[test]
fn file_as_stdin_is_echoed() {
    let server = echo_server();
    let input = fs::read("Cargo.toml").unwrap();
    let outcome = run_bytes(redirected("<Cargo.toml", &server).arg("--stdin"));
    assert_eq!(server.join(), input.len() as u64);
    assert_eq!(outcome, (0, input, vec![]));
}

#[test]
fn unreadable_stdin_is_reported() {
    let server = echo_server();
    let line = failure(client(server.addr).arg("--stdin").stdin(File::open(".").unwrap()), &[]);
    let what = "echo-client: cannot read standard input: Is a directory; ";
    assert!(line.starts_with(what), "{line}");
    assert_eq!(server.join(), 0);
}

/// std opens `/dev/null` in its place, so all writes succeed.
#[test]
fn closed_stdout_exits_with_0() {
    for mode in [&[][..], &["--stdin"]] {
        let server = echo_server();
        let outcome = run(redirected("<Cargo.toml >&-", &server).args(mode));
        assert_eq!(outcome, (0, vec![], vec![]), "{mode:?}");
        server.join();
    }
}

#[test]
fn stdout_without_reader_exits_with_0() {
    for mode in [&[][..], &["--stdin"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let server = echo_once();
        let mut command = client(server.addr);
        command.args(mode).stdin(File::open("Cargo.toml").unwrap()).stdout(writer);
        let mut process = Process::start(&mut command);
        assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]), "{mode:?}");
        server.join();
    }
}

/// As with `| head -1`.
#[test]
fn stdout_closed_early_exits_with_0() {
    let (reply_tx, reply_rx) = mpsc::channel();
    let server = Server::start(move |mut peer: TcpStream| {
        expect(&peer, WIRE);
        for reply in reply_rx {
            peer.write_all(reply).unwrap();
        }
        wait_for_close(&peer);
    });
    let (mut reader, writer) = io::pipe().unwrap();
    let mut process = Process::start(client(server.addr).stdout(writer));
    reply_tx.send(&b"1"[..]).unwrap();
    let mut line = [0; 2];
    reader.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"1\n");
    drop(reader);
    reply_tx.send(b"2345678910").unwrap();
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    drop(reply_tx);
    server.join();
}

#[test]
#[cfg(target_os = "linux")]
fn full_stdout_device_is_reported() {
    for mode in [&[][..], &["--stdin"]] {
        let server = echo_once();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = client(server.addr);
        command.args(mode).stdin(File::open("Cargo.toml").unwrap()).stdout(full);
        let mut process = Process::start(&mut command);
        let (code, stderr) = (process.exit_code(), process.stderr.rest());
        assert_eq!((code, stderr.len()), (1, 1), "{mode:?} {stderr:#?}");
        let what = "echo-client: cannot write standard output: No space left on device; ";
        assert!(stderr[0].starts_with(what), "{mode:?} {stderr:#?}");
        server.join();
    }
}

#[test]
fn closed_stderr_exits_with_1() {
    let refusing = Refusing::new();
    let outcome = run(&mut to_server(through_shell(CLIENT, "", "2>&-"), refusing.addr));
    assert_eq!(outcome, (1, vec![], vec![]));
}
