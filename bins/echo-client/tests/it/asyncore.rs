//! Python's asyncore as the server: the program in its documentation.

use std::ffi::OsStr;
use std::process::Stdio;

use testing::{Lines, Process, python_with_asyncore, run};

use crate::common::{client, run_bytes, ten_lines};

/// Starts the server, and returns its address too; `None` without a Python that
/// has asyncore.
fn asyncore_server() -> Option<(Process, Lines, std::net::SocketAddr)> {
    let mut python = python_with_asyncore()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/asyncore_server.py");
    let mut server = Process::start(python.arg(script).stdout(Stdio::piped()));
    let mut stdout = Lines::from_reader(server.take_stdout());
    let Some(port) = stdout.next() else { panic!("{:#?}", server.stderr.rest()) };
    let addr = ([127, 0, 0, 1], port.parse().unwrap()).into();
    Some((server, stdout, addr))
}

#[test]
fn asyncore_server_echoes_messages() {
    let Some((mut server, mut stdout, addr)) = asyncore_server() else { return };
    for _ in 0..3 {
        assert_eq!(run(&mut client(addr)), (0, ten_lines(), vec![]));
        let line = stdout.next().unwrap();
        assert!(line.starts_with("Incoming connection from ('127.0.0.1', "), "{line}");
    }
    server.kill();
    assert_eq!((stdout.rest(), server.stderr.rest()), (vec![], vec![]));
}

/// asyncore reads 1,024 bytes at a time and buffers partial writes, so replies
/// arrive in parts of any size.
#[test]
fn asyncore_server_echoes_long_messages() {
    let Some((_server, _stdout, addr)) = asyncore_server() else { return };
    let message = "asyncore".repeat(10_000);
    let (code, bytes, stderr) = run_bytes(client(addr).arg("--").args([OsStr::new(&message); 5]));
    assert_eq!((code, stderr), (0, vec![]));
    assert!(bytes == format!("{message}\n").repeat(5).into_bytes(), "{} bytes", bytes.len());
}
