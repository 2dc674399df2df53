//! The PROXY protocol, by hand and from `HAProxy`.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use testing::{Process, expect, expect_end, is_installed, wait_until};

use crate::common::{Server, connect, echo};

/// A running `HAProxy` that forwards to a server.
pub(crate) struct Haproxy {
    addr: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

impl Haproxy {
    /// Starts it, with `options` for its connections to `server`, which accepts one before
    /// this returns: the one that checks if it listens. Returns `None`, and reports the
    /// skip, if it is not installed.
    pub(crate) fn start(server: SocketAddr, options: &str) -> Option<Self> {
        if !is_installed("haproxy", "-v") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        // Free for now; whoever takes it in between makes this test fail, not pass.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = directory.path().join("haproxy.cfg");
        let text = format!(
            "defaults\n    mode tcp\n    timeout connect 20s\n    timeout client 60s\n    \
             timeout server 60s\nlisten echo\n    bind {addr}\n    server echo {server} {options}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&config).stdout(Stdio::null());
        let mut process = Process::start(&mut command);
        wait_until(
            || {
                assert!(!process.has_exited(), "haproxy has ended");
                TcpStream::connect(addr).is_ok()
            },
            |&is_listening| is_listening,
        );
        Some(Haproxy { addr, _process: process, _directory: directory })
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.addr)
    }
}

#[test]
fn haproxy_names_the_client_in_both_versions() {
    for version in ["send-proxy", "send-proxy-v2"] {
        let mut server = Server::start(&["--proxy-protocol"]);
        let Some(haproxy) = Haproxy::start(server.addr, version) else { return };
        let peer = haproxy.connect();
        echo(&peer, b"hello through HAProxy");
        let line = format!("Incoming connection from {}", peer.local_addr().unwrap());
        server.stdout.next_with(&line);
    }
}

#[test]
fn header_may_arrive_with_data_or_byte_by_byte() {
    let mut server = Server::start(&["--proxy-protocol"]);
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.1 5000 80\r\n";
    let mut peer = server.connect();
    peer.write_all(&[&header[..], b"with data"].concat()).unwrap();
    expect(&peer, b"with data");
    assert_eq!(server.stdout.next().as_deref(), Some("Incoming connection from 192.0.2.1:5000"));
    let mut peer = server.connect();
    peer.set_nodelay(true).unwrap();
    for byte in header {
        peer.write_all(&[*byte]).unwrap();
    }
    echo(&peer, b"later");
    assert_eq!(server.stdout.next().as_deref(), Some("Incoming connection from 192.0.2.1:5000"));
    // An IPv6 client in version 2, and a field (TLV) that is skipped.
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x29".to_vec();
    header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    header.extend([0; 16]);
    header.extend([0x13, 0x88, 0, 80, 0xee, 0, 2, 1, 2]);
    let mut peer = server.connect();
    peer.write_all(&header).unwrap();
    echo(&peer, b"version 2");
    let line = server.stdout.next();
    assert_eq!(line.as_deref(), Some("Incoming connection from [2001:db8::1]:5000"));
}

#[test]
fn wrong_slow_or_missing_header_is_rejected_with_one_line() {
    let mut server = Server::start(&["--proxy-protocol", "--handshake-timeout", "300ms"]);
    let cases: [(&[u8], &str); 4] = [
        (b"hello\n", "rejected: it does not start with a PROXY header"),
        (b"PROXY TCP4 ::1 198.51.100.1 5000 80\r\n", "rejected: a wrong address"),
        (b"PROXY TCP4 192.0.2.1", "timed out: handshake timeout"),
        (b"", "timed out: handshake timeout"),
    ];
    for (input, expected) in cases {
        let mut peer = server.connect();
        peer.write_all(input).unwrap();
        let line = server.stderr.next().unwrap();
        let addr = peer.local_addr().unwrap();
        assert!(line.ends_with(&format!("{addr}: {expected}")), "{line}");
    }
    // A check of the port is not worth a line.
    drop(server.connect());
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    assert_eq!(server.stderr.rest(), [""; 0]);
    assert_eq!(server.stdout.rest(), [""; 0], "no client is known");
}

#[test]
fn header_is_accepted_from_trusted_addresses_only() {
    let mut server = Server::start(&["--proxy-protocol", "--proxy-from", "192.0.2.0/24"]);
    expect_end(&server.connect());
    let line = server.stderr.next().unwrap();
    assert!(line.ends_with(": it is not a trusted source of the PROXY protocol"), "{line}");
    drop(server);
    let networks = ["--proxy-from", "192.0.2.0/24", "--proxy-from", "127.0.0.1"];
    let server = Server::start(&[&["--proxy-protocol"], &networks[..]].concat());
    let mut peer = server.connect();
    peer.write_all(b"PROXY UNKNOWN\r\n").unwrap();
    echo(&peer, b"one address is a network");
}
