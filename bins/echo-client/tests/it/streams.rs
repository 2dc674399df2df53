//! Standard input, output and error, in every state in which a program may
//! find them: rows 32 and 33.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc;

use testing::{Process, expect, run, through_shell};

use crate::common::{
    CLIENT, Dead, Server, WIRE, client, echo_server, failure, stay, ten, to_server, written,
};

/// The client, started through a shell with `redirection`.
fn redirected(redirection: &str, server: &Server<u64>) -> Command {
    to_server(through_shell(CLIENT, "", redirection), server.addr)
}

/// A server that sends back what comes first, and waits then for the client
/// to go.
fn answering_once() -> Server<()> {
    Server::start(|mut peer: TcpStream| {
        let mut buffer = [0; 64];
        let read = peer.read(&mut buffer).unwrap();
        peer.write_all(&buffer[..read]).unwrap();
        stay(&peer);
    })
}

#[test]
fn sends_messages_whatever_standard_input_is() {
    for redirection in ["<&-", "</dev/null", "</dev/zero", "<Cargo.toml", "<."] {
        let server = echo_server();
        assert_eq!(run(&mut redirected(redirection, &server)), (0, ten(), vec![]), "{redirection}");
        server.outcome();
    }
}

#[test]
fn an_input_that_is_closed_or_empty_is_sent_as_such() {
    for redirection in ["<&-", "</dev/null"] {
        let server = echo_server();
        let outcome = run(redirected(redirection, &server).arg("--stdin"));
        assert_eq!(outcome, (0, vec![], vec![]), "{redirection}");
        assert_eq!(server.outcome(), 0, "{redirection}");
    }
}

#[test]
fn an_input_that_is_a_file_comes_back() {
    let server = echo_server();
    let input = fs::read("Cargo.toml").unwrap();
    let outcome = written(redirected("<Cargo.toml", &server).arg("--stdin"));
    assert_eq!(server.outcome(), input.len() as u64);
    assert_eq!(outcome, (0, input, vec![]));
}

#[test]
fn an_input_that_cannot_be_read_is_an_error() {
    let server = echo_server();
    let line = failure(client(server.addr).arg("--stdin").stdin(File::open(".").unwrap()), &[]);
    let what = "echo-client: cannot read standard input: Is a directory; ";
    assert!(line.starts_with(what), "{line}");
    assert_eq!(server.outcome(), 0);
}

/// It is `/dev/null` then, to which everything can be written.
#[test]
fn an_output_that_is_closed_is_no_error() {
    for mode in [&[][..], &["--stdin"]] {
        let server = echo_server();
        let outcome = run(redirected("<Cargo.toml >&-", &server).args(mode));
        assert_eq!(outcome, (0, vec![], vec![]), "{mode:?}");
        server.outcome();
    }
}

#[test]
fn leaves_quietly_when_nobody_reads_its_output() {
    for mode in [&[][..], &["--stdin"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let server = answering_once();
        let mut command = client(server.addr);
        command.args(mode).stdin(File::open("Cargo.toml").unwrap()).stdout(writer);
        let mut process = Process::start(&mut command);
        assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]), "{mode:?}");
        server.outcome();
    }
}

/// As in `| head -1`.
#[test]
fn leaves_quietly_when_its_reader_has_seen_enough() {
    let (go, gone) = mpsc::channel();
    let server = Server::start(move |mut peer: TcpStream| {
        expect(&peer, WIRE);
        for reply in gone {
            peer.write_all(reply).unwrap();
        }
        stay(&peer);
    });
    let (mut reader, writer) = io::pipe().unwrap();
    let mut process = Process::start(client(server.addr).stdout(writer));
    go.send(&b"1"[..]).unwrap();
    let mut line = [0; 2];
    reader.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"1\n");
    drop(reader);
    go.send(b"2345678910").unwrap();
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    drop(go);
    server.outcome();
}

#[test]
#[cfg(target_os = "linux")]
fn an_output_that_cannot_be_written_is_an_error() {
    for mode in [&[][..], &["--stdin"]] {
        let server = answering_once();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = client(server.addr);
        command.args(mode).stdin(File::open("Cargo.toml").unwrap()).stdout(full);
        let mut process = Process::start(&mut command);
        let (code, stderr) = (process.exit_code(), process.stderr.rest());
        assert_eq!((code, stderr.len()), (1, 1), "{mode:?} {stderr:#?}");
        let what = "echo-client: cannot write standard output: No space left on device; ";
        assert!(stderr[0].starts_with(what), "{mode:?} {stderr:#?}");
        server.outcome();
    }
}

#[test]
fn fails_with_its_exit_code_when_standard_error_is_closed() {
    let dead = Dead::new();
    let outcome = run(&mut to_server(through_shell(CLIENT, "", "2>&-"), dead.addr));
    assert_eq!(outcome, (1, vec![], vec![]));
}
