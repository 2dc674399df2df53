//! Python's own asyncore as the server: the seed's program, to which this one
//! goes back.

use std::ffi::OsStr;
use std::process::Stdio;

use testing::{Lines, Process, python_with_asyncore, run};

use crate::common::{client, ten, written};

/// The seed's server, and where it listens; `None` where no Python has
/// asyncore.
fn seed_server() -> Option<(Process, Lines, std::net::SocketAddr)> {
    let mut python = python_with_asyncore()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/asyncore_server.py");
    let mut server = Process::start(python.arg(script).stdout(Stdio::piped()));
    let mut stdout = Lines::of(server.stdout());
    let Some(port) = stdout.next() else { panic!("{:#?}", server.stderr.rest()) };
    let addr = ([127, 0, 0, 1], port.parse().unwrap()).into();
    Some((server, stdout, addr))
}

#[test]
fn talks_to_the_server_of_the_seed() {
    let Some((mut server, mut stdout, addr)) = seed_server() else { return };
    for _ in 0..3 {
        assert_eq!(run(&mut client(addr)), (0, ten(), vec![]));
        let line = stdout.next().unwrap();
        assert!(line.starts_with("Incoming connection from ('127.0.0.1', "), "{line}");
    }
    server.kill();
    assert_eq!((stdout.rest(), server.stderr.rest()), (vec![], vec![]));
}

/// asyncore reads 1,024 bytes at a time, and keeps what the kernel does not
/// take: the replies come as it pleases.
#[test]
fn long_messages_come_back_from_the_server_of_the_seed() {
    let Some((_server, _stdout, addr)) = seed_server() else { return };
    let message = "asyncore".repeat(10_000);
    let (code, bytes, stderr) = written(client(addr).args([OsStr::new(&message); 5]));
    assert_eq!((code, stderr), (0, vec![]));
    assert!(bytes == format!("{message}\n").repeat(5).into_bytes(), "{} bytes", bytes.len());
}
