//! A protocol that writes down what happens to it, and a loop that ends.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Cause, CloseReason, Handle, Io, Protocol, Reactor, TimerId};
use socket2::{Domain, SockRef, Socket, Type};

/// Longer than anything here takes, on however busy a machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.borrow_mut().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    pub(crate) fn has(&self, part: &str) -> bool {
        self.count(part) > 0
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.0.borrow().iter().filter(|line| line.contains(part)).count()
    }
}

/// One callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call<'a> {
    Connect,
    Read(&'a [u8]),
    Write,
    Expt(u8),
    Eof,
    Timer,
    Drain,
}

type React = Box<dyn FnMut(Call<'_>, &mut Io<'_>) -> io::Result<()>>;

/// Writes each callback down under its name, then does what the test says.
pub(crate) struct Probe {
    name: &'static str,
    log: Log,
    react: React,
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

    /// One that does nothing, but for closing when the peer ends.
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

/// Sends back what it gets.
pub(crate) struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// Runs the reactor to its end, which must come before [`DEADLINE`]: a test
/// that hangs would tell nobody why.
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

/// Runs the reactor for as long as `peer` takes, on a thread of its own.
#[track_caller]
pub(crate) fn run_with<T: Send + 'static>(
    reactor: &mut Reactor,
    peer: impl FnOnce() -> T + Send + 'static,
) -> T {
    /// Dropped when the peer is done, and also when it panics.
    struct Stop(Handle);
    impl Drop for Stop {
        fn drop(&mut self) {
            // Ended by itself already, where that fails.
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

/// Turns until `done` holds.
#[track_caller]
pub(crate) fn turn_until(reactor: &mut Reactor, mut done: impl FnMut(&mut Reactor) -> bool) {
    let begin = Instant::now();
    while !done(reactor) {
        assert!(begin.elapsed() < DEADLINE, "it never came to that");
        reactor.turn(Some(Duration::from_millis(20))).unwrap();
    }
}

/// Turns until everything that is ready was served.
pub(crate) fn turn_all(reactor: &mut Reactor) {
    for _ in 0..10 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

/// Nothing wakes the reactor while it has nothing to do.
#[track_caller]
pub(crate) fn assert_idle(reactor: &mut Reactor) {
    const QUIET: Duration = Duration::from_millis(300);
    turn_all(reactor);
    let begin = Instant::now();
    reactor.turn(Some(QUIET)).unwrap();
    let slept = begin.elapsed();
    assert!(slept >= QUIET, "woken after {slept:?}");
}

/// A byte goes to an echo and comes back.
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

/// Two ends of a TCP connection.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Ends a connection in bad order.
pub(crate) fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// A port of this machine on which nobody listens.
pub(crate) fn dead_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address that answers to no attempt to connect: a listener that accepts
/// nobody, with its queue filled.
pub(crate) fn silent() -> (Socket, SocketAddr, Vec<Socket>) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let fillers = std::iter::repeat_with(|| {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        // In progress, for ever; or, for the first, connected.
        let _ = filler.connect(&addr.into());
        filler
    });
    let fillers = fillers.take(4).collect();
    (listener, addr, fillers)
}

/// For tests whose subject are panics: their messages would only be noise.
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !text.contains("a panic in") {
            eprintln!("{text}");
        }
    }));
}

/// Bytes in which every position can be told from its neighbours.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}
