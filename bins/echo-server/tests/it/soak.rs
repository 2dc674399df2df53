//! Long runs that must not change the server's state. `scripts/faults.sh` runs
//! them.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testing::{reset, status_kib, wait_until, with_timeouts};

use crate::common::{Server, echo, open_descriptors};

const CONNECTIONS: u32 = 1_000_000;

#[test]
#[ignore = "takes minutes; run by scripts/faults.sh"]
fn million_connections_leak_nothing() {
    let server = Server::start(&["-q"]);
    let open = open_descriptors(server.id());
    let started_at = Instant::now();
    let made = AtomicU32::new(0);
    let mut early = 0;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while made.fetch_add(1, Ordering::Relaxed) < CONNECTIONS {
                    let peer = with_timeouts(TcpStream::connect(server.addr).unwrap());
                    echo(&peer, b"x");
                    // Without TIME-WAIT, in which the ports would run out.
                    reset(peer);
                }
            });
        }
        // After the first tenth, the allocator has its final size.
        while made.load(Ordering::Relaxed) < CONNECTIONS / 10 {
            thread::sleep(Duration::from_millis(10));
        }
        early = status_kib(server.id(), "VmRSS").unwrap();
    });
    let took = started_at.elapsed();
    wait_until(|| open_descriptors(server.id()), |now| *now == open);
    let late = status_kib(server.id(), "VmRSS").unwrap();
    let grown = late.saturating_sub(early);
    assert!(grown <= 64, "{grown} KiB of growth");
    eprintln!("{CONNECTIONS} in {took:.0?}: descriptors +0, memory {early} KiB, then +{grown} KiB");
}

/// When a suspended process resumes, time has passed. Its timeouts must neither
/// be early nor lost.
#[test]
#[ignore = "takes some seconds; run by scripts/faults.sh"]
fn suspended_server_closes_no_peer_early() {
    let server = Server::start(&["-q", "--idle-timeout", "2s"]);
    let peer = server.connect();
    echo(&peer, b"before");
    server.signal("STOP");
    thread::sleep(Duration::from_millis(1_500));
    let last = Instant::now();
    // Queued in the kernel until the server resumes.
    let echoing = thread::spawn({
        let peer = peer.try_clone().unwrap();
        move || echo(&peer, b"meanwhile")
    });
    server.signal("CONT");
    echoing.join().unwrap();
    testing::expect_reset(&peer);
    let lasted = last.elapsed();
    assert!(lasted >= Duration::from_secs(2), "closed after {lasted:?}");
    eprintln!("early 0: closed {lasted:.2?} after the last byte, of 2 s");
}
