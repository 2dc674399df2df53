//! Python's asyncore as the client: the program in its documentation.

use std::process::Stdio;

use testing::{Lines, Process, python_with_asyncore};

use crate::common::Server;

#[test]
fn asyncore_client_is_served() {
    let Some(mut python) = python_with_asyncore() else { return };
    let mut server = Server::start(&["--drain-timeout", "0s"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/asyncore_client.py");
    python.args([script, &server.addr.port().to_string()]);
    let mut client = Process::start(python.stdout(Stdio::piped()));
    let mut stdout = Lines::from_reader(client.take_stdout());

    let line = server.stdout.next().unwrap();
    assert!(line.starts_with("Incoming connection from 127.0.0.1:"), "{line}");
    // Replies that arrive together are printed on one line.
    let mut replies = String::new();
    while replies.len() < "12345678910".len() {
        let Some(line) = stdout.next() else { panic!("{replies:?} {:#?}", client.stderr.rest()) };
        replies += &line;
    }
    assert_eq!(replies, "12345678910");

    // The client exits when the server closes the connection.
    server.signal("TERM");
    assert_eq!(client.exit_code(), 0);
    assert_eq!(stdout.rest().concat(), "", "asyncore prints the end of input as an empty line");
    assert_eq!(client.stderr.rest(), [""; 0]);
    assert_eq!(server.exit_code(), 0);
}
