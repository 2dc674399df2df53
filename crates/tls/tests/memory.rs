//! How much memory a TLS connection uses. A separate process, because its allocator counts.
#![cfg(unix)] // polling allocates for each source on Windows
#![allow(clippy::unwrap_used, reason = "a panic in a test is the report of a failure")]

use std::cell::Cell;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Handle, Io, Listener, Protocol, Reactor, Stream, TimerId};
use test_certificates::Authority;
use testing::{CountingAllocator, DEADLINE};
use tls::{Client, ClientFiles, Server, ServerFiles};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// Pauses after each read.
struct SlowReader {
    received: Rc<Cell<usize>>,
}

impl Protocol for SlowReader {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.received.set(self.received.get() + data.len());
        io.pause();
        io.set_timer(Duration::from_millis(1));
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        io.resume();
        Ok(())
    }
}

/// Sends `message`, and reports the first reply.
struct Sender {
    message: Vec<u8>,
    replied: mpsc::Sender<()>,
}

impl Protocol for Sender {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.send(&self.message)
    }

    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        self.replied.send(()).map_err(io::Error::other)
    }
}

/// A server on the thread of the test, so that its allocations are counted.
struct World {
    authority: Authority,
    reactor: Reactor,
    addr: SocketAddr,
}

impl World {
    fn new<P: Protocol>(mut create: impl FnMut() -> P + 'static) -> Self {
        let authority = Authority::new();
        let files = authority.issue("server");
        let files = ServerFiles { cert: files.cert, key: files.key, ..ServerFiles::default() };
        let server = Server::from_files(files).unwrap();
        let mut reactor = Reactor::new().unwrap();
        let listener = Listener::bind("127.0.0.1:0", move |_| Ok(create())).unwrap();
        let addr = listener.local_addr().as_inet().unwrap();
        reactor.add(server.listen(listener)).unwrap();
        World { authority, reactor, addr }
    }

    /// Opens `count` connections on another thread, which each send `len` bytes.
    fn open(&self, count: usize, len: usize) -> (Receiver<()>, Handle) {
        let (replied, replied_rx) = mpsc::channel();
        let (handle_tx, handle_rx) = mpsc::channel();
        let (addr, ca) = (self.addr, Some(self.authority.ca()));
        thread::spawn(move || {
            let client = Client::from_files(&ClientFiles { ca, ..ClientFiles::default() }).unwrap();
            let mut reactor = Reactor::new().unwrap();
            for _ in 0..count {
                let sender = Sender { message: vec![7; len], replied: replied.clone() };
                let stream = Stream::connect([addr], sender);
                reactor.add(client.connect(stream, "localhost").unwrap()).unwrap();
            }
            handle_tx.send(reactor.handle()).unwrap();
            reactor.run().unwrap();
        });
        (replied_rx, handle_rx.recv().unwrap())
    }

    #[track_caller]
    fn turn_until(&mut self, mut done: impl FnMut(&mut Reactor) -> bool) {
        let begin = Instant::now();
        while !done(&mut self.reactor) {
            assert!(begin.elapsed() < DEADLINE, "condition not reached within {DEADLINE:?}");
            self.reactor.turn(Some(Duration::from_millis(5))).unwrap();
        }
    }

    /// Opens connections that echo once, and returns what ends them.
    fn echo(&mut self, count: usize) -> Handle {
        let (replied, handle) = self.open(count, 64);
        let mut count_replied = 0;
        self.turn_until(|_| {
            count_replied += replied.try_iter().count();
            count_replied == count
        });
        handle
    }

    /// Opens connections that send `start` of a handshake.
    fn half_open(&mut self, count: usize, start: &[u8]) -> Vec<TcpStream> {
        let received = self.reactor.stats().received + (count * start.len()) as u64;
        let accepted = self.reactor.stats().accepted + count as u64;
        let mut peers = Vec::with_capacity(count);
        for _ in 0..count {
            let mut peer = TcpStream::connect(self.addr).unwrap();
            peer.write_all(start).unwrap();
            peers.push(peer);
            self.reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        self.turn_until(|reactor| {
            let stats = reactor.stats();
            (stats.received, stats.accepted) == (received, accepted)
        });
        peers
    }
}

/// Returns how much one of 128 connections adds to the memory. Together with the listener,
/// those before them fill the table of channels.
fn each<T>(world: &mut World, mut open: impl FnMut(&mut World, usize) -> T) -> i64 {
    let first = open(world, 127);
    let before = CountingAllocator::held();
    let more = open(world, 128);
    let each = (CountingAllocator::held() - before) / 128;
    drop((first, more));
    each
}

#[test]
fn idle_connection_uses_little_memory() {
    let mut world = World::new(|| Echo);
    let mut handles = Vec::with_capacity(2);
    let each = each(&mut world, |world, count| handles.push(world.echo(count)));
    println!("{each} bytes per idle connection");
    assert!(each < 4300, "{each} bytes");
    for handle in handles {
        handle.stop().unwrap();
    }
}

#[test]
fn half_open_handshake_uses_little_memory() {
    // The start of a `ClientHello` of 512 bytes.
    for start in [&b""[..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]] {
        let mut world = World::new(|| Echo);
        let each = each(&mut world, |world, count| world.half_open(count, start));
        println!("{each} bytes per handshake of which {} arrived", start.len());
        assert!(each < 3000, "{each} bytes");
    }
}

/// The buffer that a busy connection has used is not kept by one that waits.
#[test]
fn half_open_handshake_keeps_no_buffer_of_others() {
    const ROUNDS: i64 = 8;
    let mut world = World::new(|| Echo);
    let mut kept = Vec::new();
    let mut round = |world: &mut World| {
        let (replied, handle) = world.open(1, 60_000);
        world.turn_until(|_| replied.try_recv().is_ok());
        kept.push((handle, world.half_open(1, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])));
    };
    round(&mut world);
    let before = CountingAllocator::held();
    for _ in 0..ROUNDS {
        round(&mut world);
    }
    let each = (CountingAllocator::held() - before) / ROUNDS;
    println!("{each} bytes per connection and handshake");
    assert!(each < 30_000, "{each} bytes");
    for (handle, _) in kept {
        handle.stop().unwrap();
    }
}

#[test]
fn input_is_bounded_while_the_protocol_does_not_read() {
    const LEN: usize = 4 << 20;
    let received = Rc::new(Cell::new(0));
    let count = Rc::clone(&received);
    let mut world = World::new(move || SlowReader { received: Rc::clone(&count) });
    // The first one also fills what all connections share.
    let (_, first) = world.open(1, LEN);
    world.turn_until(|_| received.get() == LEN);
    let (_, second) = world.open(1, LEN);
    let before = CountingAllocator::held();
    CountingAllocator::reset_peak();
    world.turn_until(|_| received.get() == 2 * LEN);
    let more = CountingAllocator::peak() - before;
    println!("{more} bytes while {LEN} arrived");
    assert!(more < 120 * 1024, "{more} bytes");
    for handle in [first, second] {
        handle.stop().unwrap();
    }
}
