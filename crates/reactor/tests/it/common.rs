//! Helpers: a protocol that logs its callbacks, loops with a deadline, sockets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use reactor::{
    Address, Cause, CloseReason, DatagramIo, DatagramProtocol, Handle, Io, Protocol, Reactor,
    TimerId,
};
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

#[allow(unused_imports, reason = "the parity tests use other helpers only")]
pub(crate) use testing::{DEADLINE, LocalStream, Log, local_pair, pattern, reports_resets};

/// A callback and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call<'a> {
    Connect,
    Upgrade,
    Read(&'a [u8]),
    Write,
    Expt(u8),
    Eof,
    Timer,
    Drain,
}

type Reaction = Box<dyn FnMut(Call<'_>, &mut Io<'_>) -> io::Result<()>>;

/// Logs each callback under its name, then runs the closure of the test.
pub(crate) struct Probe {
    name: &'static str,
    log: Log,
    react: Reaction,
    pub(crate) writable: bool,
}

impl Probe {
    pub(crate) fn new(
        name: &'static str,
        log: &Log,
        react: impl FnMut(Call<'_>, &mut Io<'_>) -> io::Result<()> + 'static,
    ) -> Self {
        Probe { name, log: log.clone(), react: Box::new(react), writable: false }
    }

    /// Creates a probe that only closes at end of input.
    pub(crate) fn passive(name: &'static str, log: &Log) -> Self {
        Self::new(name, log, |call, io| {
            if call == Call::Eof {
                io.close();
            }
            Ok(())
        })
    }

    pub(crate) fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    fn call(&mut self, what: &str, call: Call<'_>, io: &mut Io<'_>) -> io::Result<()> {
        self.log.note(format!("{} {what}", self.name));
        (self.react)(call, io)
    }
}

impl Protocol for Probe {
    fn writable(&self) -> bool {
        self.writable
    }

    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.call("connect", Call::Connect, io)
    }

    fn handle_upgrade(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.call("upgrade", Call::Upgrade, io)
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.call(&format!("read {}", data.len()), Call::Read(data), io)
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.call("write", Call::Write, io)
    }

    fn handle_expt(&mut self, io: &mut Io<'_>, byte: u8) -> io::Result<()> {
        self.call(&format!("expt {byte}"), Call::Expt(byte), io)
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.call("eof", Call::Eof, io)
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _timer: TimerId) -> io::Result<()> {
        self.call("timer", Call::Timer, io)
    }

    fn handle_drain(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.call("drain", Call::Drain, io)
    }

    fn handle_error(&mut self, _io: &mut Io<'_>, cause: &Cause) {
        self.log.note(format!("{} error: {cause}", self.name));
    }

    fn handle_close(&mut self, _io: &mut Io<'_>, reason: &CloseReason) {
        self.log.note(format!("{} close: {reason}", self.name));
    }
}

/// Ignores datagrams.
#[cfg(unix)] // only tests of what Unix has use it
pub(crate) struct Quiet;

#[cfg(unix)]
impl DatagramProtocol for Quiet {
    fn handle_datagram(&mut self, _: &mut DatagramIo<'_>, _: &[u8], _: &Address) -> io::Result<()> {
        Ok(())
    }
}

/// Sends back all input.
pub(crate) struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// Runs the reactor until it ends. Aborts the process with a message if that
/// takes longer than [`DEADLINE`], as a test that hangs gives no reason.
pub(crate) fn run(reactor: &mut Reactor) {
    let (ended, end) = mpsc::channel::<()>();
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let watchdog = thread::spawn(move || {
        if end.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{test}: the reactor did not end within {DEADLINE:?}");
            process::abort();
        }
    });
    reactor.run().unwrap();
    drop(ended);
    watchdog.join().unwrap();
}

/// Runs the reactor until `peer`, on a separate thread, returns.
#[track_caller]
pub(crate) fn run_with<T: Send + 'static>(
    reactor: &mut Reactor,
    peer: impl FnOnce() -> T + Send + 'static,
) -> T {
    /// Dropped when the peer returns or panics.
    struct Stop(Handle);
    impl Drop for Stop {
        fn drop(&mut self) {
            // This fails if the reactor has already ended.
            let _ = self.0.stop();
        }
    }
    let stop = Stop(reactor.handle());
    let peer = thread::spawn(move || {
        let _stop = stop;
        peer()
    });
    run(reactor);
    peer.join().expect("the peer")
}

/// Runs turns until `done` returns `true`.
#[track_caller]
pub(crate) fn turn_until(reactor: &mut Reactor, mut done: impl FnMut(&mut Reactor) -> bool) {
    let begin = Instant::now();
    while !done(reactor) {
        assert!(begin.elapsed() < DEADLINE, "condition not reached within {DEADLINE:?}");
        reactor.turn(Some(Duration::from_millis(20))).unwrap();
    }
}

/// Runs enough turns to serve everything that is ready.
pub(crate) fn turn_all(reactor: &mut Reactor) {
    for _ in 0..10 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

/// Asserts that nothing wakes the reactor while it has no work.
#[track_caller]
pub(crate) fn assert_idle(reactor: &mut Reactor) {
    const QUIET: Duration = Duration::from_millis(300);
    turn_all(reactor);
    let begin = Instant::now();
    reactor.turn(Some(QUIET)).unwrap();
    let slept = begin.elapsed();
    assert!(slept >= QUIET, "woken after {slept:?}");
}

/// Asserts that one byte is echoed to `peer`.
#[track_caller]
pub(crate) fn assert_echo<T>(reactor: &mut Reactor, peer: &T)
where
    for<'a> &'a T: Read + Write,
    for<'a> SockRef<'a>: From<&'a T>,
{
    SockRef::from(peer).set_nonblocking(true).unwrap();
    (&mut &*peer).write_all(b"e").unwrap();
    let mut byte = [0];
    turn_until(reactor, |_| match (&mut &*peer).read(&mut byte) {
        Ok(read) => {
            assert_eq!((read, byte), (1, *b"e"));
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            false
        }
    });
}

/// Returns the two ends of a TCP connection.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Closes a connection by a reset.
pub(crate) fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// Returns how an error of the system is shown.
pub(crate) fn shown(error: Errno) -> String {
    io::Error::from(error).to_string()
}

/// Returns a local address without a listener.
pub(crate) fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Returns an address that answers no connection attempt: a listener that
/// accepts nothing and whose queue is full.
pub(crate) fn unresponsive_listener() -> (Socket, SocketAddr, Vec<Socket>) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let fillers = std::iter::repeat_with(|| {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        // The first connects; the others remain in progress.
        let _ = filler.connect(&addr.into());
        filler
    });
    let fillers = fillers.take(4).collect();
    (listener, addr, fillers)
}

/// Hides the messages of the panics that a test provokes.
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !text.contains("a panic in") {
            eprintln!("{text}");
        }
    }));
}

/// Runs the test `name` again, in a process whose system calls fail as strace's
/// `fault` describes. Returns `true` in that process, and otherwise `false` after it has
/// succeeded, or if strace is not available.
#[track_caller]
pub(crate) fn in_process_with_fault(name: &str, calls: &str, fault: &str) -> bool {
    const VARIABLE: &str = "REACTOR_TEST_FAULT";
    if std::env::var(VARIABLE).is_ok_and(|value| value == fault) {
        return true;
    }
    if std::env::var(VARIABLE).is_ok() {
        return false;
    }
    let program = std::env::current_exe().unwrap();
    let program = program.to_str().unwrap();
    // The log of each run in a file of its own.
    let record = format!("strace-{}-{}", name.replace("::", "-"), process::id());
    let record = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(record);
    let Some(mut command) = testing::with_fault(program, calls, fault, &record) else {
        return false;
    };
    command.args(["--exact", name, "--nocapture"]).env(VARIABLE, fault);
    let (code, stdout, stderr) = testing::run(&mut command);
    let _ = std::fs::remove_file(record);
    assert_eq!(code, 0, "with {fault}:\n{}\n{}", stdout.join("\n"), stderr.join("\n"));
    false
}
