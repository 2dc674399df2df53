//! Connecting by an address or a name.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use testing::{report_skip, run};

use crate::common::{CLIENT, echo_server, echo_server_on, failure, ten_lines, to_host};

/// Creates the command for the client, with the server at `host`.
fn client_for_host(host: &str, port: u16) -> Command {
    to_host(testing::command(CLIENT), host, port)
}

#[test]
fn ipv6_host_is_accepted_with_and_without_brackets() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        report_skip(format_args!("no IPv6 here: {error}"));
        return;
    }
    for host in ["::1", "[::1]"] {
        let server = echo_server_on(Ipv6Addr::LOCALHOST);
        let outcome = run(&mut client_for_host(host, server.addr.port()));
        assert_eq!(outcome, (0, ten_lines(), vec![]), "{host}");
        server.join();
    }
}

/// The server listens on one address of `localhost`.
#[test]
fn host_name_is_resolved() {
    let addresses: Vec<_> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    if addresses.len() == 1 {
        report_skip(format_args!("several addresses; localhost has only {}", addresses[0].ip()));
    }
    for address in addresses {
        let server = echo_server_on(address.ip());
        let outcome = run(&mut client_for_host("localhost", server.addr.port()));
        assert_eq!(outcome, (0, ten_lines(), vec![]), "{address}");
        server.join();
    }
}

/// An address as an argument is never a message to the default server.
#[test]
fn server_may_be_an_argument() {
    for separator in [":", " "] {
        let server = echo_server();
        let line = format!("127.0.0.1{separator}{}", server.addr.port());
        let mut command = testing::command(CLIENT);
        let outcome = run(command.args(line.split(' ')).args(["-m", "hello"]));
        assert_eq!(outcome, (0, vec!["hello".to_owned()], vec![]), "{line}");
        server.join();
    }
    let line = failure(testing::command(CLIENT).arg("nope.invalid:7"), &[]);
    assert!(line.starts_with("echo-client: cannot resolve host \"nope.invalid\": "), "{line}");
}

#[test]
fn short_options_are_accepted() {
    for version in ["-4", "--ipv4"] {
        let server = echo_server();
        let port = server.addr.port().to_string();
        let mut command = testing::command(CLIENT);
        command.args(["localhost", "-p", &port, "-t", "10", version, "-m", "hello"]);
        assert_eq!(run(&mut command), (0, vec!["hello".to_owned()], vec![]), "{version}");
        server.join();
    }
    for version in ["-6", "--ipv6"] {
        let line = failure(testing::command(CLIENT).args(["127.0.0.1", version]), &[]);
        assert!(line.contains("\"127.0.0.1\": it has no IPv6 address"), "{line}");
    }
}

#[cfg(unix)] // Unix sockets
#[test]
fn unix_socket_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for peer in listener.incoming() {
            let (mut peer, mut message) = (peer.unwrap(), [0; 64]);
            while let Ok(read @ 1..) = peer.read(&mut message) {
                peer.write_all(&message[..read]).unwrap();
            }
        }
    });
    let path = path.to_str().unwrap();
    for arguments in [&[&format!("unix:{path}")[..]][..], &["-U", path], &["--unix", path]] {
        let outcome = run(testing::command(CLIENT).args(arguments));
        assert_eq!(outcome, (0, ten_lines(), vec![]), "{arguments:?}");
    }
    let line = failure(testing::command(CLIENT).args(["-U", "/nowhere/echo"]), &[]);
    let expected = "echo-client: cannot connect to unix:/nowhere/echo: No such file or directory; ";
    assert!(line.starts_with(expected), "{line}");
}

/// A number alone would be the address 0.0.39.15 to the resolver.
#[test]
fn port_alone_is_rejected() {
    let (code, stdout, stderr) = run(testing::command(CLIENT).arg("9999"));
    assert_eq!((code, stdout), (2, vec![]));
    assert!(stderr[0].ends_with("and not only a port"), "{stderr:#?}");
}

#[test]
fn each_verbose_flag_logs_more() {
    let mut lengths = Vec::new();
    for flag in ["--quiet", "--verbose", "-vv", "-vvv"] {
        let server = echo_server();
        let mut command = client_for_host("127.0.0.1", server.addr.port());
        let (code, stdout, stderr) = run(command.arg(flag).env("RUST_LOG", "trace"));
        assert_eq!((code, stdout), (0, ten_lines()));
        lengths.push(stderr.len());
    }
    assert_eq!(lengths[0], 0, "quiet whatever RUST_LOG says");
    assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
}
