//! Errors of accept(2): each is injected into a process of its own.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use reactor::{Listener, Reactor, Token};

use crate::common::{Echo, assert_echo, in_process_with_fault, turn_until};

fn listening() -> (Reactor, Token, std::net::SocketAddr) {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    let token = reactor.add(listener).unwrap();
    (reactor, token, addr)
}

/// Errors that pass, among them one that accept(2) does not document, and two that it
/// documents for a connection.
const TRANSIENT: [&str; 16] = [
    "EPERM",
    "EMFILE",
    "ENFILE",
    "ENOBUFS",
    "ENOMEM",
    "EPROTO",
    "ENETDOWN",
    "ENOPROTOOPT",
    "EHOSTDOWN",
    "ENONET",
    "EHOSTUNREACH",
    "EOPNOTSUPP",
    "ENETUNREACH",
    "EACCES",
    "ENOSYS",
    "EIO",
];

#[test]
fn transient_error_pauses_accepting() {
    for errno in TRANSIENT {
        let fault = format!("error={errno}:when=1..3");
        let name = "accept_errors::transient_error_pauses_accepting";
        if in_process_with_fault(name, "accept4", &fault) {
            let (mut reactor, _, addr) = listening();
            let peer = TcpStream::connect(addr).unwrap();
            assert_echo(&mut reactor, &peer);
            assert_eq!(reactor.stats().accept_pauses, 3);
        }
    }
}

#[test]
fn aborted_connection_is_skipped_at_once() {
    for errno in ["ECONNABORTED", "EINTR"] {
        let fault = format!("error={errno}:when=1..3");
        let name = "accept_errors::aborted_connection_is_skipped_at_once";
        if in_process_with_fault(name, "accept4", &fault) {
            let (mut reactor, _, addr) = listening();
            let peer = TcpStream::connect(addr).unwrap();
            assert_echo(&mut reactor, &peer);
            assert_eq!((reactor.stats().accept_errors, reactor.stats().accept_pauses), (3, 0));
        }
    }
}

#[test]
fn error_of_the_listening_socket_closes_the_listener() {
    for errno in ["EBADF", "EINVAL", "ENOTSOCK", "EFAULT"] {
        let fault = format!("error={errno}:when=2");
        let name = "accept_errors::error_of_the_listening_socket_closes_the_listener";
        if in_process_with_fault(name, "accept4", &fault) {
            let (mut reactor, token, addr) = listening();
            let _peer = TcpStream::connect(addr).unwrap();
            turn_until(&mut reactor, |reactor| reactor.get_mut::<Listener>(token).is_none());
        }
    }
}

/// The lines of the log that are errors.
static ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct ErrorLog;

impl log::Log for ErrorLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            ERRORS.lock().unwrap().push(record.args().to_string());
        }
    }
    fn flush(&self) {}
}

/// A security module, or a filter of system calls, that forbids accept(2). Also an error
/// that is retried at once, if it persists.
#[test]
fn persistent_error_neither_spins_nor_floods_the_log() {
    const WINDOW: Duration = Duration::from_millis(2_500);
    for errno in ["EPERM", "ECONNABORTED"] {
        let fault = format!("error={errno}");
        let name = "accept_errors::persistent_error_neither_spins_nor_floods_the_log";
        if in_process_with_fault(name, "accept4", &fault) {
            log::set_logger(&ErrorLog).unwrap();
            log::set_max_level(log::LevelFilter::Warn);
            let (mut reactor, token, addr) = listening();
            let _peers: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
            let begin = Instant::now();
            while begin.elapsed() < WINDOW {
                reactor.turn(Some(WINDOW.saturating_sub(begin.elapsed()))).unwrap();
            }
            let stats = reactor.stats();
            // 10 + 20 + … + 640 ms, then one a second.
            assert!((7..=9).contains(&stats.accept_pauses), "{stats:?}");
            assert!(stats.turns <= 20, "{stats:?}");
            let errors = ERRORS.lock().unwrap();
            assert!((1..=3).contains(&errors.len()), "{errors:#?}");
            assert!(errors.iter().all(|line| line.contains("cannot accept")), "{errors:#?}");
            drop(errors);
            assert!(reactor.get_mut::<Listener>(token).is_some(), "it continues");
        }
    }
}

#[test]
fn only_a_listening_socket_can_be_passed_in() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for error in [
        Listener::new(connected, |_| Ok(Echo)).unwrap_err(),
        Listener::new(udp, |_| Ok(Echo)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    #[cfg(unix)] // files
    Listener::new(tempfile::tempfile().unwrap(), |_| Ok(Echo)).unwrap_err();
    let _listener = Listener::new(listener, |_| Ok(Echo)).unwrap();
}
