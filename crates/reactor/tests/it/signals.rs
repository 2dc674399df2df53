//! Signals as events of the loop.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;

use nix::sys::signal::{SigSet, Signal, raise};
use reactor::Reactor;
use reactor::signal::{SIGINT, SIGTERM, SIGUSR2, Signals};

use crate::common::{Log, turn_until};

#[test]
fn number_out_of_range_is_an_error() {
    for signal in [i32::MIN, -1, 0, 65, 127, 128, 4096, i32::MAX] {
        let error = Signals::new(&[SIGUSR2, signal], |_, _| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{signal}");
        assert!(error.to_string().contains(&format!("signal {signal} ")), "{error}");
    }
}

/// A parent may start a program with signals blocked, for example `nohup`-like
/// wrappers and job runners.
#[test]
fn signal_that_was_inherited_blocked_arrives() {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGUSR2);
    mask.thread_block().unwrap();
    // To this thread, and pending before a handler exists.
    raise(Signal::SIGUSR2).unwrap();

    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let seen = log.clone();
    let handler = move |_: &mut reactor::Context, signal: i32| seen.note(signal.to_string());
    reactor.add(Signals::new(&[SIGUSR2], handler).unwrap()).unwrap();
    turn_until(&mut reactor, |_| log.has(&SIGUSR2.to_string()));
}

#[test]
fn termination_is_requested_by_two_signals() {
    let requests = Rc::new(Cell::new(0));
    let counter = Rc::clone(&requests);
    let mut reactor = Reactor::new().unwrap();
    let signals = Signals::termination(move |_| counter.set(counter.get() + 1)).unwrap();
    reactor.add(signals).unwrap();
    for (sent, signal) in [SIGINT, SIGTERM].into_iter().enumerate() {
        signal_hook::low_level::raise(signal).unwrap();
        turn_until(&mut reactor, |_| requests.get() == sent + 1);
    }
}
