//! Measurements with TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use reactor::{Io, Listener, Protocol, Reactor};
use test_certificates::Authority;
use testing::run;
use tls::{Server, ServerFiles, Tls};

use crate::{bench, field};

struct Echo(Arc<AtomicUsize>);

impl Protocol for Echo {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        if io.filter::<Tls>().is_some_and(Tls::is_resumed) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// Starts a server that runs until the test process exits.
fn tls_server(authority: &Authority) -> SocketAddr {
    counting_tls_server(authority, Arc::default())
}

/// Likewise; it counts the sessions that are resumed.
fn counting_tls_server(authority: &Authority, resumed: Arc<AtomicUsize>) -> SocketAddr {
    let files = authority.issue("server");
    let files = ServerFiles { cert: files.cert, key: files.key, ..ServerFiles::default() };
    let server = Server::from_files(files).unwrap();
    let (addr_tx, addr_rx) = mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        let accept = move |_: &_| Ok(Echo(Arc::clone(&resumed)));
        let listener = Listener::bind("127.0.0.1:0", accept).unwrap();
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
fn no_resumption_makes_every_handshake_a_full_one() {
    let authority = Authority::new();
    let ca = authority.ca();
    for (option, resumes) in [(None, true), (Some("--no-resumption"), false)] {
        let resumed = Arc::new(AtomicUsize::new(0));
        let addr = counting_tls_server(&authority, Arc::clone(&resumed));
        let mut command = bench(addr, &["--churn", "--connections", "1"]);
        command.args(option).args(["--tls", "--tls-ca"]).arg(&ca);
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!((code, stderr), (0, vec![]), "{option:?}: {stdout:?}");
        assert_eq!(resumed.load(Ordering::Relaxed) > 0, resumes, "{option:?}");
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
