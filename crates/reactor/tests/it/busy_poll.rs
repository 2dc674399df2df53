//! Busy polling: it changes no behaviour, and it stops when idle.

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Reactor, Stream};

use crate::common::{Echo, assert_idle, local_pair, run, run_with, turn_until};

fn busy_polling() -> Reactor {
    Reactor::builder().busy_poll(Duration::from_micros(200)).build().unwrap()
}

#[test]
fn busy_poll_serves_immediate_and_late_messages() {
    let mut reactor = busy_polling();
    let (ours, mut theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    // Messages arrive at once, during the busy poll, and after it.
    run_with(&mut reactor, move || {
        for round in 0..300_u64 {
            thread::sleep(Duration::from_micros(round % 7 * 50));
            let message = round.to_be_bytes();
            theirs.write_all(&message).unwrap();
            let mut answer = [0; 8];
            theirs.read_exact(&mut answer).unwrap();
            assert_eq!(answer, message);
        }
    });
}

#[test]
fn invariant_6_busy_poll_sleeps_when_idle() {
    let mut reactor = busy_polling();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    assert_idle(&mut reactor);
}

#[test]
fn invariant_10_busy_poll_fires_timers_on_time() {
    let mut reactor = busy_polling();
    let ran = Rc::new(Cell::new(0));
    for after in [0, 50, 150, 500, 3_000, 20_000].map(Duration::from_micros) {
        let (set, ran) = (Instant::now(), Rc::clone(&ran));
        reactor.context().call_later(after, move |_| {
            assert!(set.elapsed() >= after, "early: {:?} of {after:?}", set.elapsed());
            ran.set(ran.get() + 1);
        });
    }
    run(&mut reactor);
    assert_eq!(ran.get(), 6);
}

#[test]
fn invariant_11_post_reaches_polling_and_sleeping_loop() {
    let mut reactor = busy_polling();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    for pause in [0, 100, 20_000].map(Duration::from_micros) {
        let handle = reactor.handle();
        let jobs = reactor.stats().jobs;
        let posting = thread::spawn(move || {
            thread::sleep(pause);
            handle.post(|_| {}).unwrap();
        });
        turn_until(&mut reactor, |reactor| reactor.stats().jobs > jobs);
        posting.join().unwrap();
    }
}
