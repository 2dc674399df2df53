//! Tests that need channels of other folders.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::rc::Rc;

use super::*;
use crate::reactor::timers::Expiry;
use crate::{Io, Limits, Listener, Protocol, Source, Stream};

/// Sends back what it gets, and closes at the end.
struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

fn turn(reactor: &mut Reactor) {
    for _ in 0..10 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

/// The mode of systems without level triggering: each event disarms its
/// source, and the reactor must state its interest again.
#[test]
fn events_that_disarm_their_source_are_armed_again() {
    let mut reactor = Reactor::with_poller(Poller::oneshot().unwrap()).unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    let mut peers: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for round in 0..100_u8 {
        for peer in &mut peers {
            peer.write_all(&[round]).unwrap();
        }
        turn(&mut reactor);
        for peer in &mut peers {
            let mut byte = [0];
            peer.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round]);
        }
    }

    // A flood that no kernel buffer takes at once, read late.
    let data = vec![7; 20_000_000];
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut theirs = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let (ours, _) = server.accept().unwrap();
    let limits = Limits { stall_timeout: None, ..Limits::default() };
    let mut stream = Stream::new(ours, Echo).unwrap().with_limits(limits);
    stream.send(&data).unwrap();
    stream.close();
    reactor.add(stream).unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).unwrap();
        got.len()
    });
    drop(peers);
    let handle = reactor.handle();
    let joined = std::thread::spawn(move || {
        let got = reader.join().unwrap();
        handle.stop().unwrap();
        got
    });
    reactor.run().unwrap();
    assert_eq!(joined.join().unwrap(), data.len());
}

/// A channel whose deadline has passed and stays so. Notes the order in which such
/// channels are called.
struct Overdue(Instant, Rc<RefCell<Vec<Token>>>);

impl Dispatcher for Overdue {
    fn source(&self) -> Source<'_> {
        Source::NONE
    }
    fn update_deadline(&mut self, _: &Context) -> Option<Instant> {
        Some(self.0)
    }
    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        self.1.borrow_mut().push(cx.token());
        Ok(())
    }
}

#[test]
fn invariant_7_deadlines_that_have_passed_take_turns() {
    let mut reactor = Reactor::new().unwrap();
    let called = Rc::default();
    let past = Instant::now();
    let mut add = || reactor.add(Overdue(past, Rc::clone(&called))).unwrap();
    let (first, second) = (add(), add());
    reactor.cx.settle_pending();
    reactor.cx.settle_pending();
    for _ in 0..3 {
        // As if there were time for only one in a turn.
        let now = Instant::now();
        let Some(Expiry::Deadline(token)) = reactor.cx.timers.pop_expired(now, NonZeroU64::MAX)
        else {
            panic!("a deadline has passed");
        };
        reactor.cx.on_deadline(token);
        reactor.cx.settle_pending();
    }
    assert_eq!(*called.borrow(), [first, second, first]);
}

#[test]
fn oneshot_connect_completes() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::with_poller(Poller::oneshot().unwrap()).unwrap();
    let mut stream = Stream::connect([server.local_addr().unwrap()], Echo);
    stream.send(b"hello").unwrap();
    stream.close();
    reactor.add(stream).unwrap();
    reactor.run().unwrap();
    assert_eq!(io::read_to_string(server.accept().unwrap().0).unwrap(), "hello");
}
