//! Invariant 12: a message in steady state costs no heap allocation. In a
//! process of its own, for its allocator counts.
#![allow(clippy::unwrap_used, reason = "a panic in a test is the report of a failure")]
#![allow(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use reactor::{Io, Limits, Listener, Protocol, Reactor};

thread_local! {
    /// Allocations of this thread: the test runner's own threads allocate too.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator. The
// counter is a plain thread-local `Cell`, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// 64 bytes there and back, `rounds` times over each peer.
fn echo(reactor: &mut Reactor, peers: &mut [TcpStream], rounds: u32) {
    let mut message = [7; 64];
    for _ in 0..rounds {
        for peer in &mut *peers {
            peer.write_all(&message).unwrap();
        }
        for peer in &mut *peers {
            // All is on loopback: what was written is there to be read.
            while peer.peek(&mut [0]).is_err() {
                reactor.turn(Some(Duration::from_millis(10))).unwrap();
            }
            peer.read_exact(&mut message).unwrap();
        }
    }
}

#[test]
fn invariant_12_an_echo_in_steady_state_allocates_nothing() {
    for idle_timeout in [None, Some(Duration::from_secs(3600))] {
        let mut reactor = Reactor::new().unwrap();
        let limits = Limits { idle_timeout, ..Limits::default() };
        let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap().limits(limits);
        let addr = listener.local_addr().as_inet().unwrap();
        reactor.add(listener).unwrap();
        let mut peers: Vec<_> = (0..10).map(|_| TcpStream::connect(addr).unwrap()).collect();
        for peer in &peers {
            peer.set_nonblocking(true).unwrap();
        }
        echo(&mut reactor, &mut peers, 100);

        let before = COUNT.get();
        echo(&mut reactor, &mut peers, 1_000);
        let allocations = COUNT.get() - before;
        assert_eq!(allocations, 0, "in 10,000 messages, idle timeout {idle_timeout:?}");
    }
    // The counter counts.
    let before = COUNT.get();
    drop(std::hint::black_box(vec![1]));
    assert_eq!(COUNT.get() - before, 1);
}
