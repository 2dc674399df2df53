//! What many peers, or one that is hostile, do to the others. These take a
//! crowd or some time: `scripts/faults.sh` runs them, one at a time, and shows
//! the figures that they print.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cli::limits::raise_open_files;
use testing::{expect_end, memory};

use crate::common::{Server, echo};

/// One message after another there and back, in turn over `peers`, for as long
/// as `during` takes. Returns what it returned and how long each took, sorted.
fn ping_during<T>(peers: &[TcpStream], during: impl FnOnce() -> T) -> (T, Vec<Duration>) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let pinging = scope.spawn(|| {
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                for peer in peers {
                    let begin = Instant::now();
                    echo(peer, b"a healthy peer's message");
                    times.push(begin.elapsed());
                }
            }
            times.sort_unstable();
            times
        });
        let outcome = during();
        over.store(true, Ordering::Relaxed);
        (outcome, pinging.join().unwrap())
    })
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// Nothing but time passes.
fn quiet(time: Duration) {
    thread::sleep(time);
}

#[test]
#[ignore = "takes half a minute: scripts/faults.sh runs it"]
fn slow_peers_stay_and_silent_ones_go() {
    raise_open_files();
    let server = Server::start(&["-q", "--idle-timeout", "15s"]);
    let healthy: Vec<_> = (0..50).map(|_| server.connect()).collect();
    let ((), before) = ping_during(&healthy, || quiet(Duration::from_secs(3)));

    let slow: Vec<_> = (0..5_000).map(|_| server.connect()).collect();
    let silent: Vec<_> = (0..500).map(|_| server.connect()).collect();
    // A byte every ten seconds from each, and so 500 a second from all.
    let ((), among) = ping_during(&healthy, || {
        let begin = Instant::now();
        for round in 0..2_u32 {
            for (number, mut peer) in slow.iter().enumerate() {
                peer.write_all(b"x").unwrap();
                let due = 10 * round + u32::try_from(number / 500).unwrap();
                let due = begin + Duration::from_secs(due.into());
                quiet(due.saturating_duration_since(Instant::now()));
            }
        }
    });
    for peer in &silent {
        expect_end(peer);
    }
    for mut peer in &slow {
        peer.read_exact(&mut [0; 2]).expect("a slow peer's echo");
    }
    let (alone, crowded) = (percentile(&before, 99), percentile(&among, 99));
    let ratio = crowded.as_secs_f64() / alone.as_secs_f64();
    eprintln!(
        "p99 {alone:?} alone, {crowded:?} among 5,000 slow ones: {ratio:.1} times; 500 silent ones gone"
    );
}

#[test]
#[ignore = "takes ten seconds: scripts/faults.sh runs it"]
fn one_flooder_delays_others_by_its_budget() {
    let server = Server::start(&["-q"]);
    let healthy: Vec<_> = (0..100).map(|_| server.connect()).collect();
    let ((), before) = ping_during(&healthy, || quiet(Duration::from_secs(3)));

    let flooder = server.connect();
    let over = Arc::new(AtomicBool::new(false));
    let data = vec![7; 64 * 1024];
    let writing = thread::spawn({
        let (over, mut flooder) = (Arc::clone(&over), flooder.try_clone().unwrap());
        move || {
            let mut bytes = 0;
            while !over.load(Ordering::Relaxed) {
                flooder.write_all(&data).unwrap();
                bytes += data.len();
            }
            flooder.shutdown(Shutdown::Write).unwrap();
            bytes
        }
    });
    let reading = thread::spawn(move || {
        let (mut bytes, mut buffer) = (0, vec![0; 64 * 1024]);
        while let Ok(read @ 1..) = (&flooder).read(&mut buffer) {
            bytes += read;
        }
        bytes
    });
    let ((), beside) = ping_during(&healthy, || quiet(Duration::from_secs(5)));
    over.store(true, Ordering::Relaxed);
    let (sent, came) = (writing.join().unwrap(), reading.join().unwrap());
    assert_eq!(sent, came, "the flooder's own bytes");

    let (alone, crowded) = (percentile(&before, 99), percentile(&beside, 99));
    let ratio = crowded.as_secs_f64() / alone.as_secs_f64();
    let flood = sent / 5 / 1024 / 1024;
    assert!(crowded < Duration::from_millis(100), "p99 {crowded:?}");
    eprintln!("p99 {alone:?} alone, {crowded:?} beside {flood} MiB/s: {ratio:.1} times");
}

#[test]
#[ignore = "takes ten thousand connections: scripts/faults.sh runs it"]
fn a_storm_of_connections_fails_none() {
    raise_open_files();
    let server = Server::start(&["-q"]);
    let healthy: Vec<_> = (0..4).map(|_| server.connect()).collect();
    let begin = Instant::now();
    let (peers, pings) = ping_during(&healthy, || {
        let storm: Vec<_> = (0..4)
            .map(|_| {
                let addr = server.addr;
                thread::spawn(move || -> Vec<_> {
                    (0..2_500).map(|_| TcpStream::connect(addr).unwrap()).collect()
                })
            })
            .collect();
        storm.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let took = begin.elapsed();
    for peer in &peers {
        echo(peer, b"served");
    }
    let longest = percentile(&pings, 100);
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    eprintln!("failed 0 of {} in {took:?}, longest echo meanwhile {longest:?}", peers.len());
}

#[test]
#[ignore = "takes nineteen thousand connections: scripts/faults.sh runs it"]
fn near_the_limit_of_descriptors_all_are_served() {
    let limit = raise_open_files().unwrap_or(u64::MAX);
    let wanted = usize::try_from(limit.saturating_sub(100)).unwrap().min(19_000);
    let server = Server::start(&["-q"]);
    let first = server.connect();
    echo(&first, b"first");
    let before = memory(server.id(), "VmRSS").unwrap();
    let peers: Vec<_> = (0..wanted).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
    for peer in &peers {
        echo(peer, b"one of many");
    }
    let after = memory(server.id(), "VmRSS").unwrap();
    let ((), pings) = ping_during(&peers[..50], || quiet(Duration::from_secs(3)));
    let each = (after - before) * 1024 / u64::try_from(wanted).unwrap();
    eprintln!(
        "failed 0 of {wanted}, {each} bytes of memory each, p99 {:?}",
        percentile(&pings, 99)
    );
}
