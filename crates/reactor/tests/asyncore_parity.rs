//! The counterparts of Python 3.11's `test_asyncore.py`, of what is wrong with
//! asyncore, and of ten tests that tell a good reactor from a poor one. (Those
//! of `test_asynchat.py`, and of asynchat's own faults, are in
//! `asynchat_parity.rs`.)
//!
//! Where we differ on purpose the test states the better behaviour. Nothing
//! here is taken from Python's files but what a method is called and what it
//! is about.
//!
//! Python runs 18 to 31 for each kind of socket, and each of those with
//! `select` and with `poll`. Here they run over IPv4, IPv6 and Unix sockets (a
//! machine without IPv6 skips those, and says so) on the polling backend that is
//! compiled in: CI compiles this suite for epoll, and once more for poll(2)
//! (`--cfg polling_test_poll_backend`).
//!
//! # The methods
//!
//! Each counterpart has the method's name, in a module with the name of its
//! class.
//!
//! | # | Python | counterpart | remark |
//! | --- | --- | --- | --- |
//! | 1 | `HelperFunctionTests.test_readwriteexc` | `helper_function_tests::test_readwriteexc` | `ExitNow` is [`Context::stop`]: nothing unwinds, the turn is finished first |
//! | 2 | `….test_readwrite` | `helper_function_tests::test_readwrite` | `POLLHUP` and `POLLERR` without interest are `handle_hangup`. `POLLNVAL` cannot apply: a dispatcher owns its descriptor, which is open for as long as it is registered |
//! | 3 | `….test_closeall` | `helper_function_tests::test_closeall` | of one reactor: another one's channels are not concerned |
//! | 4 | `….test_closeall_default` | `helper_function_tests::test_closeall_default` | there is no global map: the default is that a reactor which goes closes its channels |
//! | 5 | `….test_compact_traceback` | `helper_function_tests::test_compact_traceback` | the cause carries the error itself, or the panic's message; the place of a panic is for the panic hook |
//! | 6 | `DispatcherTests.test_basic` | `dispatcher_tests::test_basic` | `writable` defaults to false: an idle socket does not spin |
//! | 7 | `….test_repr` | `dispatcher_tests::test_repr` | and says where it is, rather than at which address in memory |
//! | 8 | `….test_log` | `dispatcher_tests::test_log` | through the `log` crate |
//! | 9 | `….test_log_info` | `dispatcher_tests::test_log_info` | asyncore's types are levels |
//! | 10 | `….test_unhandled` | `dispatcher_tests::test_unhandled` | a warning too, and then no spin; an unhandled connect is nothing to warn of |
//! | 11 | `….test_strerror` | `dispatcher_tests::test_strerror` | |
//! | 12 | `DispatcherWithSendTests.test_send` | `dispatcher_with_send_tests::test_send` | |
//! | 13 | `FileWrapperTest.test_recv` | `file_wrapper_test::test_recv` | a `FileDispatcher` owns what it is given; who wants to keep theirs gives it a clone |
//! | 14 | `….test_send` | `file_wrapper_test::test_send` | |
//! | 15 | `….test_dispatcher` | `file_wrapper_test::test_dispatcher` | |
//! | 16 | `….test_resource_warning` | `file_wrapper_test::test_resource_warning` | nothing to warn of: what is dropped is closed |
//! | 17 | `….test_close_twice` | `file_wrapper_test::test_close_twice` | |
//! | 18 | `BaseTestAPI.test_handle_connect` | `api::test_handle_connect` | never from within `connect` |
//! | 19 | `….test_handle_accept` | `api::test_handle_accept` | [`Listener::with_handler`]; a spurious readiness is no callback |
//! | 20 | `….test_handle_accepted` | `api::test_handle_accepted` | |
//! | 21 | `….test_handle_read` | `api::test_handle_read` | |
//! | 22 | `….test_handle_write` | `api::test_handle_write` | only for who wants to write |
//! | 23 | `….test_handle_close` | `api::test_handle_close` | without a `recv` |
//! | 24 | `….test_handle_close_after_conn_broken` | `api::test_handle_close_after_conn_broken` | |
//! | 25 | `….test_handle_expt` | `api::test_handle_expt` | not over Unix sockets, as in Python: they have no urgent data |
//! | 26 | `….test_handle_error` | `api::test_handle_error` | |
//! | 27 | `….test_connection_attributes` | `api::test_connection_attributes` | `accepting` and `connected` are types: [`Listener`] and [`Stream`] |
//! | 28 | `….test_create_socket` | `api::test_create_socket` | |
//! | 29 | `….test_bind` | `api::test_bind` | over Unix sockets too |
//! | 30 | `….test_set_reuse_addr` | `api::test_set_reuse_addr` | always on; over Unix sockets, a path left behind is taken over |
//! | 31 | `….test_quick_connect` | `api::test_quick_connect` | over Unix sockets too, where it is a close |
//!
//! # What is wrong with asyncore
//!
//! | # | asyncore's fault | test |
//! | --- | --- | --- |
//! | 1 | `handle_connect` before it is connected | `fault_01_handle_connect_runs_first_and_connected` |
//! | 2 | a close inside of `handle_connect` is not final | `fault_02_close_in_handle_connect_stops_callbacks` |
//! | 3 | a refused connect is an error, then a close | `fault_03_refused_connect_closes_once_with_its_error` |
//! | 4 | a reset is read, close, write, close | `fault_04_reset_closes_once` |
//! | 5 | events for a descriptor that changed hands | `fault_05_reused_descriptor_gets_no_stale_event` |
//! | 6 | EMFILE, or a faulty `handle_accepted`, ends the listener | `fault_06_listener_survives_emfile_and_failing_handler` |
//! | 7 | a fault in `handle_close` or `handle_error` ends the loop | `fault_07_panic_in_last_callbacks_is_isolated` |
//! | 8 | half-close is close | `fault_08_half_close_is_not_close` |
//! | 9 | an urgent byte spins | `fault_09_urgent_byte_does_not_spin` |
//! | 10 | `create_socket` registers | `fault_10_constructors_register_nothing` |
//! | 11 | (asynchat) | in `asynchat_parity.rs` |
//! | 12 | (asynchat) | in `asynchat_parity.rs` |
//! | 13 | every turn asks everybody; quadratic, unbounded output | `fault_13_only_called_channels_are_queried`, `fault_13_output_is_limited_and_send_never_blocks`, `tells_06_…` for the cost; lines in `asynchat_parity.rs` |
//! | 14 | no timers, wake-up, signals, backpressure; one accept a turn | `fault_14_features_missing_in_asyncore_exist` |
//!
//! # Ten tests that tell
//!
//! | # | what | test |
//! | --- | --- | --- |
//! | 1 | closed means silent | `acceptance_01_close_stops_callbacks` |
//! | 2 | a descriptor that changes hands within a batch | `acceptance_02_reused_slot_gets_only_its_own_events` |
//! | 3 | refused, and connected with data there already | `acceptance_03_refusal_is_reported_and_connect_precedes_read` |
//! | 4 | a storm at the limit of descriptors | `acceptance_04_client_is_served_after_storm_at_descriptor_limit` |
//! | 5 | a panic in each callback | `acceptance_05_panic_leaves_other_channels_served` |
//! | 6 | twice the output, twice the time | `acceptance_06_cost_is_linear_in_output` |
//! | 7 | 20 MB, half-closed | `acceptance_07_half_closed_peer_receives_all_20_mb` |
//! | 8 | a second of nothing | `acceptance_08_idle_second_has_at_most_five_waits` |
//! | 9 | 10,000 idle ones, and a flood | `acceptance_09_ten_thousand_idle_channels_cost_nothing`, `acceptance_09_flood_delays_others_by_one_budget_and_timers_fire` |
//! | 10 | posts, and stops | `acceptance_10_posts_run_in_order_and_wake_and_stop_the_loop` |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

mod parity;

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;
use reactor::signal::{self, Signals};
use reactor::{
    Cause, CloseReason, Context, Dispatcher, FileDispatcher, Io, Limits, Listener, Protocol,
    Reactor, Stream, TimerId, Token,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{SockRef, Socket};

use crate::parity::common::{
    Call, DEADLINE, Echo, Log, Probe, pattern, run, run_with, turn_all, turn_until,
};
use crate::parity::{
    Both, Family, Place, Spam, alone, connect, least_cost, listen, over, pair, peer, record,
    recorded, reset, skipped, tcp_pair, waits_in,
};

/// One read, and so what a flood may delay others by.
const BUDGET: usize = 64 * 1024;

/// More by far than any kernel takes at once, to be made only once.
static TWENTY_MB: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(20_000_000));

type React = Box<dyn FnMut(&mut Context) -> io::Result<()>>;

/// A dispatcher that writes down each callback, then does what the test says.
struct Raw {
    source: Socket,
    readable: bool,
    writable: bool,
    log: Log,
    react: React,
}

impl Raw {
    fn call(&mut self, what: &str, cx: &mut Context) -> io::Result<()> {
        self.log.note(what);
        (self.react)(cx)
    }
}

impl Dispatcher for Raw {
    fn source(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
    fn readable(&self) -> bool {
        self.readable
    }
    fn writable(&self) -> bool {
        self.writable
    }
    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        self.call("read", cx)
    }
    fn handle_write(&mut self, cx: &mut Context) -> io::Result<()> {
        self.call("write", cx)
    }
    fn handle_expt(&mut self, cx: &mut Context) -> io::Result<()> {
        // Else it would be told again; and what is told is counted.
        let _ =
            SockRef::from(&self.source).recv_out_of_band(&mut [std::mem::MaybeUninit::uninit()]);
        self.call("expt", cx)
    }
    fn handle_hangup(&mut self, cx: &mut Context) -> io::Result<()> {
        self.call("hangup", cx)
    }
    fn handle_error(&mut self, _: &mut Context, cause: &Cause) {
        self.log.note(format!("error: {cause}"));
    }
    fn handle_close(&mut self, _: &mut Context, reason: &CloseReason) {
        self.log.note(format!("close: {reason}"));
    }
}

/// Whether it is the user's very own error.
fn is_spam(error: &io::Error) -> bool {
    error.get_ref().and_then(|error| error.downcast_ref()) == Some(&Spam)
}

/// What poll(2) can say of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    In,
    Pri,
    Out,
    Err,
    Hup,
}

impl Flag {
    const ALL: [Flag; 5] = [Flag::In, Flag::Pri, Flag::Out, Flag::Err, Flag::Hup];

    fn handler(self) -> &'static str {
        match self {
            Flag::In => "read",
            Flag::Pri => "expt",
            Flag::Out => "write",
            Flag::Err | Flag::Hup => "hangup",
        }
    }

    /// A dispatcher of which poll(2) says this and nothing else, with its peer
    /// where that is to stay.
    fn ready(
        self,
        log: &Log,
        react: impl FnMut(&mut Context) -> io::Result<()> + 'static,
    ) -> (Raw, Option<Socket>) {
        let (source, mut theirs) =
            if matches!(self, Flag::Pri | Flag::Err) { tcp_pair() } else { pair() };
        source.set_nonblocking(true).unwrap();
        let theirs = match self {
            Flag::In => {
                theirs.write_all(b"x").unwrap();
                Some(theirs)
            }
            Flag::Pri => {
                theirs.send_out_of_band(b"!").unwrap();
                Some(theirs)
            }
            Flag::Out => Some(theirs),
            Flag::Err => {
                reset(theirs);
                None
            }
            Flag::Hup => None,
        };
        let raw = Raw {
            source,
            readable: matches!(self, Flag::In | Flag::Pri),
            writable: self == Flag::Out,
            log: log.clone(),
            react: Box::new(react),
        };
        (raw, theirs)
    }
}

/// Whoever is called leaves the loop, and stays.
fn check_stop(flag: Flag) {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (raw, _theirs) = flag.ready(&log, |cx| {
        cx.stop();
        Ok(())
    });
    let token = reactor.add(raw).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), [flag.handler()], "{flag:?}: exactly one");
    assert!(reactor.get_mut::<Raw>(token).is_some(), "{flag:?}: it is open");
}

/// Whoever fails hears of it and closes, and the loop goes on to its end.
fn check_failures(flag: Flag) {
    type Fail = fn(&mut Context) -> io::Result<()>;
    let failures: [(Fail, &str); 2] = [
        (|_| Err(io::Error::other(Spam)), "I don't like spam!"),
        (|_| panic!("I don't like spam!"), "a callback panicked: I don't like spam!"),
    ];
    for (fail, said) in failures {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (raw, _theirs) = flag.ready(&log, fail);
        reactor.add(raw).unwrap();
        run(&mut reactor);
        let expected =
            [flag.handler().to_owned(), format!("error: {said}"), format!("close: {said}")];
        assert_eq!(log.lines(), expected, "{flag:?}");
    }
}

mod helper_function_tests {
    use super::*;

    #[test]
    fn test_readwriteexc() {
        for flag in [Flag::In, Flag::Out, Flag::Pri] {
            check_stop(flag);
            check_failures(flag);
        }
    }

    #[test]
    fn test_readwrite() {
        for flag in Flag::ALL {
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            let (raw, _theirs) = flag.ready(&log, |_| Ok(()));
            reactor.add(raw).unwrap();
            turn_until(&mut reactor, |_| !log.lines().is_empty());
            assert_eq!(log.lines(), [flag.handler()], "{flag:?}: exactly one");
            check_stop(flag);
            check_failures(flag);
        }
    }

    /// Ten channels of `reactor`, and who is at their other ends.
    fn ten(reactor: &mut Reactor, log: &Log) -> Vec<Socket> {
        let add = |_| {
            let (ours, theirs) = pair();
            reactor.add(Stream::new(ours, Probe::passive("a", log)).unwrap()).unwrap();
            theirs
        };
        let peers = (0..10).map(add).collect();
        turn_until(reactor, |_| log.count("connect") == 10);
        peers
    }

    fn assert_all_closed(peers: Vec<Socket>, log: &Log) {
        assert_eq!(log.count("a close: shut down"), 10, "{:?}", log.lines());
        for mut peer in peers {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0, "its descriptor is closed");
        }
    }

    #[test]
    fn test_closeall() {
        let (mut reactor, mut other) = (Reactor::new().unwrap(), Reactor::new().unwrap());
        let (log, other_log) = (Log::default(), Log::default());
        let peers = ten(&mut reactor, &log);
        let _others = ten(&mut other, &other_log);
        reactor.close_all();
        assert_all_closed(peers, &log);
        assert!(!reactor.turn(Some(Duration::ZERO)).unwrap(), "nothing is left");
        turn_all(&mut other);
        assert!(!other_log.has("close"), "of another reactor");
    }

    #[test]
    fn test_closeall_default() {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let peers = ten(&mut reactor, &log);
        drop(reactor);
        assert_all_closed(peers, &log);
    }

    /// Keeps what it is told at its end.
    #[derive(Clone, Default)]
    struct Told {
        error: Rc<Cell<bool>>,
        close: Rc<RefCell<Option<CloseReason>>>,
        panics: bool,
    }

    impl Told {
        fn is_spam(cause: &Cause) -> bool {
            match cause {
                Cause::Error(error) => is_spam(error),
                Cause::Panicked(message) => **message == *"I don't like spam!",
                _ => false,
            }
        }
    }

    impl Protocol for Told {
        fn handle_connect(&mut self, _: &mut Io<'_>) -> io::Result<()> {
            assert!(!self.panics, "{Spam}");
            Err(io::Error::other(Spam))
        }
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            unreachable!("it is closed")
        }
        fn handle_error(&mut self, _: &mut Io<'_>, cause: &Cause) {
            self.error.set(Self::is_spam(cause));
        }
        fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
            assert!(!io.context().is_draining());
            let cause = match &reason.cause {
                Cause::Panicked(message) => Cause::Panicked(message.clone()),
                // The reason is lent: who wants it longer says what it was.
                cause if Self::is_spam(cause) => Cause::Error(io::Error::other(Spam)),
                _ => Cause::Local,
            };
            *self.close.borrow_mut() = Some(CloseReason { cause, unsent: reason.unsent });
        }
    }

    #[test]
    fn test_compact_traceback() {
        for panics in [false, true] {
            let mut reactor = Reactor::new().unwrap();
            let told = Told { panics, ..Told::default() };
            let (ours, _theirs) = pair();
            reactor.add(Stream::new(ours, told.clone()).unwrap()).unwrap();
            run(&mut reactor);
            assert!(told.error.get(), "the error itself, or the message");
            let reason = told.close.take().unwrap();
            assert!(Told::is_spam(&reason.cause), "{reason}");
            assert_eq!(matches!(reason.cause, Cause::Panicked(_)), panics);
            assert!(reason.to_string().ends_with("I don't like spam!"), "{reason}");
        }
    }
}

mod dispatcher_tests {
    use super::*;

    /// A dispatcher, and a protocol, of which nothing was written that need not
    /// be.
    struct Bare(Socket);

    impl Dispatcher for Bare {
        fn source(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Protocol for Bare {
        fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            Err(io::Error::other(String::from_utf8_lossy(data)))
        }
    }

    #[test]
    fn test_basic() {
        let mut bare = Bare(pair().0);
        assert!(Dispatcher::readable(&bare));
        assert!(!Dispatcher::writable(&bare), "asyncore's yes kept a processor busy");
        assert!(Protocol::readable(&bare));
        assert!(!Protocol::writable(&bare));
        assert_eq!(bare.update_deadline(Instant::now()), None);
        assert!(bare.poll_close().is_none());
        assert_eq!(Dispatcher::unsent(&bare), 0);
        assert!(!bare.is_background());
    }

    #[test]
    fn test_repr() {
        let mut reactor = Reactor::new().unwrap();
        let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
        let at = listener.local_addr().to_string();
        let stream = Stream::connect(&at, Echo).unwrap();
        for (name, repr) in
            [("Listener", format!("{listener:?}")), ("Stream", format!("{stream:?}"))]
        {
            assert!(repr.starts_with(name) && repr.contains(&at), "{repr}");
        }
        let (first, second) = (reactor.add(listener).unwrap(), reactor.add(stream).unwrap());
        assert_ne!(format!("{first:?}"), format!("{second:?}"));
        assert!(format!("{reactor:?}").starts_with("Reactor { channels: 2"), "{reactor:?}");
    }

    /// A channel that is sent `line`, and fails with it.
    fn fails(reactor: &mut Reactor, line: &str) -> String {
        let (ours, mut theirs) = tcp_pair();
        let stream = Stream::new(ours, Bare(pair().0)).unwrap();
        let name = stream.peer_addr().to_string();
        reactor.add(stream).unwrap();
        theirs.write_all(line.as_bytes()).unwrap();
        run(reactor);
        name
    }

    #[test]
    fn test_log() {
        let mut reactor = Reactor::new().unwrap();
        record();
        let lines = ["Lovely spam! Wonderful spam!", "I don't like spam!"];
        let expected = lines.map(|line| format!("{}: {line}", fails(&mut reactor, line)));
        assert_eq!(recorded(Level::Warn), expected, "as it is, by whom, and in order");
    }

    #[test]
    fn test_log_info() {
        let mut reactor = Reactor::new().unwrap();
        record();
        // A refused connection: a warning.
        let listener =
            Listener::bind("127.0.0.1:0", |_| Err::<Echo, _>(io::Error::other("no spam for you")))
                .unwrap();
        let at = listener.local_addr().clone();
        let listener = reactor.add(listener).unwrap();
        let client = peer(&at);
        turn_until(&mut reactor, |_| !recorded(Level::Warn).is_empty());
        let warnings = recorded(Level::Warn);
        assert!(warnings[0].starts_with(&format!("{at}: refused a connection")), "{warnings:?}");
        assert!(warnings[0].ends_with("no spam for you"), "{warnings:?}");
        drop(client);
        reactor.context().close(listener);

        // A conversation that ends in good order: for who looks for it.
        let (ours, theirs) = tcp_pair();
        let stream = Stream::new(ours, Echo).unwrap();
        let name = stream.peer_addr().to_string();
        reactor.add(stream).unwrap();
        drop(theirs);
        run(&mut reactor);
        let ends = recorded(Level::Debug);
        assert!(ends.contains(&format!("{name}: closed by the peer")), "{ends:?}");

        // What the operator asked for: information.
        reactor.context().drain(DEADLINE);
        run(&mut reactor);
        let informed = recorded(Level::Info);
        assert_eq!(informed, [format!("draining 0 channels, for {DEADLINE:?} at most")]);

        // A fault that is nobody's: an error.
        reactor.context().call_later(Duration::ZERO, |_| panic!("I don't like spam!"));
        run(&mut reactor);
        let errors = recorded(Level::Error);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with("I don't like spam!"), "{errors:?}");
        let warnings = recorded(Level::Warn);
        let refused = |line: &String| line.starts_with(&at.to_string()) && line.contains("refused");
        assert!(warnings.iter().all(refused), "nothing else is worth one: {warnings:?}");
    }

    #[test]
    fn test_unhandled() {
        /// One that also wants to write.
        struct Writing(Socket);
        impl Dispatcher for Writing {
            fn source(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
            fn writable(&self) -> bool {
                true
            }
        }

        // Each warns once and ends: asyncore's went on, as fast as it could.
        for (flag, what) in [(Flag::Pri, "urgent data"), (Flag::In, "read"), (Flag::Out, "write")] {
            let mut reactor = Reactor::new().unwrap();
            record();
            let (raw, _theirs) = flag.ready(&Log::default(), |_| Ok(()));
            match flag {
                Flag::Out => reactor.add(Writing(raw.source)).unwrap(),
                _ => reactor.add(Bare(raw.source)).unwrap(),
            };
            run(&mut reactor);
            let warnings = recorded(Level::Warn);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].ends_with(&format!("unhandled {what} event")), "{warnings:?}");
        }

        // A stream's urgent byte is gone once it was read: no reason to end.
        // And that it is connected is no reason to warn.
        let mut reactor = Reactor::new().unwrap();
        record();
        let (ours, theirs) = tcp_pair();
        let stream = Stream::new(ours, Echo).unwrap();
        let name = stream.peer_addr().to_string();
        let token = reactor.add(stream).unwrap();
        turn_all(&mut reactor);
        assert!(recorded(Level::Warn).is_empty(), "{:?}", recorded(Level::Warn));
        theirs.send_out_of_band(b"!").unwrap();
        turn_until(&mut reactor, |_| !recorded(Level::Warn).is_empty());
        turn_all(&mut reactor);
        assert_eq!(recorded(Level::Warn), [format!("{name}: unhandled urgent byte 0x21")]);
        assert!(reactor.get_mut::<Stream<Echo>>(token).is_some());
    }

    #[test]
    fn test_strerror() {
        let say = |code| Cause::Error(io::Error::from_raw_os_error(code)).to_string();
        let eperm = rustix::io::Errno::PERM.raw_os_error();
        assert!(say(eperm).starts_with("Operation not permitted"), "{}", say(eperm));
        assert!(!say(-1).is_empty());
        let reason =
            CloseReason { cause: Cause::Error(io::Error::from_raw_os_error(eperm)), unsent: 2 };
        assert_eq!(reason.to_string(), format!("{}, 2 bytes unsent", say(eperm)));
    }
}

mod dispatcher_with_send_tests {
    use super::*;

    /// Never reads.
    struct NoRead(Log);

    impl Protocol for NoRead {
        fn readable(&self) -> bool {
            false
        }
        fn handle_connect(&mut self, _: &mut Io<'_>) -> io::Result<()> {
            self.0.note("connect");
            Ok(())
        }
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            unreachable!("it does not want to")
        }
    }

    #[test]
    fn test_send() {
        const DATA: &[u8] = b"Suppose there isn't a 16-ton weight?";
        let (listener, at) = Place::new(Family::Ipv4).unwrap().listening();
        // Whether it is connected by then, or only on its way.
        for connected in [true, false] {
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            let token = reactor.add(connect(&at, NoRead(log.clone())).unwrap()).unwrap();
            if connected {
                turn_until(&mut reactor, |_| log.has("connect"));
            }
            let stream = reactor.get_mut::<Stream<NoRead>>(token).unwrap();
            for data in [DATA, DATA, b"\n"] {
                stream.send(data).unwrap();
            }
            let (peer, _) = listener.accept().unwrap();
            parity::patient(&peer);
            let came = run_with(&mut reactor, move || {
                let mut came = vec![0; 2 * DATA.len() + 1];
                (&peer).read_exact(&mut came).unwrap();
                came
            });
            assert_eq!(came, [DATA, DATA, b"\n"].concat());
        }
    }
}

mod file_wrapper_test {
    use super::*;

    const CONTENTS: &[u8] = b"It's not dead, it's sleeping!";

    /// A file with these contents, in a directory that goes with it.
    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, CONTENTS).unwrap();
        (directory, path)
    }

    /// Reads a file to its end.
    #[derive(Clone, Default)]
    struct Reader(Rc<RefCell<Vec<u8>>>, Log);

    impl Protocol for Reader {
        fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            self.0.borrow_mut().extend(data);
            Ok(())
        }
        fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
            self.1.note(format!("close: {reason}"));
        }
    }

    #[test]
    fn test_recv() {
        let (_directory, path) = file();
        let mut kept = File::open(path).unwrap();
        let clone = kept.try_clone().unwrap();
        let mut reactor = Reactor::new().unwrap();
        let reader = Reader::default();
        let token = reactor.add(FileDispatcher::from_fd(clone, reader.clone()).unwrap()).unwrap();
        run(&mut reactor);
        assert_eq!(*reader.0.borrow(), CONTENTS);
        // Closed is gone; and the one that was kept is as good as before.
        assert!(reactor.get_mut::<FileDispatcher<Reader>>(token).is_none());
        kept.rewind().unwrap();
        assert_eq!(io::read_to_string(kept).unwrap().as_bytes(), CONTENTS);

        // The other way round: what was given stays, whoever drops theirs.
        let (_directory, path) = file();
        let ours = File::open(path).unwrap();
        let dispatcher =
            FileDispatcher::from_fd(ours.try_clone().unwrap(), reader.clone()).unwrap();
        drop(ours);
        reader.0.take();
        reactor.add(dispatcher).unwrap();
        run(&mut reactor);
        assert_eq!(*reader.0.borrow(), CONTENTS);
    }

    #[test]
    fn test_send() {
        let (_directory, path) = file();
        let (first, second) = (b"Come again?", b"I want to buy some cheese.");
        let file = File::options().append(true).open(&path).unwrap();
        let mut dispatcher = FileDispatcher::from_fd(file, Reader::default()).unwrap();
        dispatcher.send(first).unwrap();
        dispatcher.send(second).unwrap();
        dispatcher.close();
        let mut reactor = Reactor::new().unwrap();
        reactor.add(dispatcher).unwrap();
        run(&mut reactor);
        assert_eq!(fs::read(path).unwrap(), [CONTENTS, first, second].concat());
    }

    #[test]
    fn test_dispatcher() {
        let (_directory, path) = file();
        let reader = Reader::default();
        let mut reactor = Reactor::new().unwrap();
        let file = File::open(path).unwrap();
        reactor.add(FileDispatcher::from_fd(file, reader.clone()).unwrap()).unwrap();
        // The data, then the end: a file that is always ready keeps no loop.
        assert!(!reactor.run_turns(3).unwrap(), "{:?}", reader.1.lines());
        assert_eq!(*reader.0.borrow(), CONTENTS);
        assert_eq!(reader.1.lines(), ["close: closed by the peer"]);
    }

    #[test]
    fn test_resource_warning() {
        // Never added; and added to a reactor that goes.
        for added in [false, true] {
            let (reader, mut writer) = io::pipe().unwrap();
            let dispatcher = FileDispatcher::from_fd(reader, Reader::default()).unwrap();
            let mut reactor = Reactor::new().unwrap();
            writer.write_all(b"somebody reads").unwrap();
            if added {
                reactor.add(dispatcher).unwrap();
            } else {
                drop(dispatcher);
            }
            drop(reactor);
            let error = writer.write_all(b"nobody does").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn test_close_twice() {
        let (_directory, path) = file();
        let mut reactor = Reactor::new().unwrap();
        let reader = Reader::default();
        let file = File::options().append(true).open(path).unwrap();
        let mut dispatcher = FileDispatcher::from_fd(file, reader.clone()).unwrap();
        dispatcher.close();
        dispatcher.close();
        let error = dispatcher.send(b"more").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected, "closed is an error");
        let token = reactor.add(dispatcher).unwrap();
        reactor.context().close(token);
        reactor.context().close(token);
        run(&mut reactor);
        reactor.context().close(token);
        reactor.close_all();
        turn_all(&mut reactor);
        assert_eq!(reader.1.lines(), ["close: closed"], "told once");
    }
}

/// What Python's `BaseTestAPI` has, over each kind of socket.
mod api {
    use super::*;

    pub(super) fn test_handle_connect(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (_listener, at) = place.listening();
        reactor.add(connect(&at, Probe::passive("client", &log)).unwrap()).unwrap();
        // A Unix connection is there at once: asyncore called back right then.
        assert!(log.lines().is_empty(), "only from within the loop");
        turn_until(&mut reactor, |_| log.has("connect"));
        turn_all(&mut reactor);
        assert_eq!(log.lines(), ["client connect"]);
    }

    pub(super) fn test_handle_accept(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (socket, at) = place.listening();
        let accepted = log.clone();
        let mut listener = Listener::with_handler(socket, move |_, socket, _| {
            accepted.note("accept");
            // Ours to keep, or to drop.
            drop(socket);
            Ok(())
        })
        .unwrap();
        listener.handle_read(reactor.context()).unwrap();
        assert!(log.lines().is_empty(), "nobody is there: a spurious readiness");
        reactor.add(listener).unwrap();
        let mut client = peer(&at);
        turn_until(&mut reactor, |_| log.has("accept"));
        turn_all(&mut reactor);
        assert_eq!(log.lines(), ["accept"]);
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "it was dropped");
    }

    pub(super) fn test_handle_accepted(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let (log, served) = (Log::default(), Log::default());
        let (accepted, serving) = (log.clone(), served.clone());
        let listener = place.listener(move |peer| {
            accepted.note(format!("accepted {peer}"));
            // The first one is not welcome.
            match accepted.count("accepted") {
                1 => Err(io::Error::other("not you")),
                _ => Ok(Probe::passive("server", &serving)),
            }
        });
        let at = listener.local_addr().clone();
        let token = reactor.add(listener).unwrap();
        for count in [1, 2] {
            let mut client = peer(&at);
            let name = reactor::Address::from_sock(&client.local_addr().unwrap());
            turn_until(&mut reactor, |_| log.count("accepted") == count);
            turn_all(&mut reactor);
            assert_eq!(log.lines().last().unwrap(), &format!("accepted {name}"));
            if count == 1 {
                assert_eq!(client.read(&mut [0]).unwrap(), 0, "refused");
                assert!(served.lines().is_empty());
            }
        }
        assert_eq!(served.count("server connect"), 1);
        assert_eq!(reactor.get_mut::<Listener>(token).unwrap().refused(), 1);
    }

    pub(super) fn test_handle_read(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let listener = place.listener(|_| {
            Ok(Probe::new("server", &Log::default(), |call, io| match call {
                Call::Connect => io.send(&pattern(1024)),
                _ => Ok(()),
            }))
        });
        let at = listener.local_addr().clone();
        reactor.add(listener).unwrap();
        let came: Rc<RefCell<Vec<u8>>> = Rc::default();
        let client = {
            let came = Rc::clone(&came);
            Probe::new("client", &Log::default(), move |call, _| {
                if let Call::Read(data) = call {
                    assert!(!data.is_empty());
                    came.borrow_mut().extend(data);
                }
                Ok(())
            })
        };
        reactor.add(connect(&at, client).unwrap()).unwrap();
        turn_until(&mut reactor, |_| came.borrow().len() >= 1024);
        assert_eq!(*came.borrow(), pattern(1024));
    }

    pub(super) fn test_handle_write(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (_listener, at) = place.listening();
        for (name, wants) in [("silent", false), ("client", true)] {
            let mut probe = Probe::passive(name, &log);
            probe.writable = wants;
            reactor.add(connect(&at, probe).unwrap()).unwrap();
        }
        turn_until(&mut reactor, |_| log.count("client write") > 2 && log.has("silent connect"));
        assert!(!log.has("silent write"), "it never wanted to");
    }

    pub(super) fn test_handle_close(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let listener = place.listener(|_| {
            Ok(Probe::new("server", &Log::default(), |_, io: &mut Io<'_>| {
                io.close();
                Ok(())
            }))
        });
        let at = listener.local_addr().clone();
        reactor.add(listener).unwrap();
        reactor.add(connect(&at, Probe::passive("client", &log)).unwrap()).unwrap();
        turn_until(&mut reactor, |_| log.has("close"));
        turn_all(&mut reactor);
        assert_eq!(
            log.lines(),
            ["client connect", "client eof", "client close: closed by the peer"]
        );
    }

    /// Writes on and on, and reads nothing: only a write can tell it.
    struct Deaf(Log, Rc<Cell<Option<ErrorKind>>>);

    impl Protocol for Deaf {
        fn readable(&self) -> bool {
            false
        }
        fn writable(&self) -> bool {
            true
        }
        fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            io.send(&[0; 128])
        }
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            unreachable!("it does not want to")
        }
        fn handle_error(&mut self, _: &mut Io<'_>, cause: &Cause) {
            self.0.note(format!("error: {cause}"));
        }
        fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
            self.0.note("close");
            if let Cause::Error(error) = &reason.cause {
                self.1.set(Some(error.kind()));
            }
        }
    }

    pub(super) fn test_handle_close_after_conn_broken(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let listener = place.listener(|_| {
            Ok(Probe::new("server", &Log::default(), |call, io| {
                if matches!(call, Call::Read(_)) {
                    io.abort();
                }
                Ok(())
            }))
        });
        let at = listener.local_addr().clone();
        reactor.add(listener).unwrap();
        let kind = Rc::default();
        reactor.add(connect(&at, Deaf(log.clone(), Rc::clone(&kind))).unwrap()).unwrap();
        turn_until(&mut reactor, |_| log.has("close"));
        turn_all(&mut reactor);
        assert_eq!(log.lines(), ["close"], "no error: connections end like that");
        let kind = kind.get();
        let broken = [Some(ErrorKind::ConnectionReset), Some(ErrorKind::BrokenPipe)];
        assert!(broken.contains(&kind), "{kind:?}");
    }

    pub(super) fn test_handle_expt(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (listener, at) = place.listening();
        reactor.add(connect(&at, Probe::passive("client", &log)).unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.send_out_of_band(&[244]).unwrap();
        turn_until(&mut reactor, |_| log.has("expt"));
        server.write_all(b"and on").unwrap();
        turn_until(&mut reactor, |_| log.has("read"));
        assert_eq!(log.lines(), ["client connect", "client expt 244", "client read 6"]);
    }

    /// Fails when it writes: with an error of its own, or a panic.
    struct Faulty(Log, bool);

    impl Protocol for Faulty {
        fn writable(&self) -> bool {
            true
        }
        fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            if self.1 {
                return io.send(&[1 / std::hint::black_box(0)]);
            }
            Err(io::Error::other(Spam))
        }
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn handle_error(&mut self, _: &mut Io<'_>, cause: &Cause) {
            let what = match cause {
                Cause::Error(error) if is_spam(error) => "spam",
                Cause::Panicked(message) => message,
                _ => "something else",
            };
            self.0.note(format!("error: {what}"));
        }
        fn handle_close(&mut self, _: &mut Io<'_>, _: &CloseReason) {
            self.0.note("close");
        }
    }

    pub(super) fn test_handle_error(place: &Place) {
        let (_listener, at) = place.listening();
        for (panics, what) in [(true, "attempt to divide by zero"), (false, "spam")] {
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            reactor.add(connect(&at, Faulty(log.clone(), panics)).unwrap()).unwrap();
            run(&mut reactor);
            assert_eq!(log.lines(), [format!("error: {what}"), "close".to_owned()]);
        }
    }

    pub(super) fn test_connection_attributes(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (serving, peers) = (log.clone(), Log::default());
        let accepted = peers.clone();
        let listener = place.listener(move |peer| {
            accepted.note(peer.to_string());
            Ok(Probe::passive("server", &serving))
        });
        let at = listener.local_addr().clone();
        let accepting = reactor.add(listener).unwrap();
        let client = connect(&at, Probe::passive("client", &log)).unwrap();
        // Whether it is connected is not known yet; where to, it is.
        assert_eq!(client.peer_addr(), at);
        let connected = reactor.add(client).unwrap();

        turn_until(&mut reactor, |_| log.count("connect") == 2);
        assert!(reactor.get_mut::<Stream<Probe>>(accepting).is_none(), "it accepts");
        assert_eq!(*reactor.get_mut::<Listener>(accepting).unwrap().local_addr(), at);
        assert!(reactor.get_mut::<Listener>(connected).is_none(), "it is connected");
        let client = reactor.get_mut::<Stream<Probe>>(connected).unwrap();
        assert_eq!(client.peer_addr(), at);
        assert_eq!(peers.lines(), [client.local_addr().unwrap().to_string()]);

        // Disconnect the client.
        client.close();
        turn_until(&mut reactor, |_| log.count("close") == 2);
        assert!(reactor.get_mut::<Stream<Probe>>(connected).is_none());
        assert_eq!(*reactor.get_mut::<Listener>(accepting).unwrap().local_addr(), at);
        let _late = peer(&at);
        turn_until(&mut reactor, |_| log.count("server connect") == 2);

        // Stop serving.
        reactor.context().close(accepting);
        turn_all(&mut reactor);
        assert!(reactor.get_mut::<Listener>(accepting).is_none());
        let nobody = Socket::new(place.domain(), socket2::Type::STREAM, None).unwrap();
        assert!(nobody.connect(&at.to_sock()).is_err());
    }

    fn assert_made_well(source: BorrowedFd<'_>, place: &Place) {
        use rustix::fs::{OFlags, fcntl_getfl};
        use rustix::io::{FdFlags, fcntl_getfd};
        let socket = SockRef::from(&source);
        assert_eq!(socket.r#type().unwrap(), socket2::Type::STREAM);
        assert_eq!(socket.domain().unwrap(), place.domain());
        assert!(fcntl_getfl(source).unwrap().contains(OFlags::NONBLOCK));
        assert!(fcntl_getfd(source).unwrap().contains(FdFlags::CLOEXEC), "not inherited");
    }

    pub(super) fn test_create_socket(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let accepted: Rc<Cell<Option<Token>>> = Rc::default();
        let serving = Rc::clone(&accepted);
        let listener = place.listener(move |_| {
            let serving = Rc::clone(&serving);
            Ok(Probe::new("server", &Log::default(), move |_, io: &mut Io<'_>| {
                serving.set(Some(io.token()));
                Ok(())
            }))
        });
        assert_made_well(listener.source(), place);
        let client = connect(listener.local_addr(), Echo).unwrap();
        assert_made_well(client.source(), place);
        reactor.add(listener).unwrap();
        reactor.add(client).unwrap();
        turn_until(&mut reactor, |_| accepted.get().is_some());
        let server = reactor.get_mut::<Stream<Probe>>(accepted.get().unwrap()).unwrap();
        assert_made_well(server.source(), place);
    }

    pub(super) fn test_bind(place: &Place) {
        let first = place.listener(|_| Ok(Echo));
        let at = first.local_addr().clone();
        assert_ne!(at.as_inet().map(|at| at.port()), Some(0), "a port was taken");
        let error = listen(&at, |_| Ok(Echo)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(first);
        listen(&at, |_| Ok(Echo)).expect("free again");
    }

    pub(super) fn test_set_reuse_addr(place: &Place) {
        if place.family == Family::Unix {
            let (left_behind, at) = place.listening();
            drop(left_behind);
            assert!(matches!(&at, reactor::Address::Unix(Some(path)) if path.exists()));
            listen(&at, |_| Ok(Echo)).expect("nobody listens there");
            return;
        }
        let listener = place.listener(|_| Ok(Echo));
        assert!(SockRef::from(&listener.source()).reuse_address().unwrap());
        if place.family == Family::Ipv6 {
            return;
        }
        // A restart, while a connection of the one before is still there. On an
        // address that no other test uses, so that nobody takes the port in
        // between.
        let mut reactor = Reactor::new().unwrap();
        let listener = Listener::bind("127.0.30.1:0", |_| Ok(Echo)).unwrap();
        let at = listener.local_addr().clone();
        let token = reactor.add(listener).unwrap();
        let client = peer(&at);
        turn_until(&mut reactor, |reactor| reactor.stats().accepted == 1);
        reactor.context().close(token);
        turn_all(&mut reactor);
        assert!(reactor.get_mut::<Listener>(token).is_none());
        let plain = Socket::new(place.domain(), socket2::Type::STREAM, None).unwrap();
        let error = plain.bind(&at.to_sock()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "without the option");
        listen(&at, |_| Ok(Echo)).expect("with it");
        assert!(is_echoed(&mut reactor, client));
    }

    pub(super) fn test_quick_connect(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let serving = log.clone();
        let listener = place.listener(move |_| {
            Ok(Probe::new("server", &serving, |call, io| match call {
                Call::Read(data) => io.send(data),
                Call::Eof => {
                    io.close();
                    Ok(())
                }
                _ => Ok(()),
            }))
        });
        let at = listener.local_addr().clone();
        let token = reactor.add(listener).unwrap();
        // Over before anybody accepted it.
        reset(peer(&at));
        let mut client = peer(&at);
        run_with(&mut reactor, move || {
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
        });
        assert!(reactor.get_mut::<Listener>(token).is_some());
        assert!(!log.has("error:"), "{:?}", log.lines());
        // The system may keep the lost one from us altogether.
        let lost = log.count("server connect") - 1;
        assert!(lost <= 1, "{:?}", log.lines());
        turn_until(&mut reactor, |_| log.count("close") == lost + 1);
        let how = if place.family == Family::Unix { "by the peer" } else { "Connection reset" };
        assert!(log.count(how) >= lost, "{:?}", log.lines());
    }
}

over! { Ipv4 in test_api_use_ipv4_sockets:
    test_handle_connect test_handle_accept test_handle_accepted test_handle_read
    test_handle_write test_handle_close test_handle_close_after_conn_broken test_handle_expt
    test_handle_error test_connection_attributes test_create_socket test_bind
    test_set_reuse_addr test_quick_connect
}

over! { Ipv6 in test_api_use_ipv6_sockets:
    test_handle_connect test_handle_accept test_handle_accepted test_handle_read
    test_handle_write test_handle_close test_handle_close_after_conn_broken test_handle_expt
    test_handle_error test_connection_attributes test_create_socket test_bind
    test_set_reuse_addr test_quick_connect
}

over! { Unix in test_api_use_unix_sockets:
    test_handle_connect test_handle_accept test_handle_accepted test_handle_read
    test_handle_write test_handle_close test_handle_close_after_conn_broken
    test_handle_error test_connection_attributes test_create_socket test_bind
    test_set_reuse_addr test_quick_connect
}

// --- what is wrong with asyncore ---------------------------------------------

/// Every kind of socket that this machine has.
fn places() -> impl Iterator<Item = Place> {
    [Family::Ipv4, Family::Ipv6, Family::Unix].into_iter().filter_map(Place::new)
}

#[test]
fn fault_01_handle_connect_runs_first_and_connected() {
    for place in places() {
        let (listener, at) = place.listening();
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let inside = at.clone();
        let probe = Probe::new("a", &log, move |call, io| {
            match call {
                Call::Connect => {
                    // Everything that takes a connection works here already.
                    assert_eq!(io.peer_addr(), inside);
                    io.send(b"hello")?;
                    assert_eq!(io.unsent(), 0, "it went out at once");
                }
                Call::Eof => io.close(),
                _ => {}
            }
            Ok(())
        });
        reactor.add(connect(&at, probe.writable()).unwrap()).unwrap();
        // All three events are there before the loop looks for the first time.
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"early").unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        run(&mut reactor);
        let lines = log.lines();
        assert_eq!(lines[0], "a connect", "{lines:?}");
        assert_eq!(log.count("connect"), 1, "{lines:?}");
        assert_eq!(log.count("a read 5"), 1, "{lines:?}");
        assert_eq!(lines.last().unwrap(), "a close: closed by the peer", "{lines:?}");
        let mut hello = String::new();
        server.read_to_string(&mut hello).unwrap();
        assert_eq!(hello, "hello");
    }
}

/// The ways in which a callback closes its own stream.
const CLOSES: [fn(&mut Io<'_>); 3] = [
    |io| {
        io.close();
        assert_eq!(io.send(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
    },
    |io| {
        io.abort();
        assert_eq!(io.send(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
    },
    // As any channel can be closed.
    |io| {
        let token = io.token();
        io.context().close(token);
    },
];

#[test]
fn fault_02_close_in_handle_connect_stops_callbacks() {
    for place in places() {
        let (listener, at) = place.listening();
        for close in CLOSES {
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            let probe = Probe::new("a", &log, move |_, io: &mut Io<'_>| {
                close(io);
                Ok(())
            });
            let token = reactor.add(connect(&at, probe.writable()).unwrap()).unwrap();
            let (_server, _) = listener.accept().unwrap();
            run(&mut reactor);
            turn_all(&mut reactor);
            assert_eq!(log.lines(), ["a connect", "a close: closed"]);
            assert!(reactor.get_mut::<Stream<Probe>>(token).is_none());
        }
    }
}

#[test]
fn fault_03_refused_connect_closes_once_with_its_error() {
    for place in places() {
        let (_bound, at) = place.bound();
        let log = Log::default();
        let probe = Probe::passive("a", &log).writable();
        match connect(&at, probe) {
            Ok(stream) => {
                let mut reactor = Reactor::new().unwrap();
                reactor.add(stream).unwrap();
                run(&mut reactor);
                let refused = io::Error::from(rustix::io::Errno::CONNREFUSED);
                assert_eq!(log.lines(), [format!("a close: {refused}")]);
            }
            // A Unix socket knows at once: there never is a channel.
            Err(error) => {
                assert_eq!(place.family, Family::Unix, "{error}");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                assert!(log.lines().is_empty());
            }
        }
    }
}

#[test]
fn fault_04_reset_closes_once() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, theirs) = tcp_pair();
    reactor.add(Stream::new(ours, Probe::passive("a", &log).writable()).unwrap()).unwrap();
    turn_until(&mut reactor, |_| log.has("write"));
    reset(theirs);
    run(&mut reactor);
    turn_all(&mut reactor);
    let lines = log.lines();
    let reset = io::Error::from(rustix::io::Errno::CONNRESET);
    assert_eq!(lines.last().unwrap(), &format!("a close: {reset}"), "{lines:?}");
    assert_eq!(log.count("close"), 1, "{lines:?}");
    assert!(!log.has("error:") && !log.has("read"), "{lines:?}");
}

/// Two channels are ready in one batch. The one that is called first closes the
/// other; before the turn is over a third comes in its place.
struct Exchange {
    /// The one that was closed.
    gone: Token,
    /// The one in its place.
    heir: Token,
    /// The peers: of the two, then of the heir.
    peers: Vec<Socket>,
    /// Whether the heir has the descriptor of the one that is gone.
    same_descriptor: bool,
}

fn exchange(reactor: &mut Reactor, log: &Log) -> Exchange {
    type Heir = Rc<RefCell<Option<(Token, i32, Socket)>>>;
    /// Adds the heir when the descriptor is free: at the end of the turn.
    fn helper(log: &Log, heir: &Heir) -> Probe {
        let (log, heir) = (log.clone(), Rc::clone(heir));
        Probe::new("helper", &Log::default(), move |call, io| {
            if call == Call::Connect {
                let (ours, theirs) = pair();
                let number = ours.as_raw_fd();
                let token = io.context().add(Stream::new(ours, Probe::passive("heir", &log))?)?;
                *heir.borrow_mut() = Some((token, number, theirs));
                io.close();
            }
            Ok(())
        })
    }

    let heir = Heir::default();
    // Each with the number of its descriptor.
    let rivals = Rc::<Cell<Option<[(Token, i32); 2]>>>::default();
    let gone = Rc::<Cell<Option<(Token, i32)>>>::default();
    let mut peers = Vec::new();
    let mut add = || {
        let (ours, mut theirs) = pair();
        let number = ours.as_raw_fd();
        theirs.write_all(b"x").unwrap();
        peers.push(theirs);
        let (rivals, gone) = (Rc::clone(&rivals), Rc::clone(&gone));
        let (heirs_log, heir) = (log.clone(), Rc::clone(&heir));
        let rival = Probe::new("rival", log, move |call, io| {
            if matches!(call, Call::Read(_)) {
                let [a, b] = rivals.get().unwrap();
                let other = if io.token() == a.0 { b } else { a };
                gone.set(Some(other));
                let (ours, _) = pair();
                let helper = Stream::new(ours, helper(&heirs_log, &heir))?;
                io.context().close(other.0);
                io.context().add(helper)?;
            }
            Ok(())
        });
        (reactor.add(Stream::new(ours, rival).unwrap()).unwrap(), number)
    };
    rivals.set(Some([add(), add()]));
    reactor.turn(Some(DEADLINE)).unwrap();
    let (gone, number) = gone.get().expect("both were ready");
    let (heir, heirs_number, theirs) = heir.take().expect("in the same turn");
    peers.push(theirs);
    Exchange { gone, heir, peers, same_descriptor: number == heirs_number }
}

#[test]
fn fault_05_reused_descriptor_gets_no_stale_event() {
    // Descriptor numbers are the process's.
    alone("fault_05_reused_descriptor_gets_no_stale_event", || {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        for round in 1..=200 {
            let exchanged = exchange(&mut reactor, &log);
            assert!(exchanged.same_descriptor, "it is about the same one");
            turn_all(&mut reactor);
            assert_eq!(log.count("rival read"), round, "{:?}", log.lines());
            assert_eq!(log.count("heir connect"), round);
            assert!(!log.has("heir read") && !log.has("heir eof"), "{:?}", log.lines());
            reactor.close_all();
        }
    });
}

/// Leaves this process no descriptor, until it is dropped.
struct Shortage(Rlimit);

impl Shortage {
    fn begin() -> Self {
        let before = getrlimit(Resource::Nofile);
        // The lowest that is free: all below it are taken.
        let next = File::open("/dev/null").unwrap().as_raw_fd();
        let tight = Rlimit { current: Some(next.try_into().unwrap()), ..before };
        setrlimit(Resource::Nofile, tight).unwrap();
        Shortage(before)
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).unwrap();
    }
}

/// Whether `client` is sent back what it sends; not, where it is closed.
fn is_echoed(reactor: &mut Reactor, mut client: Socket) -> bool {
    run_with(reactor, move || {
        client.write_all(b"hello").unwrap();
        let mut echo = [0; 5];
        client.read_exact(&mut echo).is_ok_and(|()| &echo == b"hello")
    })
}

#[test]
fn fault_06_listener_survives_emfile_and_failing_handler() {
    alone("fault_06_listener_survives_emfile_and_failing_handler", || {
        let mut reactor = Reactor::new().unwrap();
        let mut count = 0;
        let listener = Listener::bind("127.0.0.1:0", move |_| {
            count += 1;
            match count {
                2 => panic!("a panic in handle_accepted"),
                3 => Err(io::Error::other(Spam)),
                _ => Ok(Echo),
            }
        })
        .unwrap();
        let at = listener.local_addr().clone();
        let token = reactor.add(listener).unwrap();

        let client = peer(&at);
        let shortage = Shortage::begin();
        assert!(File::open("/dev/null").is_err(), "there is none left");
        turn_until(&mut reactor, |reactor| reactor.stats().accept_pauses > 0);
        assert_eq!(reactor.stats().accepted, 0);
        assert!(reactor.get_mut::<Listener>(token).is_some(), "it survives that");
        drop(shortage);
        assert!(is_echoed(&mut reactor, client), "and serves who waited");

        for echoed in [false, false, true] {
            assert_eq!(is_echoed(&mut reactor, peer(&at)), echoed);
        }
        assert_eq!(reactor.get_mut::<Listener>(token).unwrap().refused(), 2);
    });
}

#[test]
fn fault_07_panic_in_last_callbacks_is_isolated() {
    struct Doomed(&'static str, Log);
    impl Protocol for Doomed {
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            Err(io::Error::other(Spam))
        }
        fn handle_error(&mut self, _: &mut Io<'_>, cause: &Cause) {
            self.1.note(format!("error: {cause}"));
            assert_ne!(self.0, "error", "a panic");
        }
        fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
            self.1.note(format!("close: {reason}"));
            assert_ne!(self.0, "close", "a panic");
        }
    }
    for within in ["error", "close"] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (ours, mut theirs) = pair();
        reactor.add(Stream::new(ours, Doomed(within, log.clone())).unwrap()).unwrap();
        let (ours, neighbour) = pair();
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
        theirs.write_all(b"x").unwrap();
        turn_until(&mut reactor, |_| log.has("close"));
        assert_eq!(log.lines(), [format!("error: {Spam}"), format!("close: {Spam}")]);
        assert!(is_echoed(&mut reactor, neighbour));
        run(&mut reactor); // nothing is left
    }
}

#[test]
fn fault_08_half_close_is_not_close() {
    /// Sends all that at once; the rest is as it comes.
    struct Sends(Log);
    impl Protocol for Sends {
        fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            io.send(&TWENTY_MB)?;
            assert!(io.unsent() > 0, "it has to wait for room");
            Ok(())
        }
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            unreachable!("nothing is sent to it")
        }
        fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
            self.0.note(format!("close: {reason}"));
        }
    }

    // With the default cap the end is read only when most of it has gone; with
    // none, while all of it waits.
    let caps = [Limits::default().high_water, usize::MAX];
    let all = places().map(Rc::new).flat_map(|place| caps.map(|cap| (Rc::clone(&place), cap)));
    for (place, high_water) in all {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let serving = log.clone();
        let limits = Limits { high_water, ..Limits::default() };
        let listener = place.listener(move |_| Ok(Sends(serving.clone()))).with_limits(limits);
        let at = listener.local_addr().clone();
        reactor.add(listener).unwrap();
        let client = peer(&at);
        client.shutdown(Shutdown::Write).unwrap();
        // The end has come before anything was read.
        turn_until(&mut reactor, |reactor| reactor.stats().accepted == 1);
        turn_all(&mut reactor);
        let same = run_with(&mut reactor, move || {
            let mut came = Vec::new();
            (&client).read_to_end(&mut came).unwrap();
            came == *TWENTY_MB
        });
        assert!(same, "all that waited came");
        turn_until(&mut reactor, |_| log.has("close"));
        assert_eq!(log.lines(), ["close: closed by the peer"]);
    }
}

#[test]
fn fault_09_urgent_byte_does_not_spin() {
    let mut reactor = Reactor::new().unwrap();
    record();
    // The default handler.
    let (ours, theirs) = tcp_pair();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    // One of its own; and one that reads nothing at the moment.
    let log = Log::default();
    let (own, other) = tcp_pair();
    reactor.add(Stream::new(own, Probe::passive("a", &log)).unwrap()).unwrap();
    let (paused, third) = tcp_pair();
    let mut paused = Stream::new(paused, Echo).unwrap();
    paused.pause();
    reactor.add(paused).unwrap();
    for peer in [&theirs, &other, &third] {
        peer.send_out_of_band(b"!").unwrap();
    }
    turn_until(&mut reactor, |_| log.has("expt") && !recorded(Level::Warn).is_empty());
    let waits = waits_in(&mut reactor, Duration::from_millis(200));
    assert!(waits <= 5, "{waits} waits in 200 ms");
    assert_eq!(log.count("a expt 33"), 1, "delivered once: {:?}", log.lines());
    assert_eq!(recorded(Level::Warn).len(), 1, "{:?}", recorded(Level::Warn));
    assert!(is_echoed(&mut reactor, theirs), "ordinary data follows as ever");
}

#[test]
fn fault_10_constructors_register_nothing() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (listener, at) = Place::new(Family::Ipv4).unwrap().listening();
    // Made, and not added: the reactor knows nothing of it, nor it of the end
    // that comes meanwhile.
    let stream = connect(&at, Probe::passive("never added", &log)).unwrap();
    let unconnected = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    reset(listener.accept().unwrap().0);
    assert!(!reactor.run_turns(10).unwrap(), "there is nothing to wait for");
    drop((stream, unconnected));
    assert!(log.lines().is_empty(), "{:?}", log.lines());

    // Added while it is on its way: nothing before it has arrived.
    let (_full, silent, _fillers) = silent();
    let token = reactor.add(connect(&silent, Probe::passive("a", &log).writable()).unwrap());
    let waits = waits_in(&mut reactor, Duration::from_millis(100));
    assert!(waits <= 5, "{waits} waits in 100 ms");
    assert!(log.lines().is_empty(), "{:?}", log.lines());
    reactor.context().close(token.unwrap());
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: closed"]);
}

/// An address that answers to no attempt to connect: a listener that accepts
/// nobody, with its queue filled.
fn silent() -> (Socket, reactor::Address, Vec<Socket>) {
    let (listener, at) = Place::new(Family::Ipv4).unwrap().bound();
    listener.listen(0).unwrap();
    let fill = || {
        let filler = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        // In progress, for ever; or, for the first, connected.
        let _ = filler.connect(&at.to_sock());
        filler
    };
    let fillers = std::iter::repeat_with(fill).take(4).collect();
    (listener, at, fillers)
}

/// Counts how often it was asked, and whether it was called.
struct Asked {
    asked: Rc<Cell<u32>>,
    called: Rc<Cell<u32>>,
}

impl Protocol for Asked {
    fn readable(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        true
    }
    fn writable(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        false
    }
    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        self.called.set(self.called.get() + 1);
        Ok(())
    }
}

/// Fills `reactor` with so many channels that have nothing to do.
fn idle_ones(reactor: &mut Reactor, count: usize) -> (Rc<Cell<u32>>, Rc<Cell<u32>>) {
    let (asked, called) = (Rc::<Cell<u32>>::default(), Rc::<Cell<u32>>::default());
    for _ in 0..count / 2 {
        // Each is the other's peer.
        let (one, other) = pair();
        for socket in [one, other] {
            let idle = Asked { asked: Rc::clone(&asked), called: Rc::clone(&called) };
            reactor.add(Stream::new(socket, idle).unwrap()).unwrap();
        }
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    while reactor.next_deadline().is_some_and(|at| at <= reactor.context().now()) {
        // They are more than are settled in one turn.
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    (asked, called)
}

/// So many messages there and back over one stream, all on this thread.
fn echo(reactor: &mut Reactor, client: &Socket, rounds: u32) {
    for round in 0..rounds {
        let mut message = round.to_be_bytes();
        (&*client).write_all(&message).unwrap();
        let received = reactor.stats().received;
        // Unix sockets: what was written is there to be read.
        while reactor.stats().received == received {
            reactor.turn(Some(DEADLINE)).unwrap();
        }
        (&*client).read_exact(&mut message).unwrap();
        assert_eq!(message, round.to_be_bytes());
    }
}

#[test]
fn fault_13_only_called_channels_are_queried() {
    let mut reactor = Reactor::new().unwrap();
    let (asked, called) = idle_ones(&mut reactor, 100);
    let (ours, theirs) = pair();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    echo(&mut reactor, &theirs, 1);
    let (before, callbacks) = (asked.get(), reactor.stats().callbacks);
    assert!(before >= 100, "when they were added they were");
    echo(&mut reactor, &theirs, 200);
    assert_eq!(asked.get(), before, "asked in 200 turns that were not about them");
    assert_eq!(called.get(), 0);
    assert_eq!(reactor.stats().callbacks - callbacks, 200, "one for each message");
}

#[test]
fn fault_13_output_is_limited_and_send_never_blocks() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = pair();
    let mut stream = Stream::new(ours, Echo).unwrap();
    let message = pattern(4096);
    let mut accepted = 0;
    let error = loop {
        match stream.send(&message) {
            Ok(()) => accepted += message.len(),
            Err(error) => break error,
        }
        assert!(accepted < 100_000_000, "no cap in sight");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let high_water = Limits::default().high_water;
    assert!((high_water..high_water + message.len()).contains(&stream.unsent()));
    // What was accepted before that comes, and nothing of what was not.
    stream.close();
    reactor.add(stream).unwrap();
    let came = run_with(&mut reactor, move || {
        let mut came = Vec::new();
        (&theirs).read_to_end(&mut came).unwrap();
        came
    });
    assert_eq!(came.len(), accepted);
    assert!(came.chunks(message.len()).all(|chunk| chunk == message));
}

#[test]
fn fault_14_features_missing_in_asyncore_exist() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();

    // Timers.
    let timed = log.clone();
    reactor.context().call_later(Duration::from_millis(1), move |_| timed.note("timer"));
    run(&mut reactor);

    // Many accepted in a turn.
    let place = Place::new(Family::Unix).unwrap();
    let listener = place.listener(|_| Ok(Echo));
    let at = listener.local_addr().clone();
    reactor.add(listener).unwrap();
    let clients: Vec<_> = (0..10).map(|_| peer(&at)).collect();
    reactor.turn(Some(DEADLINE)).unwrap();
    assert_eq!(reactor.stats().accepted, 10, "in one turn");
    drop(clients);

    // A wake-up from another thread.
    let handle = reactor.handle();
    let (told, tell) = mpsc::channel();
    run_with(&mut reactor, move || {
        handle.post(move |_| told.send("posted").unwrap()).unwrap();
        assert_eq!(tell.recv_timeout(DEADLINE), Ok("posted"));
    });

    // Signals.
    let caught = log.clone();
    let signals = Signals::new([signal::SIGUSR1], move |cx, number| {
        caught.note(format!("signal {number}"));
        cx.stop();
    });
    reactor.add(signals.unwrap()).unwrap();
    signal_hook::low_level::raise(signal::SIGUSR1).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["timer".to_owned(), format!("signal {}", signal::SIGUSR1)]);

    // Backpressure: who does not read is not read from.
    let (ours, theirs) = pair();
    theirs.set_nonblocking(true).unwrap();
    let token = reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let before = reactor.stats().received;
    let flood = vec![7; BUDGET];
    let (mut accepted, mut stuck) = (0, 0);
    while stuck < 10 {
        match (&theirs).write(&flood) {
            Ok(more) => (accepted, stuck) = (accepted + more as u64, 0),
            Err(_) => stuck += 1,
        }
        turn_all(&mut reactor);
        assert!(accepted < 100_000_000, "it reads on and on");
    }
    let unsent = reactor.get_mut::<Stream<Echo>>(token).unwrap().unsent();
    let high_water = Limits::default().high_water;
    assert!((high_water..high_water + BUDGET).contains(&unsent), "{unsent} bytes wait");
    assert!(accepted > reactor.stats().received - before, "the rest waits where it is");
}

// --- ten tests that tell ----------------------------------------------------

#[test]
fn acceptance_01_close_stops_callbacks() {
    // A reset, with both interests; and with input and output on their way.
    for waiting in [0, 1_000_000] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (ours, theirs) = tcp_pair();
        let mut stream = Stream::new(ours, Probe::passive("a", &log).writable()).unwrap();
        if waiting > 0 {
            (&theirs).write_all(b"early").unwrap();
            stream.send(&pattern(waiting)).unwrap();
        }
        reactor.add(stream).unwrap();
        reset(theirs);
        run(&mut reactor);
        turn_all(&mut reactor);
        let lines = log.lines();
        assert_eq!(log.count("close"), 1, "{lines:?}");
        assert!(lines.last().unwrap().starts_with("a close: Connection reset"), "{lines:?}");
    }

    // A close inside of a callback, with everything else ready.
    let callbacks = ["connect", "read", "write", "expt", "timer"];
    let ways = callbacks.iter().flat_map(|within| CLOSES.map(|close| (*within, close)));
    for (within, close) in ways {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (ours, theirs) = tcp_pair();
        let probe = Probe::new("a", &log, move |call, io| {
            let name = match call {
                Call::Connect => {
                    io.set_timer(Duration::ZERO);
                    "connect"
                }
                Call::Read(_) => "read",
                Call::Write => "write",
                Call::Expt(_) => "expt",
                Call::Timer => "timer",
                Call::Eof | Call::Drain => "",
            };
            if name == within {
                close(io);
            }
            Ok(())
        });
        reactor.add(Stream::new(ours, probe.writable()).unwrap()).unwrap();
        (&theirs).write_all(b"early").unwrap();
        theirs.send_out_of_band(b"!").unwrap();
        turn_until(&mut reactor, |_| log.has(within));
        drop(theirs);
        run(&mut reactor);
        turn_all(&mut reactor);
        let lines = log.lines();
        let first = format!("a {within}");
        let at = lines.iter().position(|line| line.starts_with(&first)).unwrap();
        assert!(lines[at + 1].starts_with("a close"), "{lines:?}");
        assert_eq!(at + 2, lines.len(), "nothing comes later: {lines:?}");
    }
}

#[test]
fn acceptance_02_reused_slot_gets_only_its_own_events() {
    alone("acceptance_02_reused_slot_gets_only_its_own_events", || {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let mut exchanged = exchange(&mut reactor, &log);
        assert!(exchanged.same_descriptor, "it is about the same one");
        turn_all(&mut reactor);
        assert_eq!(log.count("rival read"), 1, "{:?}", log.lines());
        assert_eq!(log.count("heir"), log.count("heir connect"), "{:?}", log.lines());
        // Whoever has the old name is told that it names nobody.
        assert_ne!(exchanged.gone, exchanged.heir);
        assert!(reactor.get_mut::<Stream<Probe>>(exchanged.gone).is_none());
        reactor.context().close(exchanged.gone);
        turn_all(&mut reactor);
        assert!(reactor.get_mut::<Stream<Probe>>(exchanged.heir).is_some());
        // And the heir gets what is for it.
        exchanged.peers[2].write_all(b"for you").unwrap();
        turn_until(&mut reactor, |_| log.has("heir read"));
        assert_eq!(log.count("heir read 7"), 1, "{:?}", log.lines());
        assert_eq!(log.count("rival read"), 1, "{:?}", log.lines());
    });
}

#[test]
fn acceptance_03_refusal_is_reported_and_connect_precedes_read() {
    /// Keeps the kind of error that it ended with.
    struct Client(Log, Rc<Cell<Option<ErrorKind>>>);
    impl Protocol for Client {
        fn writable(&self) -> bool {
            !self.0.has("write")
        }
        fn handle_connect(&mut self, _: &mut Io<'_>) -> io::Result<()> {
            self.0.note("connect");
            Ok(())
        }
        fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            self.0.note(format!("read {}", data.len()));
            io.close();
            Ok(())
        }
        fn handle_write(&mut self, _: &mut Io<'_>) -> io::Result<()> {
            self.0.note("write");
            Ok(())
        }
        fn handle_error(&mut self, _: &mut Io<'_>, cause: &Cause) {
            self.0.note(format!("error: {cause}"));
        }
        fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
            self.0.note("close");
            if let Cause::Error(error) = &reason.cause {
                self.1.set(Some(error.kind()));
            }
        }
    }

    let (log, kind) = (Log::default(), Rc::default());
    let mut reactor = Reactor::new().unwrap();
    let (_bound, at) = Place::new(Family::Ipv4).unwrap().bound();
    reactor.add(connect(&at, Client(log.clone(), Rc::clone(&kind))).unwrap()).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["close"], "0 connects, 1 close");
    assert_eq!(kind.get(), Some(ErrorKind::ConnectionRefused));

    for place in places() {
        let (log, kind) = (Log::default(), Rc::default());
        let (listener, at) = place.listening();
        reactor.add(connect(&at, Client(log.clone(), Rc::clone(&kind))).unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (&server).write_all(b"early").unwrap();
        run(&mut reactor);
        let lines = log.lines();
        assert_eq!(lines[0], "connect", "{lines:?}");
        assert_eq!(lines.last().unwrap(), "close", "{lines:?}");
        assert_eq!(log.count("connect") + log.count("read 5"), 2, "{lines:?}");
        assert_eq!(kind.get(), None);
    }
}

#[test]
fn acceptance_04_client_is_served_after_storm_at_descriptor_limit() {
    alone("acceptance_04_client_is_served_after_storm_at_descriptor_limit", || {
        let mut reactor = Reactor::new().unwrap();
        let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
        let at = listener.local_addr().clone();
        reactor.add(listener).unwrap();
        // One who was here before.
        let neighbour = peer(&at);
        turn_until(&mut reactor, |reactor| reactor.stats().accepted == 1);

        let hoard: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        let last = File::open("/dev/null").unwrap();
        let shortage = Shortage::begin();
        drop(last);
        for _ in 0..1_000 {
            // It takes the one descriptor that is left.
            let client = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            // Where the queue is full it stays on its way.
            let _ = client.connect(&at.to_sock());
            reactor.turn(Some(Duration::ZERO)).unwrap();
            reset(client);
        }
        let accept_pauses = reactor.stats().accept_pauses;
        assert!(accept_pauses > 0, "the limit was never hit");
        // It waits a tenth of a second each time, rather than try for ever.
        assert!(accept_pauses < 500, "{accept_pauses} times");
        assert!(is_echoed(&mut reactor, neighbour), "who was here before never noticed");
        drop((shortage, hoard));
        assert!(is_echoed(&mut reactor, peer(&at)), "the next one");
    });
}

/// Panics in one of its callbacks.
struct Panics {
    within: &'static str,
    /// Before it is, `add` asks: a panic there is the caller's.
    connected: bool,
    log: Log,
}

impl Panics {
    fn reach(&self, here: &str) {
        if self.within == here {
            self.log.note(format!("panic in {here}"));
            panic!("a panic in {here}");
        }
    }
}

impl Protocol for Panics {
    fn readable(&self) -> bool {
        if self.connected {
            self.reach("readable");
        }
        true
    }
    fn writable(&self) -> bool {
        if self.connected {
            self.reach("writable");
        }
        self.within == "write"
    }
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.connected = true;
        io.set_timer(Duration::ZERO);
        self.reach("connect");
        Ok(())
    }
    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        self.reach("read");
        match self.within {
            "error" => Err(io::Error::other(Spam)),
            _ => Ok(()),
        }
    }
    fn handle_write(&mut self, _: &mut Io<'_>) -> io::Result<()> {
        self.reach("write");
        Ok(())
    }
    fn handle_expt(&mut self, _: &mut Io<'_>, _: u8) -> io::Result<()> {
        self.reach("expt");
        Ok(())
    }
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.reach("eof");
        io.close();
        Ok(())
    }
    fn handle_timer(&mut self, _: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        self.reach("timer");
        Ok(())
    }
    fn handle_drain(&mut self, _: &mut Io<'_>) -> io::Result<()> {
        self.reach("drain");
        Ok(())
    }
    fn handle_error(&mut self, _: &mut Io<'_>, _: &Cause) {
        self.log.note("error");
        self.reach("error");
    }
    fn handle_close(&mut self, _: &mut Io<'_>, _: &CloseReason) {
        self.log.note("close");
        self.reach("close");
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        self.reach("drop");
    }
}

#[test]
fn acceptance_05_panic_leaves_other_channels_served() {
    let callbacks = [
        "readable", "writable", "connect", "read", "write", "expt", "eof", "timer", "drain",
        "error", "close", "drop",
    ];
    for within in callbacks {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (ours, neighbour) = pair();
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
        let (ours, theirs) = tcp_pair();
        let panics = Panics { within, connected: false, log: log.clone() };
        reactor.add(Stream::new(ours, panics).unwrap()).unwrap();
        if within == "expt" {
            theirs.send_out_of_band(b"!").unwrap();
        } else if within != "eof" {
            (&theirs).write_all(b"x").unwrap();
        }
        match within {
            "eof" | "close" | "drop" => theirs.shutdown(Shutdown::Write).unwrap(),
            "drain" => reactor.context().drain(DEADLINE),
            _ => {}
        }
        turn_until(&mut reactor, |_| log.has("close") && log.has("panic"));
        let lines = log.lines();
        assert_eq!(log.count("panic"), 1, "{within}: {lines:?}");
        assert!(log.has(&format!("panic in {within}")), "{within}: {lines:?}");
        assert_eq!(lines.iter().filter(|line| *line == "close").count(), 1, "{within}: {lines:?}");

        assert!(is_echoed(&mut reactor, neighbour), "{within}");
        // Nothing is left over: no channel, and no descriptor.
        run(&mut reactor);
        let end = (&theirs).read(&mut [0]).map_err(|error| error.kind());
        // By a reset, where something was left unread.
        let closed = matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset));
        assert!(closed, "{within}: its descriptor is open: {end:?}");
    }
}

/// Sends so many bytes, 4 KiB at a time and as its output has room, and closes.
struct Pump {
    left: usize,
    most_unsent: Rc<Cell<usize>>,
}

impl Protocol for Pump {
    fn writable(&self) -> bool {
        self.left > 0
    }
    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        while self.left > 0 {
            match io.send(&[7; 4096]) {
                Ok(()) => self.left -= 4096,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            self.most_unsent.set(self.most_unsent.get().max(io.unsent()));
        }
        io.close();
        Ok(())
    }
}

#[test]
fn acceptance_06_cost_is_linear_in_output() {
    const MIB: usize = 1024 * 1024;
    // With the default cap; and with none, where all of it waits at once. That
    // is less, for what takes more than 32 MiB is mapped anew by the allocator
    // each time, which is no cost of ours.
    for (high_water, half) in [(Limits::default().high_water, 32 * MIB), (usize::MAX, 8 * MIB)] {
        let most_unsent: Rc<Cell<usize>> = Rc::default();
        let cost = |size: usize| {
            least_cost(5, || {
                let mut reactor = Reactor::new().unwrap();
                let (ours, theirs) = pair();
                theirs.set_nonblocking(true).unwrap();
                let pump = Pump { left: size, most_unsent: Rc::clone(&most_unsent) };
                let limits = Limits { high_water, ..Limits::default() };
                reactor.add(Stream::new(ours, pump).unwrap().with_limits(limits)).unwrap();
                // The slow reader: on this thread, and so in step.
                let mut buffer = vec![0; 16 * 1024];
                let mut came = 0;
                let begin = Instant::now();
                while came < size {
                    assert!(begin.elapsed() < DEADLINE, "{came} bytes of {size} in that time");
                    reactor.turn(Some(Duration::ZERO)).unwrap();
                    came += (&theirs).read(&mut buffer).unwrap_or_default();
                }
                run(&mut reactor);
            })
        };
        let costs = [cost(half), cost(2 * half)];
        let ratio = costs[1].as_secs_f64() / costs[0].as_secs_f64();
        // Copying all that waits for each part of it that goes makes it 4.
        assert!(ratio < 3.0, "{half} bytes and twice as many: {costs:?}, {ratio:.2}");
        if high_water != usize::MAX {
            let held = most_unsent.get();
            assert!((high_water..high_water + 4096).contains(&held), "{held} bytes waited");
        }
    }
}

#[test]
fn acceptance_07_half_closed_peer_receives_all_20_mb() {
    /// Answers once it has all of the question.
    #[derive(Default)]
    struct Answers(Vec<u8>);
    impl Protocol for Answers {
        fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            self.0.extend(data);
            Ok(())
        }
        fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            io.send(&std::mem::take(&mut self.0))?;
            io.close();
            Ok(())
        }
    }

    for place in places() {
        let mut reactor = Reactor::new().unwrap();
        // One that answers at the end; and one that echoes all along, whose
        // client has to read meanwhile, for what an echo holds is bounded.
        let listeners = [place.listener(|_| Ok(Answers::default())), place.listener(|_| Ok(Echo))];
        for (meanwhile, listener) in [false, true].into_iter().zip(listeners) {
            let at = listener.local_addr().clone();
            reactor.add(listener).unwrap();
            let same = run_with(&mut reactor, move || {
                let client = peer(&at);
                let mut came = vec![0; TWENTY_MB.len()];
                let write = || {
                    (&client).write_all(&TWENTY_MB).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                };
                thread::scope(|scope| {
                    if meanwhile {
                        scope.spawn(write);
                    } else {
                        write();
                    }
                    (&client).read_exact(&mut came).unwrap();
                });
                assert_eq!((&client).read(&mut [0]).unwrap(), 0, "and then the end");
                came == *TWENTY_MB
            });
            assert!(same, "all of it, and in order");
        }
    }
}

/// Something that has nothing to do, once it is set up; what it needs to stay
/// so is returned.
type Quiet = fn(&mut Reactor) -> Vec<Socket>;

#[test]
fn acceptance_08_idle_second_has_at_most_five_waits() {
    let quiet: [(&str, Quiet); 4] = [
        ("idle", |reactor| {
            reactor.add(Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap()).unwrap();
            let (ours, theirs) = pair();
            reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
            vec![theirs]
        }),
        ("paused with a reset peer", |reactor| {
            let log = Log::default();
            let mut theirs = Vec::new();
            // TCP, where an error waits; and Unix, where it hung up.
            for (ours, peer) in [tcp_pair(), pair()] {
                let mut stream = Stream::new(ours, Probe::passive("a", &log)).unwrap();
                stream.pause();
                reactor.add(stream).unwrap();
                theirs.push(peer);
            }
            turn_until(reactor, |_| log.count("connect") == 2);
            theirs.drain(..).for_each(reset);
            theirs
        }),
        ("an urgent byte with the default handler", |reactor| {
            let (ours, theirs) = tcp_pair();
            reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
            theirs.send_out_of_band(b"!").unwrap();
            vec![theirs]
        }),
        ("an empty output buffer", |reactor| {
            let (ours, theirs) = pair();
            let mut stream = Stream::new(ours, Echo).unwrap();
            stream.send(&pattern(1_000_000)).unwrap();
            assert!(stream.unsent() > 0, "it has to wait for room");
            let token = reactor.add(stream).unwrap();
            let theirs = run_with(reactor, move || {
                (&theirs).read_exact(&mut vec![0; 1_000_000]).unwrap();
                theirs
            });
            assert_eq!(reactor.get_mut::<Stream<Echo>>(token).unwrap().unsent(), 0);
            vec![theirs]
        }),
    ];
    // All in the same second.
    let watch = |quiet: Quiet| {
        let mut reactor = Reactor::new().unwrap();
        let _peers = quiet(&mut reactor);
        waits_in(&mut reactor, Duration::from_secs(1))
    };
    let threads = quiet.map(|(name, quiet)| (name, thread::spawn(move || watch(quiet))));
    for (name, thread) in threads {
        let waits = thread.join().expect(name);
        assert!((1..=5).contains(&waits), "{name}: {waits} waits in a second");
    }
}

/// Raises the limit of descriptors, as far as it may be raised; returns what it
/// is then.
fn raise_descriptor_limit(wanted: u64) -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let current = limits.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let raised = limits.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limits }).unwrap();
    raised
}

#[test]
fn acceptance_09_ten_thousand_idle_channels_cost_nothing() {
    const IDLE: usize = 10_000;
    /// For what else this process has open.
    const OTHERS: usize = 1_000;
    let limit = raise_descriptor_limit((IDLE + OTHERS) as u64);
    let idle = IDLE.min(usize::try_from(limit).unwrap().saturating_sub(OTHERS));
    if idle < IDLE {
        skipped(&format!("with a limit of {limit} descriptors: {idle} idle ones, not {IDLE}"));
    }
    // With poll(2) it is the system call that looks at every descriptor:
    // nothing that we could save, and a reason to have fewer rounds.
    let only_poll = cfg!(polling_test_poll_backend);
    let rounds = if only_poll { 50 } else { 1_000 };

    let mut cost = [Duration::ZERO; 2];
    for (cost, idle) in cost.iter_mut().zip([0, idle]) {
        let mut reactor = Reactor::new().unwrap();
        let (asked, called) = idle_ones(&mut reactor, idle);
        let (ours, theirs) = pair();
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
        echo(&mut reactor, &theirs, 1);
        let (before, callbacks) = (asked.get(), reactor.stats().callbacks);
        *cost = least_cost(5, || echo(&mut reactor, &theirs, rounds));
        assert_eq!(asked.get(), before, "nobody else was asked");
        assert_eq!(called.get(), 0, "nobody else was called");
        assert_eq!(reactor.stats().callbacks - callbacks, u64::from(5 * rounds));
        theirs.shutdown(Shutdown::Write).unwrap();
    }
    let ratio = cost[1].as_secs_f64() / cost[0].as_secs_f64();
    // To look at each would make it hundreds.
    assert!(only_poll || ratio < 3.0, "alone {:?}, among {idle} {:?}", cost[0], cost[1]);
}

#[test]
fn acceptance_09_flood_delays_others_by_one_budget_and_timers_fire() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let flooded: Rc<Cell<usize>> = Rc::default();
    let count = Rc::clone(&flooded);
    let sink = Probe::new("flood", &Log::default(), move |call, _| {
        if let Call::Read(data) = call {
            count.set(count.get() + data.len());
        }
        Ok(())
    });
    let (ours, flood) = pair();
    flood.set_send_buffer_size(1_000_000).unwrap();
    flood.set_nonblocking(true).unwrap();
    reactor.add(Stream::new(ours, sink).unwrap()).unwrap();
    let (ours, client) = pair();
    client.set_nonblocking(true).unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);

    let data = vec![0; BUDGET];
    for round in 0..200 {
        // There is always more, and never a turn without it.
        while (&flood).write(&data).is_ok() {}
        (&client).write_all(&[round]).unwrap();
        let before = flooded.get();
        reactor.turn(Some(DEADLINE)).unwrap();
        let mut byte = [0];
        (&client).read_exact(&mut byte).expect("answered in the same turn");
        assert_eq!(byte, [round]);
        let budget = flooded.get() - before;
        assert!((1..=BUDGET).contains(&budget), "{budget} bytes in one turn");
    }

    let timed = log.clone();
    reactor.context().call_later(Duration::from_millis(5), move |_| timed.note("timer"));
    turn_until(&mut reactor, |_| {
        while (&flood).write(&data).is_ok() {}
        log.has("timer")
    });
}

#[test]
fn acceptance_10_posts_run_in_order_and_wake_and_stop_the_loop() {
    const THREADS: usize = 4;
    const POSTS: u32 = 5_000;
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = pair();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();

    // All run, in order for each thread.
    let seen = Arc::new(Mutex::new(vec![Vec::new(); THREADS]));
    let threads: Vec<_> = (0..THREADS)
        .map(|me| {
            let (handle, seen) = (reactor.handle(), Arc::clone(&seen));
            thread::spawn(move || {
                for number in 0..POSTS {
                    let seen = Arc::clone(&seen);
                    handle.post(move |_| seen.lock().unwrap()[me].push(number)).unwrap();
                }
            })
        })
        .collect();
    run_with(&mut reactor, move || {
        for thread in threads {
            thread.join().unwrap();
        }
    });
    // The stop came last, and nothing that was posted before it is lost.
    turn_all(&mut reactor);
    let expected: Vec<_> = (0..POSTS).collect();
    assert!(seen.lock().unwrap().iter().all(|posts| *posts == expected));
    assert_eq!(reactor.stats().jobs, THREADS as u64 * u64::from(POSTS) + 1);

    // A post wakes a wait without end.
    let handle = reactor.handle();
    let (told, tell) = mpsc::channel();
    run_with(&mut reactor, move || {
        for number in 0..100 {
            let told = told.clone();
            handle.post(move |_| told.send(number).unwrap()).unwrap();
            assert_eq!(tell.recv_timeout(DEADLINE), Ok(number));
        }
        // `run_with` stops the loop from this thread.
    });

    // And a signal stops it.
    let signals = Signals::new([signal::SIGUSR2], |cx, _| cx.stop());
    reactor.add(signals.unwrap()).unwrap();
    for _ in 0..10 {
        let raise = thread::spawn(|| signal_hook::low_level::raise(signal::SIGUSR2));
        run(&mut reactor);
        raise.join().unwrap().unwrap();
    }
}
