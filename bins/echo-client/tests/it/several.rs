//! A name with several addresses: each is tried in turn.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Instant;

use tempfile::NamedTempFile;
use testing::{run, skipped};

use crate::common::{CLIENT, Server, Silent, echo, echo_server_on, failure, ten, to_host};

/// A hosts file in which a name has several addresses, for the client alone:
/// it sees it in the place of the system's own, in a mount namespace.
struct Hosts(NamedTempFile);

impl Hosts {
    const NAME: &str = "several.test";

    fn new(addresses: &[IpAddr]) -> Option<Self> {
        let file = NamedTempFile::new().unwrap();
        let lines = addresses.iter().map(|address| format!("{address} {}\n", Self::NAME));
        fs::write(&file, lines.collect::<String>()).unwrap();
        let hosts = Hosts(file);
        let looked_up = hosts.run("getent").args(["ahosts", Self::NAME]).output();
        if looked_up.is_ok_and(|output| output.status.success()) {
            return Some(hosts);
        }
        skipped("no namespaces here, or no hosts file that is asked for names");
        None
    }

    fn run(&self, program: &str) -> Command {
        let mut command = testing::command("unshare");
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        command.args(["--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(self.0.path()).arg(program);
        command
    }

    fn client(&self, port: u16) -> Command {
        to_host(self.run(CLIENT), Self::NAME, port)
    }
}

#[test]
fn tries_each_address_of_a_name_until_one_answers() {
    let addresses = [2, 3, 4].map(|last| IpAddr::from([127, 0, 41, last]));
    let Some(hosts) = Hosts::new(&addresses) else { return };
    let mut refusals = 0;
    for address in addresses {
        let server = echo_server_on(address);
        let (code, lines, log) = run(hosts.client(server.addr.port()).arg("-vv"));
        assert_eq!((code, lines), (0, ten()), "{address} {log:#?}");
        refusals += log.iter().filter(|line| line.contains("Connection refused")).count();
        assert!(log.iter().any(|line| line.contains(&format!("connected to {}", server.addr))));
        server.outcome();
    }
    // In whatever order: none before the first, one before the second, and
    // two before the third.
    assert_eq!(refusals, 3);
}

#[test]
fn a_server_on_one_ip_version_is_found_through_a_name_that_has_both() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        skipped(format_args!("no IPv6 here: {error}"));
        return;
    }
    let addresses = ["::1", "127.0.0.1"].map(|address| address.parse().unwrap());
    let Some(hosts) = Hosts::new(&addresses) else { return };
    for address in addresses {
        let server = echo_server_on(address);
        let outcome = run(&mut hosts.client(server.addr.port()));
        assert_eq!(outcome, (0, ten(), vec![]), "{address}");
        server.outcome();
    }
}

/// Row 29. The time is shared, so that the silent address leaves some of it
/// to the other.
#[test]
fn an_address_that_does_not_answer_keeps_nobody_from_the_next() {
    let addresses = [5, 6].map(|last| Ipv4Addr::new(127, 0, 41, last));
    let Some(hosts) = Hosts::new(&addresses.map(IpAddr::from)) else { return };
    // One of the two ways is the one in which the silent address comes first.
    for [silent, alive] in [addresses, [addresses[1], addresses[0]]] {
        let silent = Silent::on(silent);
        let port = silent.addr.port();
        let listener = TcpListener::bind(SocketAddr::from((alive, port))).unwrap();
        let server = Server::on(listener, |peer| echo(&peer, |_| {}));
        let begin = Instant::now();
        let outcome = run(hosts.client(port).args(["--timeout", "4s"]));
        eprintln!("{} did not answer: {:?}", silent.addr, begin.elapsed());
        assert_eq!(outcome, (0, ten(), vec![]));
        server.outcome();
    }
}

#[test]
fn a_name_of_which_no_address_answers_is_told_with_all_of_them() {
    let addresses = [7, 8].map(|last| IpAddr::from([127, 0, 41, last]));
    let Some(hosts) = Hosts::new(&addresses) else { return };
    let line = failure(&mut hosts.client(1), &[]);
    let what = format!("echo-client: cannot connect to {}:1 (127.0.41.", Hosts::NAME);
    assert!(line.starts_with(&what) && line.contains("Connection refused"), "{line}");
    assert!(line.contains("127.0.41.7:1") && line.contains("127.0.41.8:1"), "{line}");
}
