//! Invariant 6: an idle reactor never wakes.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use reactor::{Context, Dispatcher, Listener, OwnedDescriptor, Reactor, Source, Stream};
use socket2::{SockRef, Socket};

use crate::common::{
    Call, Echo, LocalStream, Log, Probe, assert_idle, local_pair, run, tcp_pair, turn_all,
    turn_until,
};

#[test]
fn invariant_6_idle_channels_cause_no_wakeup() {
    let mut reactor = Reactor::new().unwrap();
    reactor.add(Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap()).unwrap();
    let mut peers = Vec::new();
    for _ in 0..100 {
        let (ours, theirs) = local_pair().unwrap();
        peers.push(theirs);
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    }
    assert_idle(&mut reactor);
}

/// Both sides are shut down and the interest is empty. A level-triggered poller
/// would report the hang-up 400,000 times a second.
#[test]
fn invariant_6_hangup_without_interest_does_not_spin() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, theirs) = local_pair().unwrap();
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            io.pause();
            io.shutdown()?;
        }
        Ok(())
    });
    let token = reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    theirs.shutdown(Shutdown::Both).unwrap();
    assert_idle(&mut reactor);
    assert_eq!(log.lines(), ["a connect"]);
    // When it reads again it receives the end of input.
    reactor.get_mut::<Stream<Probe>>(token).unwrap().resume();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a eof", "a close: closed by the peer"]);
}

#[cfg(unix)] // Unix sockets: a hang-up
#[test]
fn invariant_6_hung_up_source_leaves_the_poller() {
    struct Deaf(LocalStream, Log);
    impl Dispatcher for Deaf {
        fn source(&self) -> Source<'_> {
            Source::from(&self.0)
        }
        fn readable(&self) -> bool {
            false
        }
        fn writable(&self) -> bool {
            // Register with an interest first; the test removes it later.
            !self.1.has("write")
        }
        fn handle_write(&mut self, _: &mut Context) -> io::Result<()> {
            self.1.note("write");
            Ok(())
        }
        fn handle_hangup(&mut self, _: &mut Context) -> io::Result<()> {
            self.1.note("hangup");
            Ok(())
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, theirs) = local_pair().unwrap();
    reactor.add(Deaf(ours, log.clone())).unwrap();
    turn_until(&mut reactor, |_| log.has("write"));
    drop(theirs);
    turn_until(&mut reactor, |_| log.has("hangup"));
    assert_idle(&mut reactor);
    assert_eq!(log.lines(), ["write", "hangup"]);
}

/// In asyncore one urgent byte caused 40,000 turns in 100 ms.
#[test]
fn invariant_6_urgent_data_is_reported_once_also_to_default_handler() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::passive("a", &log);
    reactor.add(Stream::connect([addr], probe)).unwrap();
    let (peer, _) = listener.accept().unwrap();
    // A second stream uses the default `handle_expt`.
    reactor.add(Stream::connect([addr], Echo)).unwrap();
    let (other, _) = listener.accept().unwrap();
    for peer in [&peer, &other] {
        SockRef::from(peer).send_out_of_band(b"!").unwrap();
    }
    turn_until(&mut reactor, |_| log.has("a expt 33"));
    assert_idle(&mut reactor);
    // Ordinary data still arrives.
    (&other).write_all(b"x").unwrap();
    turn_all(&mut reactor);
    let mut byte = [0];
    io::Read::read_exact(&mut (&other), &mut byte).unwrap();
    assert_eq!((byte, log.count("expt")), (*b"x", 1), "{:?}", log.lines());
}

/// Checks every state of the receiving stream.
#[test]
fn invariant_6_urgent_data_spins_in_no_state() {
    const STATES: [&str; 8] = [
        "open",
        "paused",
        "shut down",
        "lingering",
        "ended",
        "congested",
        "pauses in expt",
        "closes in expt",
    ];
    for (state, unix) in STATES.into_iter().flat_map(|state| [(state, false), (state, true)]) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (ours, theirs) = if unix {
            let (ours, theirs) = local_pair().unwrap();
            (OwnedDescriptor::from(ours), Socket::from(theirs))
        } else {
            let (ours, theirs) = tcp_pair();
            (OwnedDescriptor::from(ours), Socket::from(theirs))
        };
        let probe = Probe::new("a", &log, move |call, io| {
            match (call, state) {
                (Call::Connect, "paused") | (Call::Expt(_), "pauses in expt") => io.pause(),
                (Call::Connect, "shut down") => io.shutdown()?,
                (Call::Connect, "congested") => io.send(&vec![0; 10_000_000])?,
                (Call::Read(_), "lingering") | (Call::Expt(_), "closes in expt") => io.close(),
                _ => {}
            }
            Ok(())
        });
        if state == "lingering" {
            (&theirs).write_all(&vec![0; 100_000]).unwrap();
        }
        reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
        turn_all(&mut reactor);
        for _ in 0..3 {
            // The stream may be closed already.
            let _ = theirs.send_out_of_band(b"!");
            turn_all(&mut reactor);
        }
        if state == "ended" {
            theirs.shutdown(Shutdown::Write).unwrap();
            turn_all(&mut reactor);
        }
        let begin = Instant::now();
        let quiet = Duration::from_millis(30);
        reactor.turn(Some(quiet)).unwrap();
        assert!(begin.elapsed() >= quiet, "{state}, unix {unix}: {:?}", log.lines());
    }
}

#[test]
fn invariant_6_dispatcher_without_handlers_closes() {
    struct Bare(LocalStream);
    impl Dispatcher for Bare {
        fn source(&self) -> Source<'_> {
            Source::from(&self.0)
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = local_pair().unwrap();
    reactor.add(Bare(ours)).unwrap();
    theirs.write_all(b"x").unwrap();
    run(&mut reactor); // ends: the channel is closed
}

#[test]
fn turn_waits_at_most_its_limit() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let limit = Duration::from_millis(20);
    let begin = Instant::now();
    reactor.turn(Some(limit)).unwrap();
    assert!(begin.elapsed() >= limit);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    // Practically unlimited, without overflow; a post ends the wait.
    let handle = reactor.handle();
    handle.post(|_| {}).unwrap();
    reactor.turn(Some(Duration::MAX)).unwrap();
}
