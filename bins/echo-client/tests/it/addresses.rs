//! Connecting by an address or a name.

use std::net::{Ipv6Addr, TcpListener, ToSocketAddrs};
use std::process::Command;

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
