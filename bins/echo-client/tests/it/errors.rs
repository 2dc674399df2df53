//! Errors that end the client: one line that names what failed, where, and what
//! to do. The replies that were printed before are correct.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::Path;
use std::time::Instant;

use testing::{command, expect, reports_resets, reset, run, with_fault};

use crate::common::{
    CLIENT, Refusing, Server, Unresponsive, WIRE, client, failure, ten_lines, to_server,
    wait_for_close,
};

/// Starts a server that receives all messages, replies with `reply`, and then
/// runs `end`.
fn reply_server<T: Send + 'static>(
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
fn refused_connect_prints_one_line() {
    let refusing = Refusing::new();
    for mode in [&[][..], &["--stdin"]] {
        assert_eq!(
            failure(client(refusing.addr).args(mode), &[]),
            format!(
                "echo-client: cannot connect to {}: Connection refused; \
                 is echo-server running there?",
                refusing.addr
            )
        );
    }
}

#[test]
fn unanswered_connect_times_out() {
    let unresponsive = Unresponsive::on(Ipv4Addr::LOCALHOST);
    let started_at = Instant::now();
    let line = failure(client(unresponsive.addr).args(["--timeout", "500ms"]), &[]);
    eprintln!("gave up after {:?} of 500 ms", started_at.elapsed());
    let what =
        format!("echo-client: cannot connect to {}: no response within 500ms; ", unresponsive.addr);
    assert!(line.starts_with(&what) && line.contains("--timeout"), "{line}");
}

/// Each error of connect(2) is described in words, with advice.
#[cfg(unix)] // strace
#[test]
fn connect_errors_have_hints() {
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
        let Some(command) = with_fault(CLIENT, "connect", &fault, record) else { return };
        let refusing = Refusing::new();
        let line = failure(&mut to_server(command, refusing.addr), &[]);
        let what = format!("echo-client: cannot connect to {}: {words}; ", refusing.addr);
        assert!(line.starts_with(&what) && line.contains(advice), "{error}: {line}");
    }
}

#[test]
fn unknown_host_is_reported_with_hint() {
    for (host, shown) in [("nope.invalid", "\"nope.invalid\""), ("two\nlines", r#""two\nlines""#)] {
        let line = failure(command(CLIENT).args(["--host", host]), &[]);
        let what = format!("echo-client: cannot resolve host {shown}: ");
        assert!(line.starts_with(&what) && line.contains("--host"), "{line}");
    }
}

// --- servers that are not echo servers ---------------------------------------

#[test]
fn server_without_replies_times_out() {
    let server = reply_server(b"", |peer| wait_for_close(&peer));
    let started_at = Instant::now();
    let line = failure(client(server.addr).args(["--timeout", "300ms"]), &[]);
    eprintln!("gave up after {:?} of 300 ms", started_at.elapsed());
    let what = format!("{}: no reply for 300ms after 0 of 10 replies; ", server.addr);
    assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
    assert!(line.contains("--timeout"), "{line}");
    server.join();
}

#[test]
fn server_that_stops_replying_times_out() {
    let server = reply_server(b"123", |peer| wait_for_close(&peer));
    let line = failure(client(server.addr).args(["--timeout", "1s"]), &ten_lines()[..3]);
    let what = format!("{}: no reply for 1s after 3 of 10 replies; ", server.addr);
    assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
    server.join();
}

#[test]
fn early_close_is_reported() {
    for (reply, count) in [(&b""[..], 0), (b"123", 3), (b"1234567891", 9)] {
        let server = reply_server(reply, drop);
        let line = failure(&mut client(server.addr), &ten_lines()[..count]);
        let what = format!("{}: closed the connection after {count} of 10 replies; ", server.addr);
        assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
        assert!(line.contains("log"), "{line}");
    }
}

/// The server closes only its sending side and continues to read.
#[test]
fn early_half_close_is_reported() {
    let server = reply_server(b"123", |peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        wait_for_close(&peer);
    });
    let line = failure(&mut client(server.addr), &ten_lines()[..3]);
    assert!(line.contains("closed the connection after 3 of 10 replies"), "{line}");
    server.join();
}

#[test]
fn reset_is_reported() {
    if !reports_resets() {
        return;
    }
    for (reply, count) in [(&b""[..], 0), (b"123", 3)] {
        let server = reply_server(reply, reset);
        let line = failure(&mut client(server.addr), &ten_lines()[..count]);
        let what = format!("{}: connection lost after {count} of 10 replies: ", server.addr);
        assert!(line.starts_with(&format!("echo-client: {what}Connection reset")), "{line}");
        assert!(line.contains("log"), "{line}");
    }
}

/// The server closes while the client sends. How many replies the client
/// receives depends on the kernel, but those it prints are correct.
#[test]
fn close_during_send_is_reported() {
    for _ in 0..20 {
        let server = Server::start(|mut peer: TcpStream| {
            expect(&peer, b"123");
            peer.write_all(b"123").unwrap();
        });
        let (code, lines, stderr) = run(&mut client(server.addr));
        assert_eq!(code, 1);
        assert!(ten_lines()[..3].starts_with(&lines), "{lines:?}");
        assert_eq!(stderr.len(), 1, "{stderr:#?}");
        let count = format!("after {} of 10 replies", lines.len());
        assert!(stderr[0].contains(&server.addr.to_string()), "{}", stderr[0]);
        assert!(stderr[0].contains(&count), "{}", stderr[0]);
    }
}

#[test]
fn wrong_byte_is_reported_with_offset() {
    for (reply, count, offset, bytes) in [
        (&b"12345x78910"[..], 5, 5, "sent 0x36 and received 0x78"),
        (b"x2345678910", 0, 0, "sent 0x31 and received 0x78"),
        (b"12345678911", 9, 10, "sent 0x30 and received 0x31"),
    ] {
        let server = reply_server(reply, |peer| wait_for_close(&peer));
        let line = failure(&mut client(server.addr), &ten_lines()[..count]);
        let what = format!("{}: reply differs from the data sent: ", server.addr);
        assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
        assert!(line.contains(&format!("at offset {offset}, {bytes}; ")), "{line}");
        server.join();
    }
}

#[test]
fn surplus_data_is_reported() {
    let server = reply_server(b"12345678910!", |peer| wait_for_close(&peer));
    let line = failure(&mut client(server.addr), &ten_lines());
    let what = format!("{}: received more than the 11 bytes sent; ", server.addr);
    assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
    server.join();
}

// --- the command line --------------------------------------------------------

#[test]
fn invalid_command_line_exits_with_2() {
    for (options, names) in [
        (&["--host", ""][..], "--host"),
        (&["--port", "70000"], "--port"),
        (&["--port", "0"], "--port"),
        (&["--port=-1"], "--port"),
        (&["--timeout", "soon"], "--timeout"),
        (&["--timeout", "0s"], "--timeout"),
        (&["--timeout=-5s"], "--timeout"),
        (&["--stdin", "-m", "hello"], "--stdin"),
        (&["--stdin", "--", "hello"], "--stdin"),
        (&["-v", "-q"], "--verbose"),
        (&["--", "hello", ""], "an empty message"),
        (&["-m", ""], "an empty message"),
        (&["here:0"], "here:0"),
        (&["here:70000"], "here:70000"),
        (&["here", "there"], "there"),
        (&["here", "--host", "there"], "--host"),
        (&["here:7", "8"], "port 8"),
        (&["-1"], "-- -1"),
        (&["--nonsense"], "--nonsense"),
    ] {
        let (code, stdout, stderr) = run(command(CLIENT).args(options));
        assert_eq!((code, stdout), (2, vec![]), "{options:?}: {stderr:#?}");
        assert!(stderr[0].starts_with("error: "), "{options:?}: {stderr:#?}");
        assert!(stderr.iter().any(|line| line.contains(names)), "{options:?}: {stderr:#?}");
    }
}
