//! A reactor within another loop: its descriptor, its next deadline, and
//! single turns.

use std::time::{Duration, Instant};

use reactor::{Reactor, Stream};

use crate::common::{Echo, Log, Probe, local_pair, turn_all, turn_until};

#[test]
fn next_deadline_is_that_of_the_next_timer() {
    let mut reactor = Reactor::new().unwrap();
    assert_eq!(reactor.next_deadline(), None);
    let before = Instant::now();
    let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
    let late = reactor.context().call_later(hour, |_| {});
    let early = reactor.context().call_later(minute, |_| {});
    let range = |after| before + after..=Instant::now() + after;
    assert!(range(minute).contains(&reactor.next_deadline().unwrap()));
    assert!(reactor.context().cancel(early));
    assert!(range(hour).contains(&reactor.next_deadline().unwrap()));
    assert!(reactor.context().cancel(late));
    assert_eq!(reactor.next_deadline(), None);
}

/// Asserts that the next deadline is not in the future.
#[track_caller]
fn assert_due(reactor: &Reactor, because: &str) {
    let due = reactor.next_deadline();
    assert!(due.is_some_and(|due| due <= Instant::now()), "{because}: {due:?}");
}

#[test]
fn next_deadline_is_past_when_work_is_pending() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = local_pair().unwrap();
    let token = reactor.add(Stream::new(ours, Probe::passive("a", &log)).unwrap()).unwrap();
    assert_due(&reactor, "a channel was added");
    turn_all(&mut reactor);
    assert_eq!(reactor.next_deadline(), None, "no work remains");

    reactor.get_mut::<Stream<Probe>>(token).unwrap();
    assert_due(&reactor, "a channel was accessed");
    turn_all(&mut reactor);
    assert_eq!(reactor.next_deadline(), None);

    for _ in 0..2_000 {
        reactor.handle().post(|_| {}).unwrap();
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_due(&reactor, "not all posts ran in one turn");
    turn_all(&mut reactor);
    assert_eq!(reactor.next_deadline(), None);

    reactor.context().call_later(Duration::ZERO, |cx| {
        // Runs late in the turn, after the posts.
        let handle = cx.handle();
        cx.handle().post(move |_| handle.post(|_| {}).unwrap()).unwrap();
    });
    assert_due(&reactor, "a timer");
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_due(&reactor, "a post made by a post");
    turn_all(&mut reactor);
    assert_eq!(reactor.next_deadline(), None);

    reactor.context().close(token);
    assert_due(&reactor, "a channel is to be closed");
    turn_all(&mut reactor);
    reactor.context().stop();
    assert_due(&reactor, "a stop");
    turn_all(&mut reactor);
    assert_eq!(reactor.next_deadline(), None);
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
}

#[test]
fn next_deadline_is_past_when_a_drain_is_pending() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    reactor.context().drain(Duration::MAX);
    assert_due(&reactor, "no channel was notified yet");
    turn_all(&mut reactor);
    assert_eq!(reactor.next_deadline(), None, "the drain has no deadline");
}

/// The timeout of a drain is a deadline too.
#[test]
fn next_deadline_includes_the_drain() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    reactor.context().drain(Duration::from_secs(3600));
    turn_all(&mut reactor);
    assert!(reactor.next_deadline().unwrap() > Instant::now() + Duration::from_secs(3500));
}

/// Two reactors alternate on one thread; they share nothing.
#[test]
fn two_reactors_on_one_thread_are_independent() {
    let (mut one, mut other) = (Reactor::new().unwrap(), Reactor::new().unwrap());
    let (ours, theirs) = local_pair().unwrap();
    let log = Log::default();
    let token = one.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let client = other.add(Stream::new(theirs, Probe::passive("a", &log)).unwrap()).unwrap();
    turn_all(&mut one);
    turn_all(&mut other);
    other.get_mut::<Stream<Probe>>(client).unwrap().send(b"hello").unwrap();
    turn_until(&mut one, |reactor| {
        other.turn(Some(Duration::ZERO)).unwrap();
        reactor.stats().sent == 5
    });
    turn_until(&mut other, |_| log.has("a read 5"));
    assert!(other.get_mut::<Stream<Echo>>(token).is_none());
    one.close_all();
    assert!(other.get_mut::<Stream<Probe>>(client).is_some());
}

#[cfg(all(unix, not(polling_test_poll_backend)))] // a reactor as a source
mod by_descriptor {
    use std::io::{self, Read, Write};
    use std::thread;

    use reactor::{Context, Dispatcher, Handle};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::common::{Call, DEADLINE, assert_idle, run};

    /// Waits as another loop would. Returns `true` if the descriptor is ready.
    fn wait(reactor: &Reactor, most: Duration) -> bool {
        let until = [reactor.next_deadline(), Instant::now().checked_add(most)];
        let until = until.into_iter().flatten().min().unwrap();
        // Round up: late by a millisecond rather than early.
        let timeout = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(timeout).unwrap();
        let mut sources = [PollFd::from_borrowed_fd(reactor.source().fd().unwrap(), PollFlags::IN)];
        poll(&mut sources, Some(&timeout)).unwrap() > 0
    }

    fn turn(reactor: &mut Reactor) -> bool {
        reactor.turn(Some(Duration::ZERO)).unwrap()
    }

    #[test]
    fn descriptor_is_readable_when_a_source_is_ready() {
        let mut reactor = Reactor::new().unwrap();
        let (ours, mut theirs) = local_pair().unwrap();
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
        assert!(!wait(&reactor, DEADLINE), "a new channel makes a deadline, not an event");
        turn_all(&mut reactor);
        for _ in 0..3 {
            assert!(!wait(&reactor, Duration::from_millis(10)));
            theirs.write_all(b"x").unwrap();
            assert!(wait(&reactor, DEADLINE));
            assert!(turn(&mut reactor));
            theirs.read_exact(&mut [0]).unwrap();
        }
        // All events are served and the descriptor is not readable.
        assert!(!wait(&reactor, Duration::from_millis(50)));
    }

    #[test]
    fn descriptor_is_readable_when_a_post_is_pending() {
        let mut reactor = Reactor::new().unwrap();
        for turns in 0..3 {
            let handle = reactor.handle();
            thread::spawn(move || handle.post(|_| {}).unwrap()).join().unwrap();
            assert!(wait(&reactor, DEADLINE), "after {turns} turns");
            turn(&mut reactor);
            assert_eq!(reactor.stats().jobs, turns + 1);
            assert!(!wait(&reactor, Duration::from_millis(10)), "once");
        }
    }

    /// Sockets, a timer and posts from another thread together.
    #[test]
    fn custom_loop_drives_a_reactor() {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (ours, mut theirs) = local_pair().unwrap();
        let probe = Probe::new("a", &log, |call, io| match call {
            Call::Read(data) => io.send(data),
            Call::Eof => {
                io.set_timer(Duration::from_millis(20));
                Ok(())
            }
            Call::Timer => {
                io.close();
                Ok(())
            }
            _ => Ok(()),
        });
        reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
        let handle = reactor.handle();
        let peer = thread::spawn(move || {
            for _ in 0..100 {
                theirs.write_all(b"x").unwrap();
                theirs.read_exact(&mut [0]).unwrap();
                handle.post(|_| {}).unwrap();
            }
        });
        let begin = Instant::now();
        let mut turns = 0_u64;
        while turn(&mut reactor) {
            turns += 1;
            wait(&reactor, DEADLINE);
            assert!(begin.elapsed() < DEADLINE, "{:?}", log.lines().last());
        }
        peer.join().unwrap();
        assert_eq!(reactor.stats().jobs, 100);
        assert_eq!((log.count("read"), log.count("timer")), (100, 1));
        assert!(turns < 1_000, "{turns} turns");
    }

    /// A reactor as a channel of another reactor.
    struct Inner {
        reactor: Reactor,
        log: Log,
    }

    impl Inner {
        fn turn(&mut self, cx: &mut Context) {
            self.log.note("turn");
            if !turn(&mut self.reactor) {
                cx.close(cx.token());
            }
        }
    }

    impl Dispatcher for Inner {
        fn source(&self) -> reactor::Source<'_> {
            self.reactor.source()
        }
        fn update_deadline(&mut self, _: &Context) -> Option<Instant> {
            self.reactor.next_deadline()
        }
        fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
            self.turn(cx);
            Ok(())
        }
        fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
            self.turn(cx);
            Ok(())
        }
    }

    #[test]
    fn reactor_drives_another_reactor() {
        let (inner_log, log) = (Log::default(), Log::default());
        let mut inner = Reactor::new().unwrap();
        let (ours, mut theirs) = local_pair().unwrap();
        let probe = Probe::new("a", &inner_log, |call, io| {
            match call {
                Call::Read(b"timer") => drop(io.set_timer(Duration::from_millis(5))),
                Call::Read(_) => io.send(b"x")?,
                Call::Timer => io.send(b"t")?,
                Call::Eof => io.close(),
                _ => {}
            }
            Ok(())
        });
        inner.add(Stream::new(ours, probe).unwrap()).unwrap();
        let handle: Handle = inner.handle();

        let mut outer = Reactor::new().unwrap();
        outer.add(Inner { reactor: inner, log: log.clone() }).unwrap();
        turn_until(&mut outer, |_| inner_log.has("a connect"));
        assert_idle(&mut outer);

        theirs.set_nonblocking(true).unwrap();
        let mut answer = [0];
        for (question, expected) in [("hello", b"x"), ("timer", b"t")] {
            theirs.write_all(question.as_bytes()).unwrap();
            turn_until(&mut outer, |_| theirs.read_exact(&mut answer).is_ok());
            assert_eq!(&answer, expected);
        }
        let posted = thread::spawn(move || handle.post(|_| {}).map(|()| handle));
        let turns = log.lines().len();
        turn_until(&mut outer, |_| log.lines().len() > turns);
        posted.join().unwrap().unwrap();
        assert_idle(&mut outer);
        drop(theirs);
        run(&mut outer); // ends with the inner reactor
        assert_eq!(inner_log.lines().last().unwrap(), "a close: closed by the peer");
        let turns = log.lines().len();
        assert!(turns < 40, "{turns} turns of the inner reactor");
    }
}
