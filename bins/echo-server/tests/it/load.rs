//! How many peers, or a hostile one, affect the others. These tests need many
//! connections or much time: `scripts/faults.sh` runs them one at a time and
//! shows the figures that they print.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cli::limits::raise_open_files;
use testing::{expect_reset, status_kib};

use crate::common::{Server, echo};

/// Exchanges messages with each of `peers` in turn while `action` runs. Returns
/// the result of `action` and the round-trip times, sorted.
fn ping_during<T>(peers: &[TcpStream], action: impl FnOnce() -> T) -> (T, Vec<Duration>) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let pinging = scope.spawn(|| {
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                for peer in peers {
                    let started_at = Instant::now();
                    echo(peer, b"a healthy peer's message");
                    times.push(started_at.elapsed());
                }
            }
            times.sort_unstable();
            times
        });
        let result = action();
        over.store(true, Ordering::Relaxed);
        (result, pinging.join().unwrap())
    })
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[test]
#[ignore = "takes half a minute; run by scripts/faults.sh"]
fn idle_timeout_keeps_slow_peers_and_closes_silent_ones() {
    raise_open_files();
    let server = Server::start(&["-q", "--idle-timeout", "15s"]);
    let healthy: Vec<_> = (0..50).map(|_| server.connect()).collect();
    let ((), before) = ping_during(&healthy, || thread::sleep(Duration::from_secs(3)));

    let slow: Vec<_> = (0..5_000).map(|_| server.connect()).collect();
    let silent: Vec<_> = (0..500).map(|_| server.connect()).collect();
    // One byte in ten seconds from each, so 500 per second from all.
    let ((), among) = ping_during(&healthy, || {
        let started_at = Instant::now();
        for round in 0..2_u32 {
            for (number, mut peer) in slow.iter().enumerate() {
                peer.write_all(b"x").unwrap();
                let due = 10 * round + u32::try_from(number / 500).unwrap();
                let due = started_at + Duration::from_secs(due.into());
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    });
    for peer in &silent {
        expect_reset(peer);
    }
    for mut peer in &slow {
        peer.read_exact(&mut [0; 2]).expect("the echo to a slow peer");
    }
    let (alone, crowded) = (percentile(&before, 99), percentile(&among, 99));
    let ratio = crowded.as_secs_f64() / alone.as_secs_f64();
    eprintln!(
        "p99 {alone:?} alone, {crowded:?} with 5,000 slow peers: {ratio:.1} times; 500 silent peers closed"
    );
}

#[test]
#[ignore = "takes ten seconds; run by scripts/faults.sh"]
fn flooding_peer_delays_others_by_one_read() {
    let server = Server::start(&["-q"]);
    let healthy: Vec<_> = (0..100).map(|_| server.connect()).collect();
    let ((), before) = ping_during(&healthy, || thread::sleep(Duration::from_secs(3)));

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
    let ((), beside) = ping_during(&healthy, || thread::sleep(Duration::from_secs(5)));
    over.store(true, Ordering::Relaxed);
    let (sent, received) = (writing.join().unwrap(), reading.join().unwrap());
    assert_eq!(sent, received, "bytes of the flooding peer");

    let (alone, crowded) = (percentile(&before, 99), percentile(&beside, 99));
    let ratio = crowded.as_secs_f64() / alone.as_secs_f64();
    let flood = sent / 5 / 1024 / 1024;
    assert!(crowded < Duration::from_millis(100), "p99 {crowded:?}");
    eprintln!("p99 {alone:?} alone, {crowded:?} during a flood of {flood} MiB/s: {ratio:.1} times");
}

#[test]
#[ignore = "needs ten thousand connections; run by scripts/faults.sh"]
fn connection_storm_loses_no_connection() {
    raise_open_files();
    let server = Server::start(&["-q"]);
    let healthy: Vec<_> = (0..4).map(|_| server.connect()).collect();
    let started_at = Instant::now();
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
    let took = started_at.elapsed();
    for peer in &peers {
        echo(peer, b"served");
    }
    let longest = percentile(&pings, 100);
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    eprintln!("failed 0 of {} in {took:?}, longest round trip meanwhile {longest:?}", peers.len());
}

#[test]
#[ignore = "needs nineteen thousand connections; run by scripts/faults.sh"]
fn connections_near_open_file_limit_are_all_served() {
    let limit = raise_open_files().unwrap_or(u64::MAX);
    let wanted = usize::try_from(limit.saturating_sub(100)).unwrap().min(19_000);
    let server = Server::start(&["-q"]);
    let first = server.connect();
    echo(&first, b"first");
    let before = status_kib(server.id(), "VmRSS").unwrap();
    let peers: Vec<_> = (0..wanted).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
    for peer in &peers {
        echo(peer, b"one of many");
    }
    let after = status_kib(server.id(), "VmRSS").unwrap();
    let ((), pings) = ping_during(&peers[..50], || thread::sleep(Duration::from_secs(3)));
    let each = (after - before) * 1024 / u64::try_from(wanted).unwrap();
    eprintln!(
        "failed 0 of {wanted}, {each} bytes of memory each, p99 {:?}",
        percentile(&pings, 99)
    );
}
