//! The inbox: messages from other threads.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use reactor::{Context, Inbox, InboxSender, Reactor, SendError, Stream, inbox};

use crate::common::{
    Echo, assert_echo, assert_idle, local_pair, run, run_with, silence_panics, turn_all,
};

type Received = Rc<RefCell<Vec<u32>>>;

/// Creates an inbox whose handler appends to a list that is not `Send`.
fn list(capacity: usize) -> (InboxSender<u32>, Inbox<u32>, Received) {
    let received = Received::default();
    let list = Rc::clone(&received);
    let handler = move |_: &mut Context, message| {
        list.borrow_mut().push(message);
        Ok(())
    };
    let (sender, inbox) = inbox(capacity, handler);
    (sender, inbox, received)
}

#[test]
fn inbox_messages_of_one_thread_arrive_in_order() {
    const THREADS: u32 = 4;
    const MESSAGES: u32 = 10_000;
    let (sender, inbox, received) = list(usize::MAX);
    let mut reactor = Reactor::new().unwrap();
    reactor.add(inbox).unwrap();
    let threads: Vec<_> = (0..THREADS)
        .map(|me| {
            let sender = sender.clone();
            thread::spawn(move || {
                (0..MESSAGES).for_each(|n| sender.send(me * MESSAGES + n).unwrap());
            })
        })
        .collect();
    drop(sender);
    run(&mut reactor);
    for thread in threads {
        thread.join().unwrap();
    }
    let received = received.borrow();
    assert_eq!(received.len(), (THREADS * MESSAGES) as usize);
    for me in 0..THREADS {
        let own = received.iter().copied().filter(|message| message / MESSAGES == me);
        assert!(own.eq(me * MESSAGES..(me + 1) * MESSAGES), "thread {me}");
    }
}

#[test]
fn inbox_many_messages_cause_one_wakeup() {
    let (sender, inbox, received) = list(usize::MAX);
    let mut reactor = Reactor::new().unwrap();
    reactor.add(inbox).unwrap();
    turn_all(&mut reactor);
    let (turns, jobs) = (reactor.stats().turns, reactor.stats().jobs);
    (0..1_000).for_each(|n| sender.send(n).unwrap());
    reactor.turn(None).unwrap();
    assert_eq!(received.borrow().len(), 1_000, "all in one turn");
    assert_eq!((reactor.stats().turns - turns, reactor.stats().jobs - jobs), (1, 1));
    assert_idle(&mut reactor);
    // It notifies the channel again afterwards.
    sender.send(1_000).unwrap();
    reactor.turn(None).unwrap();
    assert_eq!(received.borrow().len(), 1_001);
}

#[test]
fn inbox_message_wakes_a_waiting_reactor() {
    let (acknowledge_tx, acknowledge_rx) = mpsc::channel();
    let (sender, inbox) = inbox(1, move |_: &mut Context, n: u32| {
        acknowledge_tx.send(n).unwrap();
        Ok(())
    });
    let mut reactor = Reactor::new().unwrap();
    reactor.add(inbox).unwrap();
    run_with(&mut reactor, move || {
        for n in 0..100 {
            sender.send(n).unwrap();
            assert_eq!(acknowledge_rx.recv(), Ok(n));
        }
    });
}

#[test]
fn inbox_full_queue_returns_the_message() {
    let (sender, inbox, received) = list(2);
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    let error = sender.send(3).unwrap_err();
    assert_eq!(error, SendError::Full(3));
    assert_eq!(
        (error.to_string(), format!("{error:?}")),
        ("the inbox is full".into(), "Full(..)".into())
    );
    let mut reactor = Reactor::new().unwrap();
    reactor.add(inbox).unwrap();
    turn_all(&mut reactor);
    assert_eq!(*received.borrow(), [1, 2], "sent before it was added");
    sender.send(3).unwrap();
    turn_all(&mut reactor);
    assert_eq!(*received.borrow(), [1, 2, 3]);
}

#[test]
fn inbox_closes_when_the_last_sender_is_dropped() {
    let (sender, inbox, received) = list(usize::MAX);
    let mut reactor = Reactor::new().unwrap();
    let token = reactor.add(inbox).unwrap();
    let other = sender.clone();
    drop(sender);
    turn_all(&mut reactor);
    assert!(reactor.get_mut::<Inbox<u32>>(token).is_some(), "one sender remains");
    other.send(7).unwrap();
    drop(other);
    run(&mut reactor);
    assert_eq!(*received.borrow(), [7], "messages are handled before the end");
    assert!(reactor.get_mut::<Inbox<u32>>(token).is_none());
    // Likewise if the last sender is dropped before the inbox is added.
    let (sender, inbox, received) = list(usize::MAX);
    sender.send(8).unwrap();
    drop(sender);
    reactor.add(inbox).unwrap();
    run(&mut reactor);
    assert_eq!(*received.borrow(), [8]);
}

#[test]
fn inbox_of_dropped_reactor_returns_the_message() {
    let (sender, inbox, _) = list(usize::MAX);
    let mut reactor = Reactor::new().unwrap();
    reactor.add(inbox).unwrap();
    turn_all(&mut reactor);
    sender.send(1).unwrap();
    drop(reactor);
    let error = sender.send(2).unwrap_err();
    assert_eq!(error, SendError::Closed(2));
    assert_eq!(error.to_string(), "the inbox is closed");

    let (sender, inbox, _) = list(usize::MAX);
    drop(inbox);
    assert_eq!(sender.send(1), Err(SendError::Closed(1)), "never added");
}

#[test]
fn inbox_closed_by_token_returns_the_message() {
    let (sender, inbox, received) = list(usize::MAX);
    let mut reactor = Reactor::new().unwrap();
    let token = reactor.add(inbox).unwrap();
    turn_all(&mut reactor);
    sender.send(1).unwrap();
    reactor.context().close(token);
    run(&mut reactor);
    assert_eq!(sender.send(2), Err(SendError::Closed(2)));
    assert!(received.borrow().is_empty());
}

#[test]
fn inbox_handler_failure_closes_only_the_inbox() {
    silence_panics();
    for fails_by_panic in [false, true] {
        let (sender, inbox) = inbox(usize::MAX, move |_: &mut Context, _: u32| {
            assert!(!fails_by_panic, "a panic in a handler");
            Err(io::Error::other("no"))
        });
        let mut reactor = Reactor::new().unwrap();
        let (ours, theirs) = local_pair().unwrap();
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
        reactor.add(inbox).unwrap();
        sender.send(1).unwrap();
        turn_all(&mut reactor);
        assert_eq!(sender.send(2), Err(SendError::Closed(2)));
        assert_echo(&mut reactor, &theirs);
    }
}

/// A handler that sends to its own inbox never empties the queue.
#[test]
fn inbox_flood_does_not_starve_io() {
    let own: Rc<RefCell<Option<InboxSender<()>>>> = Rc::default();
    let again = Rc::clone(&own);
    let (sender, inbox) = inbox(usize::MAX, move |_: &mut Context, ()| {
        again.borrow().as_ref().unwrap().send(()).unwrap();
        Ok(())
    });
    sender.send(()).unwrap();
    *own.borrow_mut() = Some(sender);
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    reactor.add(inbox).unwrap();
    let turns = reactor.stats().turns;
    assert_echo(&mut reactor, &theirs);
    let turns = reactor.stats().turns - turns;
    assert!(turns < 10, "{turns} turns");
}

#[test]
fn inbox_handler_may_close_its_own_channel() {
    let received = Received::default();
    let list = Rc::clone(&received);
    let (sender, inbox) = inbox(usize::MAX, move |cx: &mut Context, n| {
        list.borrow_mut().push(n);
        cx.close(cx.token());
        Ok(())
    });
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    let mut reactor = Reactor::new().unwrap();
    reactor.add(inbox).unwrap();
    run(&mut reactor);
    assert_eq!(*received.borrow(), [1], "no message follows");
    assert_eq!(sender.send(3), Err(SendError::Closed(3)));
}

#[test]
fn inbox_without_messages_does_not_wake_the_reactor() {
    let (_sender, inbox, _) = list(usize::MAX);
    let mut reactor = Reactor::new().unwrap();
    reactor.add(inbox).unwrap();
    assert_idle(&mut reactor);
    assert!(reactor.turn(Some(Duration::ZERO)).unwrap(), "it keeps the loop running");
}
