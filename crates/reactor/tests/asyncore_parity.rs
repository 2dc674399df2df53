//! Counterparts of Python 3.11's `test_asyncore.py`, tests for asyncore's
//! faults, and ten acceptance tests for a reactor. (`asynchat_parity.rs` has
//! the counterparts of `test_asynchat.py` and the tests for asynchat's faults.)
//!
//! Where this library differs on purpose, the test states its behaviour. Only
//! the name and the subject of each method come from Python's files.
//!
//! Python runs 18 to 31 for each kind of socket, with `select` and with `poll`.
//! Here they run over IPv4, IPv6 and Unix sockets (IPv6 is reported as skipped
//! if the machine has none) on the compiled polling backend. CI compiles this
//! suite for epoll and for poll(2) (`--cfg polling_test_poll_backend`).
//!
//! # The methods
//!
//! Each counterpart has the name of the method, in a module named after its
//! class.
//!
//! | # | Python | counterpart | remark |
//! | --- | --- | --- | --- |
//! | 1 | `HelperFunctionTests.test_readwriteexc` | `helper_function_tests::test_readwriteexc` | `ExitNow` is [`Context::stop`]: nothing unwinds, and the turn is completed |
//! | 2 | `….test_readwrite` | `helper_function_tests::test_readwrite` | `POLLHUP` and `POLLERR` without interest are `handle_hangup`. `POLLNVAL` cannot occur: a dispatcher owns its descriptor, which stays open while registered |
//! | 3 | `….test_closeall` | `helper_function_tests::test_closeall` | closes the channels of one reactor only |
//! | 4 | `….test_closeall_default` | `helper_function_tests::test_closeall_default` | there is no global map: a dropped reactor closes its channels |
//! | 5 | `….test_compact_traceback` | `helper_function_tests::test_compact_traceback` | the cause contains the error itself, or the panic message; the panic hook reports the location |
//! | 6 | `DispatcherTests.test_basic` | `dispatcher_tests::test_basic` | `writable` defaults to false: an idle socket does not spin |
//! | 7 | `….test_repr` | `dispatcher_tests::test_repr` | contains the socket address instead of the memory address |
//! | 8 | `….test_log` | `dispatcher_tests::test_log` | through the `log` crate |
//! | 9 | `….test_log_info` | `dispatcher_tests::test_log_info` | asyncore's types become log levels |
//! | 10 | `….test_unhandled` | `dispatcher_tests::test_unhandled` | also a warning, but no spin; an unhandled connect is not reported |
//! | 11 | `….test_strerror` | `dispatcher_tests::test_strerror` | |
//! | 12 | `DispatcherWithSendTests.test_send` | `dispatcher_with_send_tests::test_send` | |
//! | 13 | `FileWrapperTest.test_recv` | `file_wrapper_test::test_recv` | a `FileDispatcher` owns its descriptor; pass a clone to keep the original |
//! | 14 | `….test_send` | `file_wrapper_test::test_send` | |
//! | 15 | `….test_dispatcher` | `file_wrapper_test::test_dispatcher` | |
//! | 16 | `….test_resource_warning` | `file_wrapper_test::test_resource_warning` | no warning: dropping closes |
//! | 17 | `….test_close_twice` | `file_wrapper_test::test_close_twice` | |
//! | 18 | `BaseTestAPI.test_handle_connect` | `api::test_handle_connect` | never called within `connect` |
//! | 19 | `….test_handle_accept` | `api::test_handle_accept` | [`Listener::with_handler`]; spurious readiness causes no callback |
//! | 20 | `….test_handle_accepted` | `api::test_handle_accepted` | |
//! | 21 | `….test_handle_read` | `api::test_handle_read` | |
//! | 22 | `….test_handle_write` | `api::test_handle_write` | only while `writable` is true |
//! | 23 | `….test_handle_close` | `api::test_handle_close` | without calling `recv` |
//! | 24 | `….test_handle_close_after_conn_broken` | `api::test_handle_close_after_conn_broken` | |
//! | 25 | `….test_handle_expt` | `api::test_handle_expt` | not over Unix sockets, as in Python, because they have no urgent data |
//! | 26 | `….test_handle_error` | `api::test_handle_error` | |
//! | 27 | `….test_connection_attributes` | `api::test_connection_attributes` | `accepting` and `connected` are types: [`Listener`] and [`Stream`] |
//! | 28 | `….test_create_socket` | `api::test_create_socket` | |
//! | 29 | `….test_bind` | `api::test_bind` | over Unix sockets too |
//! | 30 | `….test_set_reuse_addr` | `api::test_set_reuse_addr` | always on; over Unix sockets, a stale path is replaced |
//! | 31 | `….test_quick_connect` | `api::test_quick_connect` | over Unix sockets too, where the reset is a close |
//!
//! # Faults of asyncore
//!
//! | # | asyncore's fault | test |
//! | --- | --- | --- |
//! | 1 | `handle_connect` before it is connected | `fault_01_handle_connect_runs_first_and_connected` |
//! | 2 | a close within `handle_connect` is not final | `fault_02_close_in_handle_connect_stops_callbacks` |
//! | 3 | a refused connect calls `handle_error`, then `handle_close` | `fault_03_refused_connect_closes_once_with_its_error` |
//! | 4 | a reset calls read, close, write, close | `fault_04_reset_closes_once` |
//! | 5 | stale events for a reused descriptor | `fault_05_reused_descriptor_gets_no_stale_event` |
//! | 6 | EMFILE, or a faulty `handle_accepted`, ends the listener | `fault_06_listener_survives_emfile_and_failing_handler` |
//! | 7 | a fault in `handle_close` or `handle_error` ends the loop | `fault_07_panic_in_last_callbacks_is_isolated` |
//! | 8 | a half-close is treated as a close | `fault_08_half_close_is_not_close` |
//! | 9 | an urgent byte spins | `fault_09_urgent_byte_does_not_spin` |
//! | 10 | `create_socket` registers | `fault_10_constructors_register_nothing` |
//! | 11 | (asynchat) | in `asynchat_parity.rs` |
//! | 12 | (asynchat) | in `asynchat_parity.rs` |
//! | 13 | every turn queries every channel; quadratic, unbounded output | `fault_13_only_called_channels_are_queried`, `fault_13_output_is_limited_and_send_never_blocks`, `acceptance_06_…` for the cost; line length in `asynchat_parity.rs` |
//! | 14 | no timers, wake-up, signals, backpressure; one accept per turn | `fault_14_features_missing_in_asyncore_exist` |
//!
//! # Ten acceptance tests
//!
//! | # | subject | test |
//! | --- | --- | --- |
//! | 1 | no callback after close | `acceptance_01_close_stops_callbacks` |
//! | 2 | a descriptor reused within a batch | `acceptance_02_reused_slot_gets_only_its_own_events` |
//! | 3 | refused, and connected with data already available | `acceptance_03_refusal_is_reported_and_connect_precedes_read` |
//! | 4 | a connection storm at the descriptor limit | `acceptance_04_client_is_served_after_storm_at_descriptor_limit` |
//! | 5 | a panic in each callback | `acceptance_05_panic_leaves_other_channels_served` |
//! | 6 | twice the output, twice the time | `acceptance_06_cost_is_linear_in_output` |
//! | 7 | 20 MB after a half-close | `acceptance_07_half_closed_peer_receives_all_20_mb` |
//! | 8 | an idle second | `acceptance_08_idle_second_has_at_most_five_waits` |
//! | 9 | 10,000 idle channels, and a flood | `acceptance_09_ten_thousand_idle_channels_cost_nothing`, `acceptance_09_flood_delays_others_by_one_budget_and_timers_fire` |
//! | 10 | posts, and stops | `acceptance_10_posts_run_in_order_and_wake_and_stop_the_loop` |
// The original tests run on Unix, and the copies on Unix sockets too.
#![cfg(unix)]
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
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;
use reactor::signal::{self, Signals};
use reactor::{
    Cause, CloseReason, Context, Dispatcher, FileDispatcher, Io, Limits, Listener, Protocol,
    Reactor, Source, Stream, TimerId, Token,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{SockRef, Socket};

use crate::parity::common::{
    Call, DEADLINE, Echo, Log, Probe, pattern, run, run_with, turn_all, turn_until,
};
use crate::parity::{
    AddressExt, Family, Place, Spam, connect, count_waits, in_separate_process, listen,
    min_cpu_time, over, pair, peer, record, recorded, report_skip, reset, tcp_pair,
};

/// The size of one read, which bounds the delay that a flood causes.
const BUDGET: usize = 64 * 1024;

/// Far more than the kernel accepts at once; created only once.
static TWENTY_MB: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(20_000_000));

type Reaction = Box<dyn FnMut(&mut Context) -> io::Result<()>>;

/// A dispatcher that logs each callback, then runs the closure of the test.
struct Raw {
    source: Socket,
    readable: bool,
    writable: bool,
    log: Log,
    react: Reaction,
}

impl Raw {
    fn call(&mut self, what: &str, cx: &mut Context) -> io::Result<()> {
        self.log.note(what);
        (self.react)(cx)
    }
}

impl Dispatcher for Raw {
    fn source(&self) -> Source<'_> {
        Source::from(&self.source)
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
        // Consume the byte: otherwise it would be reported again.
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

/// Returns `true` if `error` contains the user's [`Spam`].
fn is_spam(error: &io::Error) -> bool {
    error.get_ref().and_then(|error| error.downcast_ref()) == Some(&Spam)
}

/// A poll(2) event.
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

    /// Creates a dispatcher for which poll(2) reports only this event, and the
    /// peer if it has to stay open.
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

/// Checks that a callback can stop the loop and its channel stays open.
fn check_stop(flag: Flag) {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (raw, _theirs) = flag.ready(&log, |cx| {
        cx.stop();
        Ok(())
    });
    let token = reactor.add(raw).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), [flag.handler()], "{flag:?}: exactly one callback");
    assert!(reactor.get_mut::<Raw>(token).is_some(), "{flag:?}: still open");
}

/// Checks that a failing callback is reported and closes its channel, and that
/// the loop continues.
fn check_failures(flag: Flag) {
    type Fail = fn(&mut Context) -> io::Result<()>;
    let failures: [(Fail, &str); 2] = [
        (|_| Err(io::Error::other(Spam)), "I don't like spam!"),
        (|_| panic!("I don't like spam!"), "a callback panicked: I don't like spam!"),
    ];
    for (fail, text) in failures {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (raw, _theirs) = flag.ready(&log, fail);
        reactor.add(raw).unwrap();
        run(&mut reactor);
        let expected =
            [flag.handler().to_owned(), format!("error: {text}"), format!("close: {text}")];
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
            assert_eq!(log.lines(), [flag.handler()], "{flag:?}: exactly one callback");
            check_stop(flag);
            check_failures(flag);
        }
    }

    /// Adds ten channels to `reactor`; returns their peers.
    fn add_ten(reactor: &mut Reactor, log: &Log) -> Vec<Socket> {
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
            assert_eq!(
                peer.read_to_end(&mut Vec::new()).unwrap(),
                0,
                "the descriptor is still open"
            );
        }
    }

    #[test]
    fn test_closeall() {
        let (mut reactor, mut other) = (Reactor::new().unwrap(), Reactor::new().unwrap());
        let (log, other_log) = (Log::default(), Log::default());
        let peers = add_ten(&mut reactor, &log);
        let _others = add_ten(&mut other, &other_log);
        reactor.close_all();
        assert_all_closed(peers, &log);
        assert!(!reactor.turn(Some(Duration::ZERO)).unwrap(), "no work remains");
        turn_all(&mut other);
        assert!(!other_log.has("close"), "a channel of another reactor");
    }

    #[test]
    fn test_closeall_default() {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let peers = add_ten(&mut reactor, &log);
        drop(reactor);
        assert_all_closed(peers, &log);
    }

    /// Records the last callbacks.
    #[derive(Clone, Default)]
    struct Recorder {
        error: Rc<Cell<bool>>,
        close: Rc<RefCell<Option<CloseReason>>>,
        panics: bool,
    }

    impl Recorder {
        fn is_spam(cause: &Cause) -> bool {
            match cause {
                Cause::Error(error) => is_spam(error),
                Cause::Panicked(message) => **message == *"I don't like spam!",
                _ => false,
            }
        }
    }

    impl Protocol for Recorder {
        fn handle_connect(&mut self, _: &mut Io<'_>) -> io::Result<()> {
            assert!(!self.panics, "{Spam}");
            Err(io::Error::other(Spam))
        }
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            unreachable!("the stream is closed")
        }
        fn handle_error(&mut self, _: &mut Io<'_>, cause: &Cause) {
            self.error.set(Self::is_spam(cause));
        }
        fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
            assert!(!io.context().is_draining());
            let cause = match &reason.cause {
                Cause::Panicked(message) => Cause::Panicked(message.clone()),
                // The reason is borrowed, so create an equal cause.
                cause if Self::is_spam(cause) => Cause::Error(io::Error::other(Spam)),
                _ => Cause::Local,
            };
            *self.close.borrow_mut() = Some(CloseReason::new(cause, reason.unsent));
        }
    }

    #[test]
    fn test_compact_traceback() {
        for panics in [false, true] {
            let mut reactor = Reactor::new().unwrap();
            let recorder = Recorder { panics, ..Recorder::default() };
            let (ours, _theirs) = pair();
            reactor.add(Stream::new(ours, recorder.clone()).unwrap()).unwrap();
            run(&mut reactor);
            assert!(recorder.error.get(), "the error itself, or the panic message");
            let reason = recorder.close.take().unwrap();
            assert!(Recorder::is_spam(&reason.cause), "{reason}");
            assert_eq!(matches!(reason.cause, Cause::Panicked(_)), panics);
            assert!(reason.to_string().ends_with("I don't like spam!"), "{reason}");
        }
    }
}

mod dispatcher_tests {
    use super::*;

    /// A dispatcher and protocol with the required methods only.
    struct Bare(Socket);

    impl Dispatcher for Bare {
        fn source(&self) -> Source<'_> {
            Source::from(&self.0)
        }
    }

    impl Protocol for Bare {
        fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            Err(io::Error::other(String::from_utf8_lossy(data)))
        }
    }

    #[test]
    fn test_basic() {
        let mut reactor = Reactor::new().unwrap();
        let mut bare = Bare(pair().0);
        assert!(Dispatcher::readable(&bare));
        assert!(!Dispatcher::writable(&bare), "asyncore's default makes the loop spin");
        assert!(Protocol::readable(&bare));
        assert!(!Protocol::writable(&bare));
        assert_eq!(bare.update_deadline(reactor.context()), None);
        assert!(bare.poll_close(reactor.context()).is_none());
        assert_eq!(Dispatcher::unsent(&bare), 0);
        assert!(!bare.is_background());
    }

    #[test]
    fn test_repr() {
        let mut reactor = Reactor::new().unwrap();
        let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
        let at = listener.local_addr().to_string();
        let stream = Stream::connect([at.parse().unwrap()], Echo);
        for (name, repr) in
            [("Listener", format!("{listener:?}")), ("Stream", format!("{stream:?}"))]
        {
            assert!(repr.starts_with(name) && repr.contains(&at), "{repr}");
        }
        let (first, second) = (reactor.add(listener).unwrap(), reactor.add(stream).unwrap());
        assert_ne!(format!("{first:?}"), format!("{second:?}"));
        assert!(format!("{reactor:?}").starts_with("Reactor { channels: 2"), "{reactor:?}");
    }

    /// Runs a channel that receives `line` and fails with it; returns its name.
    fn run_failing(reactor: &mut Reactor, line: &str) -> String {
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
        let expected = lines.map(|line| format!("{}: {line}", run_failing(&mut reactor, line)));
        assert_eq!(recorded(Level::Warn), expected, "unchanged, with the name, in order");
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
        assert!(warnings[0].starts_with(&format!("{at}: rejected a connection")), "{warnings:?}");
        assert!(warnings[0].ends_with("no spam for you"), "{warnings:?}");
        drop(client);
        reactor.context().close(listener);

        // An orderly close is logged at debug level.
        let (ours, theirs) = tcp_pair();
        let stream = Stream::new(ours, Echo).unwrap();
        let name = stream.peer_addr().to_string();
        reactor.add(stream).unwrap();
        drop(theirs);
        run(&mut reactor);
        let ends = recorded(Level::Debug);
        assert!(ends.contains(&format!("{name}: closed by the peer")), "{ends:?}");

        // A drain is logged at info level.
        reactor.context().drain(DEADLINE);
        run(&mut reactor);
        let informed = recorded(Level::Info);
        assert_eq!(informed, [format!("draining: open channels: 0, for at most {DEADLINE:?}")]);

        // A panic outside of all channels is logged as an error.
        reactor.context().call_later(Duration::ZERO, |_| panic!("I don't like spam!"));
        run(&mut reactor);
        let errors = recorded(Level::Error);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with("I don't like spam!"), "{errors:?}");
        let warnings = recorded(Level::Warn);
        let rejected =
            |line: &String| line.starts_with(&at.to_string()) && line.contains("rejected");
        assert!(warnings.iter().all(rejected), "unexpected warnings: {warnings:?}");
    }

    #[test]
    fn test_unhandled() {
        /// A dispatcher that is also writable.
        struct Writing(Socket);
        impl Dispatcher for Writing {
            fn source(&self) -> Source<'_> {
                Source::from(&self.0)
            }
            fn writable(&self) -> bool {
                true
            }
        }

        // Each warns once and closes; in asyncore they spin.
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

        // A stream's urgent byte is consumed by reading it, so the stream stays
        // open. An unhandled connect causes no warning.
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
        let text = |code| Cause::Error(io::Error::from_raw_os_error(code)).to_string();
        let eperm = rustix::io::Errno::PERM.raw_os_error();
        assert!(text(eperm).starts_with("Operation not permitted"), "{}", text(eperm));
        assert!(!text(-1).is_empty());
        let reason = CloseReason::new(Cause::Error(io::Error::from_raw_os_error(eperm)), 2);
        assert_eq!(reason.to_string(), format!("{}, 2 bytes unsent", text(eperm)));
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
            unreachable!("not readable")
        }
    }

    #[test]
    fn test_send() {
        const DATA: &[u8] = b"Suppose there isn't a 16-ton weight?";
        let (listener, at) = Place::new(Family::Ipv4).unwrap().listening();
        // Before and after the connection is established.
        for connected in [true, false] {
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            let token = reactor.add(connect(&at, NoRead(log.clone()))).unwrap();
            if connected {
                turn_until(&mut reactor, |_| log.has("connect"));
            }
            let stream = reactor.get_mut::<Stream<NoRead>>(token).unwrap();
            for data in [DATA, DATA, b"\n"] {
                stream.send(data).unwrap();
            }
            let (peer, _) = listener.accept().unwrap();
            parity::set_timeouts(&peer);
            let got = run_with(&mut reactor, move || {
                let mut got = vec![0; 2 * DATA.len() + 1];
                (&peer).read_exact(&mut got).unwrap();
                got
            });
            assert_eq!(got, [DATA, DATA, b"\n"].concat());
        }
    }
}

mod file_wrapper_test {
    use super::*;

    const CONTENTS: &[u8] = b"It's not dead, it's sleeping!";

    /// Creates a file with these contents in a temporary directory.
    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, CONTENTS).unwrap();
        (directory, path)
    }

    /// Reads a file to its end and logs the close.
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
        // The channel was removed; the original descriptor is still usable.
        assert!(reactor.get_mut::<FileDispatcher<Reader>>(token).is_none());
        kept.rewind().unwrap();
        assert_eq!(io::read_to_string(kept).unwrap().as_bytes(), CONTENTS);

        // Conversely, dropping the original does not affect the channel.
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
        // The data, then the end: a file does not keep the loop running.
        assert!(!reactor.run_turns(3).unwrap(), "{:?}", reader.1.lines());
        assert_eq!(*reader.0.borrow(), CONTENTS);
        assert_eq!(reader.1.lines(), ["close: closed by the peer"]);
    }

    #[test]
    fn test_resource_warning() {
        // Never added, and added to a reactor that is dropped.
        for added in [false, true] {
            let (reader, mut writer) = io::pipe().unwrap();
            let dispatcher = FileDispatcher::from_fd(reader, Reader::default()).unwrap();
            let mut reactor = Reactor::new().unwrap();
            writer.write_all(b"open").unwrap();
            if added {
                reactor.add(dispatcher).unwrap();
            } else {
                drop(dispatcher);
            }
            drop(reactor);
            let error = writer.write_all(b"closed").unwrap_err();
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
        assert_eq!(error.kind(), ErrorKind::NotConnected, "send after close");
        let token = reactor.add(dispatcher).unwrap();
        reactor.context().close(token);
        reactor.context().close(token);
        run(&mut reactor);
        reactor.context().close(token);
        reactor.close_all();
        turn_all(&mut reactor);
        assert_eq!(reader.1.lines(), ["close: closed"], "closed once");
    }
}

/// The tests of Python's `BaseTestAPI`, over each kind of socket.
mod api {
    use super::*;

    pub(super) fn test_handle_connect(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (_listener, at) = place.listening();
        reactor.add(connect(&at, Probe::passive("client", &log))).unwrap();
        // A Unix connection is established at once: asyncore calls back within
        // `connect`.
        assert!(log.lines().is_empty(), "callbacks run in the loop only");
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
            // The handler owns the socket.
            drop(socket);
            Ok(())
        })
        .unwrap();
        listener.handle_read(reactor.context()).unwrap();
        assert!(log.lines().is_empty(), "spurious readiness");
        reactor.add(listener).unwrap();
        let mut client = peer(&at);
        turn_until(&mut reactor, |_| log.has("accept"));
        turn_all(&mut reactor);
        assert_eq!(log.lines(), ["accept"]);
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0, "the socket was dropped");
    }

    pub(super) fn test_handle_accepted(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let (log, served) = (Log::default(), Log::default());
        let (accepted, serving) = (log.clone(), served.clone());
        let listener = place.listener(move |peer| {
            accepted.note(format!("accepted {peer}"));
            // Reject the first connection.
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
                assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0, "refused");
                assert!(served.lines().is_empty());
            }
        }
        assert_eq!(served.count("server connect"), 1);
        assert_eq!(reactor.get_mut::<Listener>(token).unwrap().rejected(), 1);
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
        let got: Rc<RefCell<Vec<u8>>> = Rc::default();
        let client = {
            let got = Rc::clone(&got);
            Probe::new("client", &Log::default(), move |call, _| {
                if let Call::Read(data) = call {
                    assert!(!data.is_empty());
                    got.borrow_mut().extend(data);
                }
                Ok(())
            })
        };
        reactor.add(connect(&at, client)).unwrap();
        turn_until(&mut reactor, |_| got.borrow().len() >= 1024);
        assert_eq!(*got.borrow(), pattern(1024));
    }

    pub(super) fn test_handle_write(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (_listener, at) = place.listening();
        for (name, wants) in [("silent", false), ("client", true)] {
            let mut probe = Probe::passive(name, &log);
            probe.writable = wants;
            reactor.add(connect(&at, probe)).unwrap();
        }
        turn_until(&mut reactor, |_| log.count("client write") > 2 && log.has("silent connect"));
        assert!(!log.has("silent write"), "it was not writable");
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
        reactor.add(connect(&at, Probe::passive("client", &log))).unwrap();
        turn_until(&mut reactor, |_| log.has("close"));
        turn_all(&mut reactor);
        assert_eq!(
            log.lines(),
            ["client connect", "client eof", "client close: closed by the peer"]
        );
    }

    /// Writes without end and never reads, so that only a write can fail.
    struct WriteOnly(Log, Rc<Cell<Option<ErrorKind>>>);

    impl Protocol for WriteOnly {
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
            unreachable!("not readable")
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
        reactor.add(connect(&at, WriteOnly(log.clone(), Rc::clone(&kind)))).unwrap();
        turn_until(&mut reactor, |_| log.has("close"));
        turn_all(&mut reactor);
        assert_eq!(log.lines(), ["close"], "a reset does not call `handle_error`");
        let kind = kind.get();
        let broken = [Some(ErrorKind::ConnectionReset), Some(ErrorKind::BrokenPipe)];
        assert!(broken.contains(&kind), "{kind:?}");
    }

    pub(super) fn test_handle_expt(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (listener, at) = place.listening();
        reactor.add(connect(&at, Probe::passive("client", &log))).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.send_out_of_band(&[244]).unwrap();
        turn_until(&mut reactor, |_| log.has("expt"));
        server.write_all(b"and on").unwrap();
        turn_until(&mut reactor, |_| log.has("read"));
        assert_eq!(log.lines(), ["client connect", "client expt 244", "client read 6"]);
    }

    /// Fails in `handle_write`: with a user error, or a panic.
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
            reactor.add(connect(&at, Faulty(log.clone(), panics))).unwrap();
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
        let client = connect(&at, Probe::passive("client", &log));
        // The peer's address is known before the connection is established.
        assert_eq!(client.peer_addr(), at);
        let connected = reactor.add(client).unwrap();

        turn_until(&mut reactor, |_| log.count("connect") == 2);
        assert!(reactor.get_mut::<Stream<Probe>>(accepting).is_none(), "it is a listener");
        assert_eq!(*reactor.get_mut::<Listener>(accepting).unwrap().local_addr(), at);
        assert!(reactor.get_mut::<Listener>(connected).is_none(), "it is a stream");
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
        let refused = Socket::new(place.domain(), socket2::Type::STREAM, None).unwrap();
        assert!(refused.connect(&at.to_sock()).is_err());
    }

    fn assert_socket_flags(source: BorrowedFd<'_>, place: &Place) {
        use rustix::fs::{OFlags, fcntl_getfl};
        use rustix::io::{FdFlags, fcntl_getfd};
        let socket = SockRef::from(&source);
        assert_eq!(socket.r#type().unwrap(), socket2::Type::STREAM);
        assert_eq!(socket.local_addr().unwrap().domain(), place.domain());
        assert!(fcntl_getfl(source).unwrap().contains(OFlags::NONBLOCK));
        assert!(
            fcntl_getfd(source).unwrap().contains(FdFlags::CLOEXEC),
            "the descriptor would be inherited"
        );
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
        assert_socket_flags(listener.source().fd().unwrap(), place);
        let client = connect(listener.local_addr(), Echo);
        assert_socket_flags(client.source().fd().unwrap(), place);
        reactor.add(listener).unwrap();
        reactor.add(client).unwrap();
        turn_until(&mut reactor, |_| accepted.get().is_some());
        let server = reactor.get_mut::<Stream<Probe>>(accepted.get().unwrap()).unwrap();
        assert_socket_flags(server.source().fd().unwrap(), place);
    }

    pub(super) fn test_bind(place: &Place) {
        let first = place.listener(|_| Ok(Echo));
        let at = first.local_addr().clone();
        assert_ne!(at.as_inet().map(|at| at.port()), Some(0), "no port was assigned");
        let error = listen(&at, |_| Ok(Echo)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(first);
        drop(listen(&at, |_| Ok(Echo)).expect("the address is free"));
    }

    pub(super) fn test_set_reuse_addr(place: &Place) {
        if place.family == Family::Unix {
            let (stale, at) = place.listening();
            drop(stale);
            assert!(matches!(&at, reactor::Address::Unix(Some(path)) if path.exists()));
            drop(listen(&at, |_| Ok(Echo)).expect("the path is stale"));
            return;
        }
        let listener = place.listener(|_| Ok(Echo));
        assert!(listener.socket_options().reuse_address().unwrap());
        if place.family == Family::Ipv6 {
            return;
        }
        // A restart while a connection of the previous server is open. No other
        // test uses this address, so the port cannot be taken in between.
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
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "without SO_REUSEADDR");
        drop(listen(&at, |_| Ok(Echo)).expect("with SO_REUSEADDR"));
        assert!(try_echo(&mut reactor, client));
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
        // Closed before it was accepted.
        reset(peer(&at));
        let mut client = peer(&at);
        run_with(&mut reactor, move || {
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
        });
        assert!(reactor.get_mut::<Listener>(token).is_some());
        assert!(!log.has("error:"), "{:?}", log.lines());
        // The kernel may never report the reset connection.
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

// --- faults of asyncore ------------------------------------------------------

/// Returns every kind of socket that this machine supports.
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
                    // All operations that need a connection work here.
                    assert_eq!(io.peer_addr(), inside);
                    io.send(b"hello")?;
                }
                Call::Eof => io.close(),
                _ => {}
            }
            Ok(())
        });
        reactor.add(connect(&at, probe.writable())).unwrap();
        // All three events are pending before the first turn.
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

/// The ways to close a stream within its callback.
const CLOSES: [fn(&mut Io<'_>); 3] = [
    |io| {
        io.close();
        assert_eq!(io.send(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
    },
    |io| {
        io.abort();
        assert_eq!(io.send(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
    },
    // By token, like any channel.
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
            let token = reactor.add(connect(&at, probe.writable())).unwrap();
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
        let mut reactor = Reactor::new().unwrap();
        // For a Unix socket the error occurs at once, and is reported in the same way.
        reactor.add(connect(&at, probe)).unwrap();
        run(&mut reactor);
        let refused = io::Error::from(rustix::io::Errno::CONNREFUSED);
        assert_eq!(log.lines(), [format!("a close: {refused}")]);
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

/// Two channels are ready in one batch. The one called first closes the other;
/// before the turn ends a third reuses its slot.
struct Exchange {
    /// The channel that was closed.
    closed: Token,
    /// The channel that reuses its slot.
    successor: Token,
    /// The peers: of the two, then of the successor.
    peers: Vec<Socket>,
    /// `true` if the successor reuses the descriptor of the closed channel.
    same_descriptor: bool,
}

fn exchange(reactor: &mut Reactor, log: &Log) -> Exchange {
    type Successor = Rc<RefCell<Option<(Token, i32, Socket)>>>;
    /// Adds the successor when the descriptor is free, at the end of the turn.
    fn helper(log: &Log, successor: &Successor) -> Probe {
        let (log, successor) = (log.clone(), Rc::clone(successor));
        Probe::new("helper", &Log::default(), move |call, io| {
            if call == Call::Connect {
                let (ours, theirs) = pair();
                let number = ours.as_raw_fd();
                let token =
                    io.context().add(Stream::new(ours, Probe::passive("successor", &log))?)?;
                *successor.borrow_mut() = Some((token, number, theirs));
                io.close();
            }
            Ok(())
        })
    }

    let successor = Successor::default();
    // Tokens and descriptor numbers.
    let rivals = Rc::<Cell<Option<[(Token, i32); 2]>>>::default();
    let closed = Rc::<Cell<Option<(Token, i32)>>>::default();
    let mut peers = Vec::new();
    let mut add = || {
        let (ours, mut theirs) = pair();
        let number = ours.as_raw_fd();
        theirs.write_all(b"x").unwrap();
        peers.push(theirs);
        let (rivals, closed) = (Rc::clone(&rivals), Rc::clone(&closed));
        let (successor_log, successor) = (log.clone(), Rc::clone(&successor));
        let rival = Probe::new("rival", log, move |call, io| {
            if matches!(call, Call::Read(_)) {
                let [a, b] = rivals.get().unwrap();
                let other = if io.token() == a.0 { b } else { a };
                closed.set(Some(other));
                let (ours, _) = pair();
                let helper = Stream::new(ours, helper(&successor_log, &successor))?;
                io.context().close(other.0);
                io.context().add(helper)?;
            }
            Ok(())
        });
        (reactor.add(Stream::new(ours, rival).unwrap()).unwrap(), number)
    };
    rivals.set(Some([add(), add()]));
    reactor.turn(Some(DEADLINE)).unwrap();
    let (closed, number) = closed.get().expect("one of the two was read");
    let (successor, successor_number, theirs) =
        successor.take().expect("a successor in the same turn");
    peers.push(theirs);
    Exchange { closed, successor, peers, same_descriptor: number == successor_number }
}

#[test]
fn fault_05_reused_descriptor_gets_no_stale_event() {
    // The process has only one table of descriptors.
    in_separate_process("fault_05_reused_descriptor_gets_no_stale_event", || {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        for round in 1..=200 {
            let exchanged = exchange(&mut reactor, &log);
            assert!(exchanged.same_descriptor, "the descriptor was not reused");
            turn_all(&mut reactor);
            assert_eq!(log.count("rival read"), round, "{:?}", log.lines());
            assert_eq!(log.count("successor connect"), round);
            assert!(!log.has("successor read") && !log.has("successor eof"), "{:?}", log.lines());
            reactor.close_all();
        }
    });
}

/// Prevents this process from opening descriptors, until dropped.
struct Shortage(Rlimit);

impl Shortage {
    fn start() -> Self {
        let before = getrlimit(Resource::Nofile);
        // The lowest free number: all below it are in use.
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

/// Sends through `client`; returns `true` if the data is echoed.
fn try_echo(reactor: &mut Reactor, mut client: Socket) -> bool {
    run_with(reactor, move || {
        client.write_all(b"hello").unwrap();
        let mut echo = [0; 5];
        client.read_exact(&mut echo).is_ok_and(|()| &echo == b"hello")
    })
}

#[test]
fn fault_06_listener_survives_emfile_and_failing_handler() {
    in_separate_process("fault_06_listener_survives_emfile_and_failing_handler", || {
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
        let shortage = Shortage::start();
        assert!(File::open("/dev/null").is_err(), "a descriptor is still available");
        turn_until(&mut reactor, |reactor| reactor.stats().accept_pauses > 0);
        assert_eq!(reactor.stats().accepted, 0);
        assert!(reactor.get_mut::<Listener>(token).is_some(), "the listener was closed");
        drop(shortage);
        assert!(try_echo(&mut reactor, client), "the waiting client is not served");

        for echoed in [false, false, true] {
            assert_eq!(try_echo(&mut reactor, peer(&at)), echoed);
        }
        assert_eq!(reactor.get_mut::<Listener>(token).unwrap().rejected(), 2);
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
        assert!(try_echo(&mut reactor, neighbour));
        run(&mut reactor); // no work remains
    }
}

#[test]
fn fault_08_half_close_is_not_close() {
    /// Sends 20 MB when connected; the other methods are the defaults.
    struct Sends(Log);
    impl Protocol for Sends {
        fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            io.send(&TWENTY_MB)?;
            assert!(io.unsent() > 0, "all of it was sent at once");
            Ok(())
        }
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            unreachable!("the peer sends nothing")
        }
        fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
            self.0.note(format!("close: {reason}"));
        }
    }

    // With the default limit the end of input is read when most of the output
    // was sent; without a limit, while all of it is queued.
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
        // The end of input arrives before the client reads.
        turn_until(&mut reactor, |reactor| reactor.stats().accepted == 1);
        turn_all(&mut reactor);
        let same = run_with(&mut reactor, move || {
            let mut got = Vec::new();
            (&client).read_to_end(&mut got).unwrap();
            got == *TWENTY_MB
        });
        assert!(same, "received data differs from the data sent");
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
    // A custom handler, and a paused stream.
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
    let waits = count_waits(&mut reactor, Duration::from_millis(200));
    assert!(waits <= 5, "{waits} waits in 200 ms");
    assert_eq!(log.count("a expt 33"), 1, "delivered once: {:?}", log.lines());
    assert_eq!(recorded(Level::Warn).len(), 1, "{:?}", recorded(Level::Warn));
    assert!(try_echo(&mut reactor, theirs), "ordinary data does not arrive");
}

#[test]
fn fault_10_constructors_register_nothing() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (listener, at) = Place::new(Family::Ipv4).unwrap().listening();
    // Created but not added: the reactor is not affected, and the reset is not
    // reported.
    let stream = connect(&at, Probe::passive("never added", &log));
    let unconnected = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    reset(listener.accept().unwrap().0);
    assert!(!reactor.run_turns(10).unwrap(), "no channel was added");
    drop((stream, unconnected));
    assert!(log.lines().is_empty(), "{:?}", log.lines());

    // Added while connecting: no callback before the connection is established.
    let (_full, silent, _fillers) = silent();
    let token = reactor.add(connect(&silent, Probe::passive("a", &log).writable()));
    let waits = count_waits(&mut reactor, Duration::from_millis(100));
    assert!(waits <= 5, "{waits} waits in 100 ms");
    assert!(log.lines().is_empty(), "{:?}", log.lines());
    reactor.context().close(token.unwrap());
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: closed"]);
}

/// Returns an address that answers no connection attempt: a listener that
/// accepts nothing and whose queue is full.
fn silent() -> (Socket, reactor::Address, Vec<Socket>) {
    let (listener, at) = Place::new(Family::Ipv4).unwrap().bound();
    listener.listen(0).unwrap();
    let fill = || {
        let filler = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        // The first connects; the others remain in progress.
        let _ = filler.connect(&at.to_sock());
        filler
    };
    let fillers = std::iter::repeat_with(fill).take(4).collect();
    (listener, at, fillers)
}

/// Counts queries and callbacks.
struct CountsQueries {
    queried: Rc<Cell<u32>>,
    called: Rc<Cell<u32>>,
}

impl Protocol for CountsQueries {
    fn readable(&self) -> bool {
        self.queried.set(self.queried.get() + 1);
        true
    }
    fn writable(&self) -> bool {
        self.queried.set(self.queried.get() + 1);
        false
    }
    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        self.called.set(self.called.get() + 1);
        Ok(())
    }
}

/// Adds `count` idle channels to `reactor`.
fn add_idle_channels(reactor: &mut Reactor, count: usize) -> (Rc<Cell<u32>>, Rc<Cell<u32>>) {
    let (queried, called) = (Rc::<Cell<u32>>::default(), Rc::<Cell<u32>>::default());
    for _ in 0..count / 2 {
        // The two channels are peers of each other.
        let (one, other) = pair();
        for socket in [one, other] {
            let idle = CountsQueries { queried: Rc::clone(&queried), called: Rc::clone(&called) };
            reactor.add(Stream::new(socket, idle).unwrap()).unwrap();
        }
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    while reactor.next_deadline().is_some_and(|at| at <= reactor.context().now()) {
        // One turn does not settle that many channels.
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    (queried, called)
}

/// Echoes `rounds` messages over one stream, all on this thread.
fn echo(reactor: &mut Reactor, client: &Socket, rounds: u32) {
    for round in 0..rounds {
        let mut message = round.to_be_bytes();
        (&*client).write_all(&message).unwrap();
        let received = reactor.stats().received;
        // On a Unix socket written data is readable at once.
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
    let (queried, called) = add_idle_channels(&mut reactor, 100);
    let (ours, theirs) = pair();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    echo(&mut reactor, &theirs, 1);
    let (before, callbacks) = (queried.get(), reactor.stats().callbacks);
    assert!(before >= 100, "not queried when added");
    echo(&mut reactor, &theirs, 200);
    assert_eq!(queried.get(), before, "idle channels were queried");
    assert_eq!(called.get(), 0);
    assert_eq!(reactor.stats().callbacks - callbacks, 200, "one callback per message");
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
        assert!(accepted < 100_000_000, "output is not limited");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let high_water = Limits::default().high_water;
    assert!((high_water..high_water + message.len()).contains(&stream.unsent()));
    // Exactly the accepted output is sent.
    stream.close();
    reactor.add(stream).unwrap();
    let got = run_with(&mut reactor, move || {
        let mut got = Vec::new();
        (&theirs).read_to_end(&mut got).unwrap();
        got
    });
    assert_eq!(got.len(), accepted);
    assert!(got.chunks(message.len()).all(|chunk| chunk == message));
}

#[test]
fn fault_14_features_missing_in_asyncore_exist() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();

    // Timers.
    let timed = log.clone();
    reactor.context().call_later(Duration::from_millis(1), move |_| timed.note("timer"));
    run(&mut reactor);

    // Many connections are accepted in one turn.
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
    let (ran_tx, ran_rx) = mpsc::channel();
    run_with(&mut reactor, move || {
        handle.post(move |_| ran_tx.send("posted").unwrap()).unwrap();
        assert_eq!(ran_rx.recv_timeout(DEADLINE), Ok("posted"));
    });

    // Signals.
    let caught = log.clone();
    let signals = Signals::new(&[signal::SIGUSR1], move |cx, number| {
        caught.note(format!("signal {number}"));
        cx.stop();
    });
    reactor.add(signals.unwrap()).unwrap();
    signal_hook::low_level::raise(signal::SIGUSR1).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["timer".to_owned(), format!("signal {}", signal::SIGUSR1)]);

    // Backpressure: a peer that does not read is not read from.
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
        assert!(accepted < 100_000_000, "reading does not stop");
    }
    let unsent = reactor.get_mut::<Stream<Echo>>(token).unwrap().unsent();
    let high_water = Limits::default().high_water;
    assert!((high_water..high_water + BUDGET).contains(&unsent), "{unsent} bytes queued");
    assert!(accepted > reactor.stats().received - before, "all input was read");
}

// --- ten acceptance tests ---------------------------------------------------

#[test]
fn acceptance_01_close_stops_callbacks() {
    // A reset, with both interests; and with input and output pending.
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

    // A close within a callback, while all other events are ready.
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
                Call::Upgrade | Call::Eof | Call::Drain => "",
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
        assert_eq!(at + 2, lines.len(), "callbacks after the close: {lines:?}");
    }
}

#[test]
fn acceptance_02_reused_slot_gets_only_its_own_events() {
    in_separate_process("acceptance_02_reused_slot_gets_only_its_own_events", || {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let mut exchanged = exchange(&mut reactor, &log);
        assert!(exchanged.same_descriptor, "the descriptor was not reused");
        turn_all(&mut reactor);
        assert_eq!(log.count("rival read"), 1, "{:?}", log.lines());
        assert_eq!(log.count("successor"), log.count("successor connect"), "{:?}", log.lines());
        // The old token is not valid any more.
        assert_ne!(exchanged.closed, exchanged.successor);
        assert!(reactor.get_mut::<Stream<Probe>>(exchanged.closed).is_none());
        reactor.context().close(exchanged.closed);
        turn_all(&mut reactor);
        assert!(reactor.get_mut::<Stream<Probe>>(exchanged.successor).is_some());
        // The successor gets its own input.
        exchanged.peers[2].write_all(b"for you").unwrap();
        turn_until(&mut reactor, |_| log.has("successor read"));
        assert_eq!(log.count("successor read 7"), 1, "{:?}", log.lines());
        assert_eq!(log.count("rival read"), 1, "{:?}", log.lines());
    });
}

#[test]
fn acceptance_03_refusal_is_reported_and_connect_precedes_read() {
    /// Logs its callbacks and records the error kind of the close reason.
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
    reactor.add(connect(&at, Client(log.clone(), Rc::clone(&kind)))).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["close"], "one close, no connect");
    assert_eq!(kind.get(), Some(ErrorKind::ConnectionRefused));

    for place in places() {
        let (log, kind) = (Log::default(), Rc::default());
        let (listener, at) = place.listening();
        reactor.add(connect(&at, Client(log.clone(), Rc::clone(&kind)))).unwrap();
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
    in_separate_process("acceptance_04_client_is_served_after_storm_at_descriptor_limit", || {
        let mut reactor = Reactor::new().unwrap();
        let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
        let at = listener.local_addr().clone();
        reactor.add(listener).unwrap();
        // A client from before the shortage.
        let neighbour = peer(&at);
        turn_until(&mut reactor, |reactor| reactor.stats().accepted == 1);

        let hoard: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        let last = File::open("/dev/null").unwrap();
        let shortage = Shortage::start();
        drop(last);
        for _ in 0..1_000 {
            // It uses the only free descriptor.
            let client = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            // If the queue is full, the connection remains in progress.
            let _ = client.connect(&at.to_sock());
            reactor.turn(Some(Duration::ZERO)).unwrap();
            reset(client);
        }
        let accept_pauses = reactor.stats().accept_pauses;
        assert!(accept_pauses > 0, "the limit was not reached");
        // The listener pauses for 100 ms each time instead of spinning.
        assert!(accept_pauses < 500, "{accept_pauses} pauses");
        assert!(try_echo(&mut reactor, neighbour), "the earlier client is not served");
        drop((shortage, hoard));
        assert!(try_echo(&mut reactor, peer(&at)), "the next client is not served");
    });
}

/// Panics in the callback named by `within`.
struct Panics {
    within: &'static str,
    /// `false` while `add` queries the interest: a panic there would reach the
    /// caller.
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

        assert!(try_echo(&mut reactor, neighbour), "{within}");
        // No channel and no descriptor remain.
        run(&mut reactor);
        let end = (&theirs).read(&mut [0]).map_err(|error| error.kind());
        // A reset, if input was left unread.
        let closed = matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset));
        assert!(closed, "{within}: the descriptor is still open: {end:?}");
    }
}

/// Sends `left` bytes in messages of 4 KiB while there is room, then closes.
struct Pump {
    left: usize,
    max_unsent: Rc<Cell<usize>>,
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
            self.max_unsent.set(self.max_unsent.get().max(io.unsent()));
        }
        io.close();
        Ok(())
    }
}

#[test]
fn acceptance_06_slow_reader_receives_all_and_the_queue_is_bounded() {
    const SIZE: usize = 16 * 1024 * 1024;
    for high_water in [Limits::default().high_water, usize::MAX] {
        let max_unsent: Rc<Cell<usize>> = Rc::default();
        let mut reactor = Reactor::new().unwrap();
        let (ours, theirs) = pair();
        theirs.set_nonblocking(true).unwrap();
        let pump = Pump { left: SIZE, max_unsent: Rc::clone(&max_unsent) };
        let limits = Limits { high_water, ..Limits::default() };
        reactor.add(Stream::new(ours, pump).unwrap().with_limits(limits)).unwrap();
        // The slow reader runs on this thread, in step with the reactor.
        let mut buffer = vec![0; 16 * 1024];
        let mut got = 0;
        let begin = Instant::now();
        while got < SIZE {
            assert!(begin.elapsed() < DEADLINE, "{got} of {SIZE} bytes in {DEADLINE:?}");
            reactor.turn(Some(Duration::ZERO)).unwrap();
            got += (&theirs).read(&mut buffer).unwrap_or_default();
        }
        run(&mut reactor);
        let held = max_unsent.get();
        if high_water == usize::MAX {
            assert!(held > SIZE / 2, "{held} bytes queued");
        } else {
            assert!((high_water..high_water + 4096).contains(&held), "{held} bytes queued");
        }
    }
}

#[test]
fn acceptance_07_half_closed_peer_receives_all_20_mb() {
    /// Echoes all input at end of input.
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
        // One answers at end of input. The other echoes at once, so its client
        // has to read while it writes, as the queued output is bounded.
        let listeners = [place.listener(|_| Ok(Answers::default())), place.listener(|_| Ok(Echo))];
        for (meanwhile, listener) in [false, true].into_iter().zip(listeners) {
            let at = listener.local_addr().clone();
            reactor.add(listener).unwrap();
            let same = run_with(&mut reactor, move || {
                let client = peer(&at);
                let mut got = vec![0; TWENTY_MB.len()];
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
                    (&client).read_exact(&mut got).unwrap();
                });
                assert_eq!(
                    (&client).read_to_end(&mut Vec::new()).unwrap(),
                    0,
                    "end of input follows"
                );
                got == *TWENTY_MB
            });
            assert!(same, "received data differs from the data sent");
        }
    }
}

/// Sets up an idle reactor; returns the peers that must stay open.
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
            // TCP, where an error is pending, and Unix, where a hang-up is.
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
            assert!(stream.unsent() > 0, "all of it was sent at once");
            let token = reactor.add(stream).unwrap();
            let theirs = run_with(reactor, move || {
                (&theirs).read_exact(&mut vec![0; 1_000_000]).unwrap();
                theirs
            });
            assert_eq!(reactor.get_mut::<Stream<Echo>>(token).unwrap().unsent(), 0);
            vec![theirs]
        }),
    ];
    // All cases run at the same time.
    let watch = |quiet: Quiet| {
        let mut reactor = Reactor::new().unwrap();
        let _peers = quiet(&mut reactor);
        count_waits(&mut reactor, Duration::from_secs(1))
    };
    let threads = quiet.map(|(name, quiet)| (name, thread::spawn(move || watch(quiet))));
    for (name, thread) in threads {
        let waits = thread.join().expect(name);
        assert!((1..=5).contains(&waits), "{name}: {waits} waits in a second");
    }
}

/// Raises the descriptor limit to `wanted`, or as far as allowed; returns the
/// new limit.
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
    /// For the other descriptors of this process.
    const OTHERS: usize = 1_000;
    let limit = raise_descriptor_limit((IDLE + OTHERS) as u64);
    let idle = IDLE.min(usize::try_from(limit).unwrap().saturating_sub(OTHERS));
    if idle < IDLE {
        report_skip(&format!("the descriptor limit is {limit}: {idle} idle channels, not {IDLE}"));
    }
    // With poll(2) the system call checks every descriptor, which the library
    // cannot avoid, so run fewer rounds.
    let only_poll = cfg!(polling_test_poll_backend);
    let rounds = if only_poll { 50 } else { 1_000 };

    let mut cost = [Duration::ZERO; 2];
    for (cost, idle) in cost.iter_mut().zip([0, idle]) {
        let mut reactor = Reactor::new().unwrap();
        let (queried, called) = add_idle_channels(&mut reactor, idle);
        let (ours, theirs) = pair();
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
        echo(&mut reactor, &theirs, 1);
        let (before, callbacks) = (queried.get(), reactor.stats().callbacks);
        *cost = min_cpu_time(5, || echo(&mut reactor, &theirs, rounds));
        assert_eq!(queried.get(), before, "an idle channel was queried");
        assert_eq!(called.get(), 0, "an idle channel was called");
        assert_eq!(reactor.stats().callbacks - callbacks, u64::from(5 * rounds));
        theirs.shutdown(Shutdown::Write).unwrap();
    }
    let ratio = cost[1].as_secs_f64() / cost[0].as_secs_f64();
    // Checking each channel would make the ratio several hundred.
    assert!(
        only_poll || ratio < 20.0,
        "alone {:?}, with {idle} idle channels {:?}",
        cost[0],
        cost[1]
    );
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
        // The flood never ends: each turn has input to read.
        while (&flood).write(&data).is_ok() {}
        (&client).write_all(&[round]).unwrap();
        let before = flooded.get();
        reactor.turn(Some(DEADLINE)).unwrap();
        let mut byte = [0];
        (&client).read_exact(&mut byte).expect("echoed in the same turn");
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

    // All posts run, in the order of each thread.
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
    // The stop is posted last, and no post before it is lost.
    turn_all(&mut reactor);
    let expected: Vec<_> = (0..POSTS).collect();
    assert!(seen.lock().unwrap().iter().all(|posts| *posts == expected));
    assert_eq!(reactor.stats().jobs, THREADS as u64 * u64::from(POSTS) + 1);

    // A post wakes an unlimited wait.
    let handle = reactor.handle();
    let (ran_tx, ran_rx) = mpsc::channel();
    run_with(&mut reactor, move || {
        for number in 0..100 {
            let ran_tx = ran_tx.clone();
            handle.post(move |_| ran_tx.send(number).unwrap()).unwrap();
            assert_eq!(ran_rx.recv_timeout(DEADLINE), Ok(number));
        }
        // `run_with` stops the loop from this thread.
    });

    // A signal handler stops the loop.
    let signals = Signals::new(&[signal::SIGUSR2], |cx, _| cx.stop());
    reactor.add(signals.unwrap()).unwrap();
    for _ in 0..10 {
        let raise = thread::spawn(|| signal_hook::low_level::raise(signal::SIGUSR2));
        run(&mut reactor);
        raise.join().unwrap().unwrap();
    }
}
