//! Finding the server by an address or a name.

use std::net::{Ipv6Addr, TcpListener, ToSocketAddrs};
use std::process::Command;

use testing::{run, skipped};

use crate::common::{CLIENT, echo_server_on, ten, to_host};

/// The client, told to find `host`.
fn client_of(host: &str, port: u16) -> Command {
    to_host(testing::command(CLIENT), host, port)
}

#[test]
fn connects_over_ipv6_with_and_without_brackets() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        skipped(format_args!("no IPv6 here: {error}"));
        return;
    }
    for host in ["::1", "[::1]"] {
        let server = echo_server_on(Ipv6Addr::LOCALHOST);
        let outcome = run(&mut client_of(host, server.addr.port()));
        assert_eq!(outcome, (0, ten(), vec![]), "{host}");
        server.outcome();
    }
}

/// Of the addresses that `localhost` has, the server has one.
#[test]
fn connects_to_a_name() {
    let addresses: Vec<_> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    if addresses.len() == 1 {
        skipped(format_args!("of several addresses; localhost has {} alone", addresses[0].ip()));
    }
    for address in addresses {
        let server = echo_server_on(address.ip());
        let outcome = run(&mut client_of("localhost", server.addr.port()));
        assert_eq!(outcome, (0, ten(), vec![]), "{address}");
        server.outcome();
    }
}
