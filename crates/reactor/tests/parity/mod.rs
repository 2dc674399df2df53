//! What the two parity suites share, beside the helpers of `it/common.rs`.
#![allow(dead_code, reason = "each of the two suites uses a part")]

#[path = "../it/common.rs"]
pub(crate) mod common;

use std::cell::{Cell, RefCell};
use std::env;
use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Metadata, Record};
use reactor::{Address, Listener, Protocol, Reactor, Stream};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use self::common::DEADLINE;

/// The kinds of socket over which Python repeats its tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
    Unix,
}

/// Where the sockets of one test live.
pub(crate) struct Place {
    pub(crate) family: Family,
    directory: TempDir,
    /// How many paths were given out.
    paths: Cell<u32>,
}

impl Place {
    /// `None`, and a word about it, where this machine has no such sockets.
    pub(crate) fn new(family: Family) -> Option<Self> {
        let place =
            Place { family, directory: tempfile::tempdir().unwrap(), paths: Cell::default() };
        let probe = Socket::new(place.domain(), Type::STREAM, None)
            .and_then(|socket| socket.bind(&place.free()));
        match probe {
            Ok(()) => Some(place),
            Err(error) => {
                skipped(&format!("this machine has no {family:?} sockets: {error}"));
                None
            }
        }
    }

    pub(crate) fn domain(&self) -> Domain {
        match self.family {
            Family::Ipv4 => Domain::IPV4,
            Family::Ipv6 => Domain::IPV6,
            Family::Unix => Domain::UNIX,
        }
    }

    /// A path that is not there.
    pub(crate) fn path(&self) -> PathBuf {
        self.paths.set(self.paths.get() + 1);
        self.directory.path().join(format!("socket {}", self.paths.get()))
    }

    /// An address to bind to that nobody has.
    fn free(&self) -> SockAddr {
        match self.family {
            Family::Ipv4 => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
            Family::Ipv6 => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into(),
            Family::Unix => SockAddr::unix(self.path()).unwrap(),
        }
    }

    /// A listener of ours, not yet added.
    pub(crate) fn listener<P: Protocol>(
        &self,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> Listener {
        let at = Address::from_sock(&self.free());
        listen(&at, handle_accepted).unwrap()
    }

    /// A socket that is bound and does not listen: connecting to it is
    /// refused, and nobody else can come to listen there meanwhile.
    pub(crate) fn bound(&self) -> (Socket, Address) {
        let socket = Socket::new(self.domain(), Type::STREAM, None).unwrap();
        socket.bind(&self.free()).unwrap();
        let at = Address::from_sock(&socket.local_addr().unwrap());
        (socket, at)
    }

    /// A socket that listens, and is nobody's yet.
    pub(crate) fn listening(&self) -> (Socket, Address) {
        let (socket, at) = self.bound();
        socket.listen(128).unwrap();
        (socket, at)
    }
}

/// An address of ours as the system has it, and back.
pub(crate) trait Both: Sized {
    fn from_sock(addr: &SockAddr) -> Self;
    fn to_sock(&self) -> SockAddr;
}

impl Both for Address {
    fn from_sock(addr: &SockAddr) -> Self {
        match addr.as_socket() {
            Some(addr) => Address::Inet(addr),
            None => Address::Unix(addr.as_pathname().map(Into::into)),
        }
    }

    fn to_sock(&self) -> SockAddr {
        match self {
            Address::Inet(addr) => (*addr).into(),
            Address::Unix(Some(path)) => SockAddr::unix(path).unwrap(),
            _ => unreachable!("an address to connect to"),
        }
    }
}

/// Listens at exactly `at`.
pub(crate) fn listen<P: Protocol>(
    at: &Address,
    handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
) -> io::Result<Listener> {
    match at {
        Address::Inet(addr) => Listener::bind(addr, handle_accepted),
        Address::Unix(Some(path)) => Listener::bind_unix(path, handle_accepted),
        _ => unreachable!("an address to listen at"),
    }
}

/// A client of ours.
pub(crate) fn connect<P: Protocol>(at: &Address, protocol: P) -> io::Result<Stream<P>> {
    match at {
        Address::Inet(addr) => Stream::connect(addr, protocol),
        Address::Unix(Some(path)) => Stream::connect_unix(path, protocol),
        _ => unreachable!("an address to connect to"),
    }
}

/// A client that is not ours. Its calls fail rather than hang.
pub(crate) fn peer(at: &Address) -> Socket {
    let at = at.to_sock();
    let socket = Socket::new(at.domain(), Type::STREAM, None).unwrap();
    patient(&socket);
    socket.connect(&at).unwrap();
    socket
}

pub(crate) fn patient(socket: &Socket) {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
}

/// Two ends of a Unix connection. The second one's calls fail rather than
/// hang.
pub(crate) fn pair() -> (Socket, Socket) {
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
    patient(&theirs);
    (ours, theirs)
}

/// Two ends of a TCP connection, likewise.
pub(crate) fn tcp_pair() -> (Socket, Socket) {
    let (listener, at) = Place::new(Family::Ipv4).unwrap().listening();
    let ours = peer(&at);
    let (theirs, _) = listener.accept().unwrap();
    patient(&theirs);
    (ours, theirs)
}

/// Closes a connection by a reset.
pub(crate) fn reset(socket: Socket) {
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
}

/// Says that something was not tested: past libtest, which keeps what a test
/// that passes prints to itself.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// How often the reactor waits in `time`, while it has nothing to do.
pub(crate) fn waits_in(reactor: &mut Reactor, time: Duration) -> u64 {
    let before = reactor.stats().turns;
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return reactor.stats().turns - before;
        }
        reactor.turn(Some(left)).unwrap();
    }
}

/// Runs `test` in a process of its own: it needs descriptor numbers, or limits,
/// that nobody else plays with. `name` is the test's.
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    const MARK: &str = "REACTOR_PARITY_ALONE";
    if env::var_os(MARK).is_some_and(|mark| mark == name) {
        return test();
    }
    let child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(MARK, name)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    let why = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{}\n{told}\n{why}", child.status);
    assert!(told.contains("1 passed"), "there is no test {name}:\n{told}");
    for line in why.lines().filter(|line| line.starts_with("SKIPPED: ")) {
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// The processor time that this thread has used.
pub(crate) fn processor_time() -> Duration {
    // The kernel brings its count up to date when it schedules.
    thread::yield_now();
    // Its first number is in nanoseconds: /proc/[pid]/schedstat, as
    // Documentation/scheduler/sched-stats.rst of the kernel has it.
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = stat.split_whitespace().next().unwrap().parse().unwrap();
    Duration::from_nanos(nanos)
}

/// The least processor time that one of several attempts takes: what disturbs
/// one only adds to it.
pub(crate) fn least_cost(attempts: u32, mut attempt: impl FnMut()) -> Duration {
    let cost = |_| {
        let before = processor_time();
        attempt();
        processor_time().saturating_sub(before)
    };
    (0..attempts).map(cost).min().unwrap()
}

thread_local! {
    /// What was logged on this thread, which is one test with its reactor.
    static RECORDS: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what is logged, for each thread by itself.
struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // A thread that ends may log when this is gone already.
        let _ = RECORDS.try_with(|records| {
            records.borrow_mut().push((record.level(), record.args().to_string()));
        });
    }

    fn flush(&self) {}
}

/// Keeps what is logged on this thread from here on.
pub(crate) fn record() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Recorder).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    RECORDS.with_borrow_mut(Vec::clear);
}

/// What was logged at `level`, on this thread and since it was asked.
pub(crate) fn recorded(level: Level) -> Vec<String> {
    let at_level = |(at, line): &(Level, String)| (*at == level).then(|| line.clone());
    RECORDS.with_borrow(|records| records.iter().filter_map(at_level).collect())
}

/// An error of the user's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spam;

impl fmt::Display for Spam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("I don't like spam!")
    }
}

impl std::error::Error for Spam {}

/// A module of tests, each of which is a function of `api` that is given a
/// place of that family: so that a failure names both.
macro_rules! over {
    ($family:ident in $module:ident: $($test:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    use crate::parity::{Family, Place};
                    if let Some(place) = Place::new(Family::$family) {
                        crate::api::$test(&place);
                    }
                }
            )*
        }
    };
}
pub(crate) use over;
