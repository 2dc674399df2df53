//! Invariant 8: an error or a panic closes only the channel it occurs in.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use reactor::{
    Cause, CloseReason, Context, Dispatcher, Io, Listener, Protocol, Reactor, Source, Stream,
    TimerId,
};
use socket2::SockRef;

use crate::common::{
    Echo, LocalStream, Log, Probe, assert_echo, local_pair, run, silence_panics, turn_all,
    turn_until,
};

/// Fails in the callback named by `within`.
struct Faulty {
    within: &'static str,
    panics: bool,
    /// `false` while `add` queries the interest: a panic there would reach the
    /// caller.
    connected: bool,
    log: Log,
}

impl Faulty {
    fn fail_in(&self, here: &str) -> io::Result<()> {
        if self.within != here {
            return Ok(());
        }
        self.log.note(format!("fault in {here}"));
        assert!(!self.panics, "a panic in {here}");
        Err(io::Error::other(format!("an error in {here}")))
    }
}

impl Protocol for Faulty {
    fn readable(&self) -> bool {
        if self.connected {
            let _ = self.fail_in("readable");
        }
        true
    }
    fn writable(&self) -> bool {
        if self.connected {
            let _ = self.fail_in("writable");
        }
        self.within == "write"
    }
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.connected = true;
        io.set_timer(Duration::ZERO);
        self.fail_in("connect")
    }
    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        self.fail_in("read")?;
        if self.within == "error" {
            return Err(io::Error::other("to reach handle_error"));
        }
        Ok(())
    }
    fn handle_write(&mut self, _: &mut Io<'_>) -> io::Result<()> {
        self.fail_in("write")
    }
    fn handle_expt(&mut self, _: &mut Io<'_>, _: u8) -> io::Result<()> {
        self.fail_in("expt")
    }
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.close();
        self.fail_in("eof")
    }
    fn handle_timer(&mut self, _: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        self.fail_in("timer")
    }
    fn handle_drain(&mut self, _: &mut Io<'_>) -> io::Result<()> {
        self.fail_in("drain")
    }
    fn handle_error(&mut self, _: &mut Io<'_>, cause: &Cause) {
        self.log.note(format!("error: {cause}"));
        if self.panics {
            let _ = self.fail_in("error");
        }
    }
    fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
        self.log.note(format!("close: {reason}"));
        if self.panics {
            let _ = self.fail_in("close");
        }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if self.within == "drop" && self.panics {
            self.log.note("fault in drop");
            panic!("a panic in drop");
        }
    }
}

#[test]
fn invariant_8_fault_in_any_callback_leaves_others_served() {
    silence_panics();
    let callbacks = [
        "readable", "writable", "connect", "read", "write", "expt", "eof", "timer", "drain",
        "error", "close", "drop",
    ];
    for within in callbacks {
        for panics in [true, false] {
            if !panics && ["readable", "writable", "error", "close", "drop"].contains(&within) {
                continue; // cannot return an error
            }
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            let listener = {
                let log = log.clone();
                Listener::bind("127.0.0.1:0", move |_| {
                    Ok(Faulty { within, panics, connected: false, log: log.clone() })
                })
                .unwrap()
            };
            let addr = listener.local_addr().as_inet().unwrap();
            reactor.add(listener).unwrap();
            let (ours, mut neighbour) = local_pair().unwrap();
            reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();

            let mut peer = TcpStream::connect(addr).unwrap();
            if within == "expt" {
                SockRef::from(&peer).send_out_of_band(b"!").unwrap();
            } else if within != "eof" {
                peer.write_all(b"x").unwrap();
            }
            turn_all(&mut reactor);
            if within == "drain" {
                reactor.context().drain(Duration::from_secs(60));
                turn_all(&mut reactor);
            }
            drop(peer);
            turn_until(&mut reactor, |_| {
                log.has("close: ") && (within != "drop" || log.has("fault in drop"))
            });

            let lines = log.lines();
            assert_eq!(log.count("close: "), 1, "{within}: {lines:?}");
            assert!(log.has(&format!("fault in {within}")), "{within}: {lines:?}");
            let cause = if panics { "panic" } else { "error" };
            if !["error", "close", "drop"].contains(&within) {
                let text = format!("a{} {cause} in {within}", if panics { "" } else { "n" });
                let close = lines.iter().find(|line| line.starts_with("close: ")).unwrap();
                assert!(close.contains(&text), "{within}: {lines:?}");
            }
            // The neighbour is not affected.
            neighbour.write_all(b"hello").unwrap();
            turn_all(&mut reactor);
            let mut echo = [0; 5];
            neighbour.read_exact(&mut echo).unwrap();
            assert_eq!(&echo, b"hello");
        }
    }
}

#[test]
fn invariant_8_panic_in_post_or_timer_is_isolated() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let after = log.clone();
    reactor.context().call_later(Duration::ZERO, |_| panic!("a panic in call_later"));
    reactor.context().call_later(Duration::from_millis(1), move |_| after.note("later"));
    let handle = reactor.handle();
    handle.post(|_| panic!("a panic in a post")).unwrap();
    let token = reactor.context().token();
    handle.post(move |cx| assert_eq!(cx.token(), token)).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["later"]);
}

#[test]
fn invariant_8_fault_while_accepting_rejects_only_that_connection() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let mut count = 0;
    let listener = Listener::bind("127.0.0.1:0", move |_| {
        count += 1;
        match count {
            1 => panic!("a panic in handle_accepted"),
            2 => Err(io::Error::other("no")),
            _ => Ok(Echo),
        }
    })
    .unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    let token = reactor.add(listener).unwrap();
    for served in [false, false, true] {
        let mut peer = TcpStream::connect(addr).unwrap();
        peer.write_all(b"x").unwrap();
        turn_all(&mut reactor);
        let mut byte = [0];
        let echoed = peer.read(&mut byte);
        assert_eq!(matches!(echoed, Ok(1)), served, "{echoed:?}");
    }
    assert_eq!(reactor.get_mut::<Listener>(token).unwrap().rejected(), 2);
}

#[test]
fn invariant_8_panic_in_dropped_post_skips_no_handle_close() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a panic in drop");
        }
    }
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Probe::passive("a", &log)).unwrap()).unwrap();
    let bomb = Bomb;
    reactor.handle().post(move |_| drop(bomb)).unwrap();
    drop(reactor);
    assert_eq!(log.lines(), ["a close: shut down"]);
}

/// A dispatcher whose `source` panics.
struct NoSource;

impl Dispatcher for NoSource {
    fn source(&self) -> Source<'_> {
        panic!("a panic in source")
    }
}

/// A dispatcher that drops its source while it is open.
struct DropsSource(Option<LocalStream>, Log);

impl Dispatcher for DropsSource {
    fn source(&self) -> Source<'_> {
        Source::from(self.0.as_ref().expect("a panic in source"))
    }
    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        cx.deregister(self.source());
        self.0 = None; // not replaced by another source
        Ok(())
    }
    fn handle_close(&mut self, _: &mut Context, reason: &CloseReason) {
        self.1.note(reason.to_string());
    }
}

/// A dispatcher whose `is_background` panics.
struct NoGround;

impl Dispatcher for NoGround {
    fn source(&self) -> Source<'_> {
        Source::NONE
    }
    fn is_background(&self) -> bool {
        panic!("a panic in is_background")
    }
}

#[test]
fn invariant_8_panic_in_first_query_is_an_error_of_add() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let error = reactor.add(NoGround).unwrap_err();
    assert_eq!(error.to_string(), "a callback panicked: a panic in is_background");
    assert_eq!(reactor.context().channels().len(), 0);
}

/// A dispatcher whose `source` panics once urgent data has arrived.
#[cfg(target_os = "linux")] // poll(2) and epoll report urgent data
struct Urgent(TcpStream, Cell<bool>, Log);

#[cfg(target_os = "linux")]
impl Dispatcher for Urgent {
    fn source(&self) -> Source<'_> {
        assert!(!self.1.get(), "a panic in source");
        Source::from(&self.0)
    }
    fn handle_expt(&mut self, _: &mut Context) -> io::Result<()> {
        self.1.set(true);
        Ok(())
    }
    fn handle_close(&mut self, _: &mut Context, reason: &CloseReason) {
        self.2.note(reason.to_string());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn invariant_8_panic_in_source_after_urgent_data_closes_only_that_channel() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, neighbour) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    ours.set_nonblocking(true).unwrap();
    reactor.add(Urgent(ours, Cell::new(false), log.clone())).unwrap();
    SockRef::from(&theirs).send_out_of_band(b"!").unwrap();
    turn_until(&mut reactor, |_| log.has("a callback panicked: a panic in source"));
    assert_echo(&mut reactor, &neighbour);
}

#[test]
fn invariant_8_panic_in_source_closes_only_that_channel() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, neighbour) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let error = reactor.add(NoSource).unwrap_err();
    assert_eq!(error.to_string(), "a callback panicked: a panic in source");

    let (ours, mut theirs) = local_pair().unwrap();
    reactor.add(DropsSource(Some(ours), log.clone())).unwrap();
    theirs.write_all(b"x").unwrap();
    turn_until(&mut reactor, |_| log.has("a callback panicked: a panic in source"));
    assert_echo(&mut reactor, &neighbour);
}
