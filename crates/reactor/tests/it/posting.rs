//! Invariant 11: posts from other threads, and signals.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use reactor::signal::{self, Signals};
use reactor::{Gone, Handle, Reactor, Stream};

use crate::common::{DEADLINE, Echo, Log, run, run_with, turn_all, turn_until};

thread_local! {
    /// What the posts of one reactor, on this thread, have brought.
    static SEEN: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn invariant_11_posts_all_run_in_the_order_of_their_thread() {
    const THREADS: usize = 8;
    const POSTS: u32 = 10_000;
    let mut reactor = Reactor::new().unwrap();
    SEEN.with_borrow_mut(|seen| *seen = vec![Vec::new(); THREADS]);
    let done = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|me| {
            let handle = reactor.handle();
            let done = Arc::clone(&done);
            thread::spawn(move || {
                for number in 0..POSTS {
                    let done = Arc::clone(&done);
                    let job = move |_: &mut reactor::Context| {
                        SEEN.with_borrow_mut(|seen| seen[me].push(number));
                        done.fetch_add(1, Ordering::Relaxed);
                    };
                    handle.post(job).unwrap();
                }
            })
        })
        .collect();
    let all = THREADS * POSTS as usize;
    let mut turns = 0;
    turn_until(&mut reactor, |_| {
        turns += 1;
        done.load(Ordering::Relaxed) == all
    });
    for thread in threads {
        thread.join().unwrap();
    }
    let expected: Vec<u32> = (0..POSTS).collect();
    SEEN.with_borrow(|seen| assert!(seen.iter().all(|posts| *posts == expected)));
}

#[test]
fn invariant_11_many_posts_are_one_wake_up() {
    let mut reactor = Reactor::new().unwrap();
    let log = Arc::new(AtomicUsize::new(0));
    for _ in 0..1_000 {
        let log = Arc::clone(&log);
        reactor
            .handle()
            .post(move |_| {
                log.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
    }
    reactor.turn(None).unwrap();
    assert_eq!(log.load(Ordering::Relaxed), 1_000, "all in one turn");
    crate::common::assert_idle(&mut reactor);
}

#[test]
fn invariant_11_a_flood_of_posts_does_not_starve_io() {
    /// Each post posts more, and so there are always some.
    fn again(handle: &Handle) {
        let next = handle.clone();
        handle.post(move |_| again(&next)).unwrap();
    }
    let mut reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    theirs.write_all(b"x").unwrap();
    for _ in 0..5_000 {
        again(&reactor.handle());
    }
    // 5,000 posts wait at any time, and 1,024 run in a turn.
    reactor.turn(None).unwrap();
    reactor.turn(None).unwrap();
    theirs.set_nonblocking(true).unwrap();
    theirs.read_exact(&mut [0]).expect("served in between");
}

#[test]
fn invariant_11_a_post_wakes_a_wait_without_end() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let handle = reactor.handle();
    let (told, tell) = mpsc::channel();
    run_with(&mut reactor, move || {
        for _ in 0..100 {
            let told = told.clone();
            handle.post(move |_| told.send(()).unwrap()).unwrap();
            tell.recv_timeout(DEADLINE).unwrap();
        }
    });
}

#[test]
fn invariant_11_a_post_to_a_reactor_that_is_gone_is_refused_and_dropped() {
    struct Posts(Handle, Arc<AtomicUsize>);
    impl Drop for Posts {
        fn drop(&mut self) {
            // From within the reactor's own destructor: refused, no deadlock.
            assert_eq!(self.0.post(|_| {}), Err(Gone));
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let reactor = Reactor::new().unwrap();
    let handle = reactor.handle();
    let dropped = Arc::new(AtomicUsize::new(0));
    let owned = Posts(handle.clone(), Arc::clone(&dropped));
    handle.post(move |_| drop(owned)).unwrap();
    drop(reactor);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    assert_eq!(handle.stop(), Err(Gone));
    assert_eq!(Gone.to_string(), "the reactor is gone");
}

#[test]
fn a_signal_is_an_event_of_the_loop() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let seen = log.clone();
    let signals = Signals::new([signal::SIGUSR1], move |cx, number| {
        assert_eq!(number, signal::SIGUSR1);
        seen.note("signal");
        cx.stop();
    });
    reactor.add(signals.unwrap()).unwrap();
    // A background channel: alone it does not keep the loop.
    run(&mut reactor);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    signal_hook::low_level::raise(signal::SIGUSR1).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["signal"]);
    assert!(Signals::new([9], |_, _| {}).is_err(), "SIGKILL cannot be caught");
}
