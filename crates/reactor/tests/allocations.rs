//! Invariant 12: a message in steady state allocates nothing, and an idle
//! connection uses little memory. A separate process, because its allocator
//! counts.
#![allow(clippy::unwrap_used, reason = "a panic in a test is the report of a failure")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use reactor::{Io, Limits, Listener, Protocol, Reactor};
use testing::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// Creates an echo server; returns its reactor and address.
fn server(idle_timeout: Option<Duration>) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new().unwrap();
    let limits = Limits { idle_timeout, ..Limits::default() };
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap().with_limits(limits);
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    (reactor, addr)
}

/// Echoes 64 bytes `rounds` times over each peer.
fn echo(reactor: &mut Reactor, peers: &mut [TcpStream], rounds: u32) {
    let mut message = [7; 64];
    for _ in 0..rounds {
        for peer in &mut *peers {
            peer.write_all(&message).unwrap();
        }
        for peer in &mut *peers {
            // On loopback, written data is readable at once.
            while peer.peek(&mut [0]).is_err() {
                reactor.turn(Some(Duration::from_millis(10))).unwrap();
            }
            peer.read_exact(&mut message).unwrap();
        }
    }
}

/// Accepts `count` connections, one after another.
fn accept(reactor: &mut Reactor, addr: SocketAddr, count: u64) -> Vec<TcpStream> {
    let connect = |_| {
        let accepted = reactor.stats().accepted;
        let peer = TcpStream::connect(addr).unwrap();
        peer.set_nonblocking(true).unwrap();
        while reactor.stats().accepted == accepted {
            reactor.turn(Some(Duration::from_millis(10))).unwrap();
        }
        peer
    };
    (0..count).map(connect).collect()
}

#[test]
// With poll(2) the `polling` crate keeps a separate list.
#[cfg(unix)] // polling allocates for each source on Windows
#[cfg(all(target_pointer_width = "64", not(polling_test_poll_backend)))]
fn idle_connection_uses_little_memory() {
    for (idle_timeout, max) in [(None, 120), (Some(Duration::from_secs(3600)), 160)] {
        let (mut reactor, addr) = server(idle_timeout);
        // Together with the listener a power of two, so that the table of
        // channels is full before and after.
        let mut first = accept(&mut reactor, addr, 127);
        echo(&mut reactor, &mut first, 1);
        let before = CountingAllocator::held();
        let mut more = accept(&mut reactor, addr, 128);
        echo(&mut reactor, &mut more, 1);
        let own = i64::try_from(more.capacity() * size_of::<TcpStream>()).unwrap();
        let each = (CountingAllocator::held() - before - own) / 128;
        println!("{each} bytes per connection, idle timeout {idle_timeout:?}");
        assert!(each <= max, "{each} bytes per connection, idle timeout {idle_timeout:?}");
    }
}

#[test]
fn invariant_12_echo_in_steady_state_allocates_nothing() {
    for idle_timeout in [None, Some(Duration::from_secs(3600))] {
        let (mut reactor, addr) = server(idle_timeout);
        let mut peers = accept(&mut reactor, addr, 10);
        echo(&mut reactor, &mut peers, 100);

        let before = CountingAllocator::count();
        echo(&mut reactor, &mut peers, 1_000);
        let allocations = CountingAllocator::count() - before;
        assert_eq!(allocations, 0, "in 10,000 messages, idle timeout {idle_timeout:?}");
    }
    // Check that the counter works.
    let before = CountingAllocator::count();
    drop(std::hint::black_box(vec![1]));
    assert_eq!(CountingAllocator::count() - before, 1);
}
