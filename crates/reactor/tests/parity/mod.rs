//! Helpers of the two parity suites, in addition to `it/common.rs`.
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

/// Creates the sockets of one test, and holds the directory of their paths.
pub(crate) struct Place {
    pub(crate) family: Family,
    directory: TempDir,
    /// The number of paths returned by `path`.
    paths: Cell<u32>,
}

impl Place {
    /// Returns `None`, and reports a skip, if this machine has no such sockets.
    pub(crate) fn new(family: Family) -> Option<Self> {
        let place =
            Place { family, directory: tempfile::tempdir().unwrap(), paths: Cell::default() };
        let probe = Socket::new(place.domain(), Type::STREAM, None)
            .and_then(|socket| socket.bind(&place.unused_addr()));
        match probe {
            Ok(()) => Some(place),
            Err(error) => {
                report_skip(&format!("this machine has no {family:?} sockets: {error}"));
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

    /// Returns a path that does not exist.
    pub(crate) fn path(&self) -> PathBuf {
        self.paths.set(self.paths.get() + 1);
        self.directory.path().join(format!("socket {}", self.paths.get()))
    }

    /// Returns an unused address to bind to.
    fn unused_addr(&self) -> SockAddr {
        match self.family {
            Family::Ipv4 => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
            Family::Ipv6 => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into(),
            Family::Unix => SockAddr::unix(self.path()).unwrap(),
        }
    }

    /// Returns a `Listener` that is not added yet.
    pub(crate) fn listener<P: Protocol>(
        &self,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> Listener {
        let at = Address::from_sock(&self.unused_addr());
        listen(&at, handle_accepted).unwrap()
    }

    /// Returns a bound socket that does not listen: connections are refused,
    /// and no other program can listen at the address.
    pub(crate) fn bound(&self) -> (Socket, Address) {
        let socket = Socket::new(self.domain(), Type::STREAM, None).unwrap();
        socket.bind(&self.unused_addr()).unwrap();
        let at = Address::from_sock(&socket.local_addr().unwrap());
        (socket, at)
    }

    /// Returns a listening socket and its address.
    pub(crate) fn listening(&self) -> (Socket, Address) {
        let (socket, at) = self.bound();
        socket.listen(128).unwrap();
        (socket, at)
    }
}

/// Conversions between [`Address`] and [`SockAddr`].
pub(crate) trait AddressExt: Sized {
    fn from_sock(addr: &SockAddr) -> Self;
    fn to_sock(&self) -> SockAddr;
}

impl AddressExt for Address {
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

/// Creates a listener at `at`.
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

/// Creates a [`Stream`] that connects to `at`.
pub(crate) fn connect<P: Protocol>(at: &Address, protocol: P) -> Stream<P> {
    match at {
        Address::Inet(addr) => Stream::connect([*addr], protocol),
        Address::Unix(Some(path)) => Stream::connect_unix(path, protocol),
        _ => unreachable!("an address to connect to"),
    }
}

/// Connects a blocking client whose calls fail after [`DEADLINE`].
pub(crate) fn peer(at: &Address) -> Socket {
    let at = at.to_sock();
    let socket = Socket::new(at.domain(), Type::STREAM, None).unwrap();
    set_timeouts(&socket);
    socket.connect(&at).unwrap();
    socket
}

pub(crate) fn set_timeouts(socket: &Socket) {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
}

/// Returns two ends of a Unix connection. Calls on the second one fail after
/// [`DEADLINE`].
pub(crate) fn pair() -> (Socket, Socket) {
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
    set_timeouts(&theirs);
    (ours, theirs)
}

/// Returns two ends of a TCP connection, likewise.
pub(crate) fn tcp_pair() -> (Socket, Socket) {
    let (listener, at) = Place::new(Family::Ipv4).unwrap().listening();
    let ours = peer(&at);
    let (theirs, _) = listener.accept().unwrap();
    set_timeouts(&theirs);
    (ours, theirs)
}

/// Closes a connection by a reset.
pub(crate) fn reset(socket: Socket) {
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
}

/// Reports a skipped test, bypassing libtest, which captures the output of a
/// test that passes.
pub(crate) fn report_skip(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// Returns the number of waits of an idle reactor in `time`.
pub(crate) fn count_waits(reactor: &mut Reactor, time: Duration) -> u64 {
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

/// Runs `test`, whose name is `name`, in a separate process, so that no other
/// test uses its descriptor numbers and limits.
pub(crate) fn in_separate_process(name: &str, test: impl FnOnce()) {
    const MARK: &str = "REACTOR_PARITY_SEPARATE";
    if env::var_os(MARK).is_some_and(|mark| mark == name) {
        return test();
    }
    let child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(MARK, name)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&child.stdout);
    let stderr = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{}\n{stdout}\n{stderr}", child.status);
    assert!(stdout.contains("1 passed"), "there is no test {name}:\n{stdout}");
    for line in stderr.lines().filter(|line| line.starts_with("SKIPPED: ")) {
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Returns the processor time used by this thread.
pub(crate) fn cpu_time() -> Duration {
    // The kernel updates the count when it schedules.
    thread::yield_now();
    // The first number is in nanoseconds: see /proc/<pid>/schedstat in the
    // kernel's Documentation/scheduler/sched-stats.rst.
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = stat.split_whitespace().next().unwrap().parse().unwrap();
    Duration::from_nanos(nanos)
}

/// Returns the least processor time of several attempts, as disturbances only
/// add to it.
pub(crate) fn min_cpu_time(attempts: u32, mut attempt: impl FnMut()) -> Duration {
    let cost = |_| {
        let before = cpu_time();
        attempt();
        cpu_time().saturating_sub(before)
    };
    (0..attempts).map(cost).min().unwrap()
}

thread_local! {
    /// The records logged on this thread, which runs one test.
    static RECORDS: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// A logger that stores records separately for each thread.
struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Fails if the thread logs after its thread-locals were dropped.
        let _ = RECORDS.try_with(|records| {
            records.borrow_mut().push((record.level(), record.args().to_string()));
        });
    }

    fn flush(&self) {}
}

/// Starts recording on this thread, and removes earlier records.
pub(crate) fn record() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Recorder).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    RECORDS.with_borrow_mut(Vec::clear);
}

/// Returns the lines logged at `level` on this thread since [`record`].
pub(crate) fn recorded(level: Level) -> Vec<String> {
    let at_level = |(at, line): &(Level, String)| (*at == level).then(|| line.clone());
    RECORDS.with_borrow(|records| records.iter().filter_map(at_level).collect())
}

/// A user-defined error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spam;

impl fmt::Display for Spam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("I don't like spam!")
    }
}

impl std::error::Error for Spam {}

/// Defines a module of tests that call the functions of `api` with a `Place`
/// of one family, so that the name of a failed test contains both.
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
