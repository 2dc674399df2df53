//! Input that was changed at random, in random pieces: an error at most, never a panic.

use std::io::{Read, Write};
use std::net::Shutdown;

use proptest::prelude::*;
use reactor::{Reactor, Stream};
use testing::{fuzz, local_pair};

use crate::common::{Log, Probe, World, turn_until};

/// What is done to the bytes of a handshake.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Remove(usize, usize),
    Insert(usize, Vec<u8>),
    Truncate(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let bytes = prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        6 => (0..600_usize, any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => (0..600_usize, 1..50_usize).prop_map(|(at, len)| Change::Remove(at, len)),
        1 => (0..600_usize, bytes).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (0..600_usize).prop_map(Change::Truncate),
    ]
}

fn apply(data: &mut Vec<u8>, change: Change) {
    match change {
        Change::Set(at, byte) => {
            if let Some(target) = data.get_mut(at) {
                *target = byte;
            }
        }
        Change::Remove(at, len) => {
            let start = at.min(data.len());
            data.drain(start..(at + len).min(data.len()));
        }
        Change::Insert(at, bytes) => {
            let at = at.min(data.len());
            data.splice(at..at, bytes);
        }
        Change::Truncate(len) => data.truncate(len),
    }
}

/// Returns the first flight of a client.
fn client_hello(world: &World) -> Vec<u8> {
    let (mut theirs, ours) = local_pair().unwrap();
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let stream = Stream::new(ours, Probe::echo("client", &log)).unwrap();
    reactor.add(world.client.connect(stream, "localhost").unwrap()).unwrap();
    for _ in 0..3 {
        reactor.turn(Some(std::time::Duration::ZERO)).unwrap();
    }
    drop(reactor);
    let mut hello = Vec::new();
    theirs.read_to_end(&mut hello).unwrap();
    hello
}

/// Sends pieces to a new end of a connection, and returns its log.
fn deliver(world: &World, is_server: bool, pieces: Vec<&[u8]>) -> Vec<String> {
    let (mut theirs, ours) = local_pair().unwrap();
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let stream = Stream::new(ours, Probe::echo("end", &log)).unwrap();
    let filter = if is_server { world.server.filter() } else { world.client.filter("localhost") };
    reactor.add(stream.with_filter(filter.unwrap())).unwrap();
    for piece in pieces {
        // Fails once the end has closed.
        let _ = theirs.write_all(piece);
        reactor.turn(Some(std::time::Duration::ZERO)).unwrap();
    }
    let _ = theirs.shutdown(Shutdown::Write);
    // What it replies must not block it.
    std::thread::spawn(move || theirs.read_to_end(&mut Vec::new()));
    turn_until(&mut reactor, || log.get("end close:").is_some());
    log.lines()
}

fn split(data: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
    for cut in &mut cuts {
        *cut %= data.len() + 1;
    }
    cuts.sort_unstable();
    let ends = cuts.iter().copied().chain([data.len()]);
    let mut start = 0;
    ends.map(|end| &data[std::mem::replace(&mut start, end)..end]).collect()
}

#[test]
fn changed_handshake_never_panics() {
    let world = World::new();
    let hello = client_hello(&world);
    let changes = prop::collection::vec(change(), 1..6);
    let cuts = prop::collection::vec(any::<usize>(), 0..6);
    fuzz((changes, cuts, any::<bool>()), |(changes, cuts, is_server)| {
        let mut data = hello.clone();
        for change in changes {
            apply(&mut data, change);
        }
        let lines = deliver(&world, is_server, split(&data, cuts));
        prop_assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:?}");
        Ok(())
    });
}

#[test]
fn random_bytes_never_panic() {
    let world = World::new();
    let data = prop::collection::vec(any::<u8>(), 0..300);
    fuzz((data, any::<bool>(), any::<bool>()), |(data, is_record, is_server)| {
        // With the header of a record, so that its content is looked at.
        let header: Vec<u8> = vec![22, 3, 3, 0, u8::try_from(data.len().min(255)).unwrap()];
        let data = if is_record { [header, data].concat() } else { data };
        let lines = deliver(&world, is_server, vec![&data]);
        prop_assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:?}");
        Ok(())
    });
}
