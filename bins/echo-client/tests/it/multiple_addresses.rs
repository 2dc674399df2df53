//! Names with several addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Instant;

use testing::{HostsFile, report_skip, run};

use crate::common::{
    CLIENT, Server, Unresponsive, echo, echo_server_on, failure, ten_lines, to_host,
};

const NAME: &str = "several.test";

/// Creates the command for a client of the name.
fn client(hosts: &HostsFile, port: u16) -> Command {
    to_host(hosts.command(CLIENT), NAME, port)
}

#[test]
fn addresses_are_tried_until_one_connects() {
    let addresses = [2, 3, 4].map(|last| IpAddr::from([127, 0, 41, last]));
    let Some(hosts) = HostsFile::new(NAME, &addresses) else { return };
    let mut refusals = 0;
    for address in addresses {
        let server = echo_server_on(address);
        let (code, lines, log) = run(client(&hosts, server.addr.port()).arg("-vv"));
        assert_eq!((code, lines), (0, ten_lines()), "{address} {log:#?}");
        refusals += log.iter().filter(|line| line.contains("Connection refused")).count();
        assert!(log.iter().any(|line| line.contains(&format!("connected to {}", server.addr))));
        server.join();
    }
    // In any order: none before the first address, one before the second and two
    // before the third.
    assert_eq!(refusals, 3);
}

#[test]
fn name_with_both_ip_versions_reaches_either() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        report_skip(format_args!("no IPv6 here: {error}"));
        return;
    }
    let addresses = ["::1", "127.0.0.1"].map(|address| address.parse().unwrap());
    let Some(hosts) = HostsFile::new(NAME, &addresses) else { return };
    for address in addresses {
        let server = echo_server_on(address);
        let outcome = run(&mut client(&hosts, server.addr.port()));
        assert_eq!(outcome, (0, ten_lines(), vec![]), "{address}");
        server.join();
    }
}

/// Row 29. Each address is allotted a part of the timeout.
#[test]
fn unresponsive_address_does_not_block_the_next() {
    let addresses = [5, 6].map(|last| Ipv4Addr::new(127, 0, 41, last));
    let Some(hosts) = HostsFile::new(NAME, &addresses.map(IpAddr::from)) else { return };
    // In one of the two orders, the unresponsive address is tried first.
    for [unresponsive, listening] in [addresses, [addresses[1], addresses[0]]] {
        let unresponsive = Unresponsive::on(unresponsive);
        let port = unresponsive.addr.port();
        let listener = TcpListener::bind(SocketAddr::from((listening, port))).unwrap();
        let server = Server::on(listener, |peer| echo(&peer, |_| {}));
        let started_at = Instant::now();
        let outcome = run(client(&hosts, port).args(["--timeout", "4s"]));
        eprintln!("{} did not respond: {:?}", unresponsive.addr, started_at.elapsed());
        assert_eq!(outcome, (0, ten_lines(), vec![]));
        server.join();
    }
}

#[test]
fn refused_addresses_are_all_listed() {
    let addresses = [7, 8].map(|last| IpAddr::from([127, 0, 41, last]));
    let Some(hosts) = HostsFile::new(NAME, &addresses) else { return };
    let line = failure(&mut client(&hosts, 1), &[]);
    let what = format!("echo-client: cannot connect to {NAME}:1 (127.0.41.");
    assert!(line.starts_with(&what) && line.contains("Connection refused"), "{line}");
    assert!(line.contains("127.0.41.7:1") && line.contains("127.0.41.8:1"), "{line}");
}
