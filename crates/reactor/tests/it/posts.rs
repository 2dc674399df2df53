//! Invariant 11: posts from other threads, and signals.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use reactor::signal::{self, Signals};
use reactor::{Context, Handle, Reactor, ReactorClosed, Stream};

use crate::common::{
    Call, DEADLINE, Echo, LocalStream, Log, Probe, local_pair, run, run_with, turn_all, turn_until,
};

thread_local! {
    /// The values posted to the reactor of this thread.
    static SEEN: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn invariant_11_posts_of_one_thread_run_in_order() {
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
                    let job = move |_: &mut Context| {
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
fn invariant_11_many_posts_cause_one_wakeup() {
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
fn invariant_11_post_flood_does_not_starve_io() {
    /// Each post makes another one, so the queue is never empty.
    fn again(handle: &Handle) {
        let next = handle.clone();
        handle.post(move |_| again(&next)).unwrap();
    }
    let mut reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    theirs.write_all(b"x").unwrap();
    for _ in 0..5_000 {
        again(&reactor.handle());
    }
    // 5,000 posts are always queued, and 1,024 run per turn.
    reactor.turn(None).unwrap();
    reactor.turn(None).unwrap();
    theirs.set_nonblocking(true).unwrap();
    theirs.read_exact(&mut [0]).expect("echoed between the posts");
}

#[test]
fn invariant_11_post_wakes_unlimited_wait() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let handle = reactor.handle();
    let (ran_tx, ran_rx) = mpsc::channel();
    run_with(&mut reactor, move || {
        for _ in 0..100 {
            let ran_tx = ran_tx.clone();
            handle.post(move |_| ran_tx.send(()).unwrap()).unwrap();
            ran_rx.recv_timeout(DEADLINE).unwrap();
        }
    });
}

#[test]
fn invariant_11_post_to_dropped_reactor_is_rejected_and_dropped() {
    struct Posts(Handle, Arc<AtomicUsize>);
    impl Drop for Posts {
        fn drop(&mut self) {
            // Called from the reactor's destructor: rejected, no deadlock.
            assert_eq!(self.0.post(|_| {}), Err(ReactorClosed));
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
    assert_eq!(handle.stop(), Err(ReactorClosed));
    assert_eq!(ReactorClosed.to_string(), "the reactor has been dropped");
}

#[test]
fn invariant_11_post_from_the_loop_wakes_no_further_turn() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = local_pair().unwrap();
    let log = Log::default();
    let probe = Probe::new("a", &log, |call, io| {
        if matches!(call, Call::Read(_)) {
            io.context().handle().post(|_| {}).unwrap();
        }
        Ok(())
    });
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    turn_all(&mut reactor);
    theirs.write_all(b"x").unwrap();
    reactor.turn(None).unwrap();
    assert_eq!((log.count("read"), reactor.stats().jobs), (1, 1), "read, posted and run");
    let quiet = Duration::from_millis(100);
    let begin = Instant::now();
    reactor.turn(Some(quiet)).unwrap();
    assert!(begin.elapsed() >= quiet, "woken after {:?}", begin.elapsed());
}

/// On poll(2) a wait that starts with a pending wake-up checks no source.
#[test]
fn invariant_11_posts_from_timers_and_threads_do_not_starve_io() {
    fn again(cx: &mut Context) {
        cx.handle().post(|_| {}).unwrap();
        cx.call_later(Duration::ZERO, again);
    }
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    again(reactor.context());
    assert_echo_within_turns(&mut reactor, &theirs, 100);

    let handle = reactor.handle();
    let flood = thread::spawn(move || while handle.post(|_| {}).is_ok() {});
    for _ in 0..10 {
        assert_echo_within_turns(&mut reactor, &theirs, 1_000);
    }
    drop(reactor);
    flood.join().unwrap();
}

#[track_caller]
fn assert_echo_within_turns(reactor: &mut Reactor, mut peer: &LocalStream, most: u32) {
    peer.set_nonblocking(true).unwrap();
    peer.write_all(b"x").unwrap();
    let mut turns = 0;
    while peer.read(&mut [0]).is_err() {
        assert!(turns < most, "not served within {turns} turns");
        reactor.turn(None).unwrap();
        turns += 1;
    }
}

#[cfg(unix)] // the list of descriptors in /dev/fd
#[test]
fn handles_of_dropped_reactors_keep_no_descriptor() {
    let count = || std::fs::read_dir("/dev/fd").unwrap().count();
    let before = count();
    // Three descriptors each; the other tests of this process use fewer.
    let handles: Vec<_> = (0..3_000).map(|_| Reactor::new().unwrap().handle()).collect();
    let after = count();
    assert!(after < before + 5_000, "{before} descriptors before, {after} after");
    assert!(handles.iter().all(|handle| handle.stop() == Err(ReactorClosed)));
}

#[cfg(unix)] // signals by number
#[test]
fn signal_is_handled_by_the_loop() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let seen = log.clone();
    let signals = Signals::new(&[signal::SIGUSR1], move |cx, number| {
        assert_eq!(number, signal::SIGUSR1);
        seen.note("signal");
        cx.stop();
    });
    reactor.add(signals.unwrap()).unwrap();
    // A background channel does not keep the loop running.
    run(&mut reactor);
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    signal_hook::low_level::raise(signal::SIGUSR1).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["signal"]);
    assert!(Signals::new(&[9], |_, _| {}).is_err(), "SIGKILL cannot be caught");
}

/// `scripts/faults.sh` runs this one.
#[test]
#[ignore = "takes a while: scripts/faults.sh runs it"]
fn eight_million_posts_all_run() {
    const THREADS: usize = 8;
    const POSTS: usize = 1_000_000;
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let posting: Vec<_> = (0..THREADS)
        .map(|_| {
            let (handle, ran) = (reactor.handle(), Arc::clone(&ran));
            thread::spawn(move || {
                for _ in 0..POSTS {
                    let ran = Arc::clone(&ran);
                    let post = move |_: &mut _| {
                        ran.fetch_add(1, Ordering::Relaxed);
                    };
                    handle.post(post).unwrap();
                }
            })
        })
        .collect();
    while ran.load(Ordering::Relaxed) < THREADS * POSTS {
        reactor.turn(Some(DEADLINE)).unwrap();
    }
    for thread in posting {
        thread.join().unwrap();
    }
    let turns = reactor.stats().turns;
    eprintln!("lost 0 of {}, in {turns} turns", THREADS * POSTS);
}
