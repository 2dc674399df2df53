//! The cost of a turn without TCP: over socket pairs, on one thread. Run with
//! `cargo bench --package reactor`.
#![allow(clippy::unwrap_used, reason = "a panic reports why a benchmark cannot run")]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use divan::Bencher;
use reactor::{Io, Protocol, Reactor, Stream};

fn main() {
    divan::main();
}

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// Creates a reactor with `count` streams; returns it and their peers.
fn with_streams(count: usize) -> (Reactor, Vec<UnixStream>) {
    // Two descriptors each, and some others.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    let mut reactor = Reactor::new().unwrap();
    let mut peers = Vec::new();
    for _ in 0..count {
        let (ours, theirs) = UnixStream::pair().unwrap();
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
        peers.push(theirs);
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    (reactor, peers)
}

/// One event with this many registered channels: the cost should not change.
#[divan::bench(args = [1, 1_000, 9_000])]
fn echo_with_others_idle(bencher: Bencher<'_, '_>, registered: usize) {
    let (mut reactor, mut peers) = with_streams(registered);
    let mut message = [7; 64];
    bencher.bench_local(|| {
        peers[0].write_all(&message).unwrap();
        reactor.turn(None).unwrap();
        peers[0].read_exact(&mut message).unwrap();
    });
}

/// This many events in one turn.
#[divan::bench(args = [64])]
fn echo_of_all(bencher: Bencher<'_, '_>, ready: usize) {
    let (mut reactor, mut peers) = with_streams(ready);
    let mut message = [7; 64];
    bencher.counter(divan::counter::ItemsCount::new(ready)).bench_local(|| {
        for peer in &mut peers {
            peer.write_all(&message).unwrap();
        }
        reactor.turn(None).unwrap();
        for peer in &mut peers {
            peer.read_exact(&mut message).unwrap();
        }
    });
}

/// A turn in which nothing is ready.
#[divan::bench]
fn empty_turn(bencher: Bencher<'_, '_>) {
    let (mut reactor, _peers) = with_streams(1);
    bencher.bench_local(|| reactor.turn(Some(Duration::ZERO)).unwrap());
}

/// A timer set and cancelled, among this many others.
#[divan::bench(args = [0, 100_000])]
fn timer_set_and_cancelled(bencher: Bencher<'_, '_>, others: u32) {
    let mut reactor = Reactor::new().unwrap();
    let cx = reactor.context();
    for number in 0..others {
        cx.call_later(Duration::from_secs(3600) + Duration::from_nanos(number.into()), |_| {});
    }
    bencher.bench_local(|| {
        let timer = cx.call_later(Duration::from_secs(60), |_| {});
        assert!(cx.cancel(timer));
    });
}

/// This many posts, run in one turn.
#[divan::bench(args = [1, 1_000])]
fn posts(bencher: Bencher<'_, '_>, count: usize) {
    let (mut reactor, _peers) = with_streams(1);
    let handle = reactor.handle();
    bencher.counter(divan::counter::ItemsCount::new(count)).bench_local(|| {
        for _ in 0..count {
            handle.post(|_| {}).unwrap();
        }
        reactor.turn(None).unwrap();
    });
}
