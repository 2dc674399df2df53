//! What the client says when it does not get what it wants: one line that
//! names what and where, and what to do about it. What it printed before that
//! is right.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::Path;
use std::time::Instant;

use testing::{command, expect, injected, reset, run};

use crate::common::{CLIENT, Dead, Server, Silent, WIRE, client, failure, stay, ten, to_server};

/// A server that waits for all that the client sends, answers `reply`, and
/// then does as `end` says.
fn answering<T: Send + 'static>(
    reply: &'static [u8],
    end: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> Server<T> {
    Server::start(move |mut peer: TcpStream| {
        expect(&peer, WIRE);
        peer.write_all(reply).unwrap();
        end(peer)
    })
}

// --- no connection: rows 25, 28, 29 ------------------------------------------

#[test]
fn a_refused_connection() {
    let dead = Dead::new();
    for mode in [&[][..], &["--stdin"]] {
        assert_eq!(
            failure(client(dead.addr).args(mode), &[]),
            format!(
                "echo-client: cannot connect to {}: Connection refused; \
                 is echo-server running there?",
                dead.addr
            )
        );
    }
}

#[test]
fn a_connection_that_nobody_answers() {
    let silent = Silent::on(Ipv4Addr::LOCALHOST);
    let begin = Instant::now();
    let line = failure(client(silent.addr).args(["--timeout", "500ms"]), &[]);
    eprintln!("gave up after {:?} of 500 ms", begin.elapsed());
    let what =
        format!("echo-client: cannot connect to {}: no response within 500ms; ", silent.addr);
    assert!(line.starts_with(&what) && line.contains("--timeout"), "{line}");
}

/// Whatever the kernel says to `connect`, it is told in words and with advice.
#[test]
fn a_connection_that_the_system_does_not_make() {
    for (error, words, advice) in [
        ("EADDRNOTAVAIL", "Cannot assign requested address", "is a local port available"),
        ("ENETUNREACH", "Network is unreachable", "connected to that network?"),
        ("EHOSTUNREACH", "No route to host", "connected to that network?"),
        ("EACCES", "Permission denied", "does a firewall forbid it?"),
        ("ETIMEDOUT", "Connection timed out", "is the host up"),
        ("ENOBUFS", "No buffer space available", "-vv"),
    ] {
        let fault = format!("error={error}");
        let record = Path::new("/dev/null");
        let Some(command) = injected(CLIENT, "connect", &fault, record) else { return };
        let dead = Dead::new();
        let line = failure(&mut to_server(command, dead.addr), &[]);
        let what = format!("echo-client: cannot connect to {}: {words}; ", dead.addr);
        assert!(line.starts_with(&what) && line.contains(advice), "{error}: {line}");
    }
}

#[test]
fn an_unknown_host() {
    for (host, shown) in [("nope.invalid", "\"nope.invalid\""), ("two\nlines", r#""two\nlines""#)] {
        let line = failure(command(CLIENT).args(["--host", host]), &[]);
        let what = format!("echo-client: cannot resolve host {shown}: ");
        assert!(line.starts_with(&what) && line.contains("--host"), "{line}");
    }
}

// --- a server that is no echo server -----------------------------------------

#[test]
fn a_server_that_never_answers() {
    let server = answering(b"", |peer| stay(&peer));
    let begin = Instant::now();
    let line = failure(client(server.addr).args(["--timeout", "300ms"]), &[]);
    eprintln!("gave up after {:?} of 300 ms", begin.elapsed());
    let what = format!("{}: no reply for 300ms after 0 of 10 replies; ", server.addr);
    assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
    assert!(line.contains("--timeout"), "{line}");
    server.outcome();
}

#[test]
fn a_server_that_falls_silent() {
    let server = answering(b"123", |peer| stay(&peer));
    let line = failure(client(server.addr).args(["--timeout", "1s"]), &ten()[..3]);
    let what = format!("{}: no reply for 1s after 3 of 10 replies; ", server.addr);
    assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
    server.outcome();
}

#[test]
fn a_server_that_closes_too_early() {
    for (reply, count) in [(&b""[..], 0), (b"123", 3), (b"1234567891", 9)] {
        let server = answering(reply, drop);
        let line = failure(&mut client(server.addr), &ten()[..count]);
        let what = format!("{}: closed the connection after {count} of 10 replies; ", server.addr);
        assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
        assert!(line.contains("log"), "{line}");
    }
}

/// Its sending side alone: it would go on reading.
#[test]
fn a_server_that_ends_its_side_too_early() {
    let server = answering(b"123", |peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        stay(&peer);
    });
    let line = failure(&mut client(server.addr), &ten()[..3]);
    assert!(line.contains("closed the connection after 3 of 10 replies"), "{line}");
    server.outcome();
}

#[test]
fn a_server_that_resets_the_connection() {
    for (reply, count) in [(&b""[..], 0), (b"123", 3)] {
        let server = answering(reply, reset);
        let line = failure(&mut client(server.addr), &ten()[..count]);
        let what = format!("{}: connection lost after {count} of 10 replies: ", server.addr);
        assert!(line.starts_with(&format!("echo-client: {what}Connection reset")), "{line}");
        assert!(line.contains("log"), "{line}");
    }
}

/// It goes in the middle of the client's sending. How much the client gets to
/// see then is up to the two kernels; but what it prints is right.
#[test]
fn a_server_that_is_gone_while_messages_go_out() {
    for _ in 0..20 {
        let server = Server::start(|mut peer: TcpStream| {
            expect(&peer, b"123");
            peer.write_all(b"123").unwrap();
        });
        let (code, lines, stderr) = run(&mut client(server.addr));
        assert_eq!(code, 1);
        assert!(ten()[..3].starts_with(&lines), "{lines:?}");
        assert_eq!(stderr.len(), 1, "{stderr:#?}");
        let count = format!("after {} of 10 replies", lines.len());
        assert!(stderr[0].contains(&server.addr.to_string()), "{}", stderr[0]);
        assert!(stderr[0].contains(&count), "{}", stderr[0]);
    }
}

#[test]
fn a_byte_that_comes_back_as_another() {
    for (reply, count, offset, bytes) in [
        (&b"12345x78910"[..], 5, 5, "sent 0x36 and received 0x78"),
        (b"x2345678910", 0, 0, "sent 0x31 and received 0x78"),
        (b"12345678911", 9, 10, "sent 0x30 and received 0x31"),
    ] {
        let server = answering(reply, |peer| stay(&peer));
        let line = failure(&mut client(server.addr), &ten()[..count]);
        let what = format!("{}: reply differs from the data sent: ", server.addr);
        assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
        assert!(line.contains(&format!("at offset {offset}, {bytes}; ")), "{line}");
        server.outcome();
    }
}

#[test]
fn a_server_that_sends_too_much() {
    let server = answering(b"12345678910!", |peer| stay(&peer));
    let line = failure(&mut client(server.addr), &ten());
    let what = format!("{}: received more than the 11 bytes sent; ", server.addr);
    assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
    server.outcome();
}

// --- the command line --------------------------------------------------------

#[test]
fn a_wrong_command_line() {
    for (options, names) in [
        (&["--host", ""][..], "--host"),
        (&["--port", "70000"], "--port"),
        (&["--port", "0"], "--port"),
        (&["--port=-1"], "--port"),
        (&["--timeout", "soon"], "--timeout"),
        (&["--timeout", "0s"], "--timeout"),
        (&["--timeout=-5s"], "--timeout"),
        (&["--stdin", "hello"], "--stdin"),
        (&["-v", "-q"], "--verbose"),
        (&["hello", ""], "an empty message"),
        (&["-1"], "-- -1"),
        (&["--nonsense"], "--nonsense"),
    ] {
        let (code, stdout, stderr) = run(command(CLIENT).args(options));
        assert_eq!((code, stdout), (2, vec![]), "{options:?}: {stderr:#?}");
        assert!(stderr[0].starts_with("error: "), "{options:?}: {stderr:#?}");
        assert!(stderr.iter().any(|line| line.contains(names)), "{options:?}: {stderr:#?}");
    }
}
