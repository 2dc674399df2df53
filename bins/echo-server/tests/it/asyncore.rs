//! Python's own asyncore as the client: the seed's program, to which this one
//! goes back.

use std::process::Stdio;

use testing::{Lines, Process, python_with_asyncore};

use crate::common::Server;

#[test]
fn serves_the_client_of_the_seed() {
    let Some(mut python) = python_with_asyncore() else { return };
    let mut server = Server::start(&["--drain-timeout", "0s"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/asyncore_client.py");
    python.args([script, &server.addr.port().to_string()]);
    let mut client = Process::start(python.stdout(Stdio::piped()));
    let mut stdout = Lines::of(client.stdout());

    let line = server.stdout.next().unwrap();
    assert!(line.starts_with("Incoming connection from 127.0.0.1:"), "{line}");
    // Replies that came together stand on one line.
    let mut replies = String::new();
    while replies.len() < "12345678910".len() {
        let Some(line) = stdout.next() else { panic!("{replies:?} {:#?}", client.stderr.rest()) };
        replies += &line;
    }
    assert_eq!(replies, "12345678910");

    // It stays for as long as the server does.
    server.signal("TERM");
    assert_eq!(client.exit_code(), 0);
    assert_eq!(stdout.rest().concat(), "", "asyncore prints the end as an empty line");
    assert_eq!(client.stderr.rest(), [""; 0]);
    assert_eq!(server.exit_code(), 0);
}
