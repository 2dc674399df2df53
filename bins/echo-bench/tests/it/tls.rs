//! Measurements with TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use reactor::{Io, Listener, Protocol, Reactor};
use test_certificates::Authority;
use testing::run;
use tls::{Server, ServerFiles};

use crate::{bench, field};

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// Starts a server that runs until the test process exits.
fn tls_server(authority: &Authority) -> SocketAddr {
    let files = authority.issue("server");
    let files = ServerFiles { cert: files.cert, key: files.key, ..ServerFiles::default() };
    let server = Server::from_files(files).unwrap();
    let (addr_tx, addr_rx) = mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
        addr_tx.send(listener.local_addr().as_inet().unwrap()).unwrap();
        reactor.add(server.listen(listener)).unwrap();
        reactor.run().unwrap();
    });
    addr_rx.recv().unwrap()
}

#[test]
fn each_mode_works_with_tls() {
    let authority = Authority::new();
    let addr = tls_server(&authority);
    let ca = authority.ca();
    for options in [
        &["--connections", "2"][..],
        &["--connections", "2", "--pipeline", "16", "--threads", "2"],
        &["--connections", "2", "--size", "300000"],
        &["--connections", "2", "--churn", "--tls-name", "localhost"],
    ] {
        let mut command = bench(addr, options);
        let (code, stdout, stderr) = run(command.args(["--json", "--tls", "--tls-ca"]).arg(&ca));
        assert_eq!((code, stderr), (0, vec![]), "{options:?}: {stdout:?}");
        assert!(field(&stdout[0], "/messages") >= 1.0, "{stdout:?}");
    }
}

#[test]
fn certificate_that_is_not_trusted_is_reported() {
    let (authority, other) = (Authority::new(), Authority::new());
    let addr = tls_server(&authority);
    let (code, stdout, stderr) = run(bench(addr, &["--tls", "--tls-ca"]).arg(other.ca()));
    assert_eq!((code, stdout), (1, vec![]));
    let [line] = &stderr[..] else { panic!("{stderr:#?}") };
    let expected =
        format!("echo-bench: cannot connect to {addr}: the peer's certificate is signed");
    assert!(line.starts_with(&expected), "{line}");
}
