//! What must stay as it is, however long it goes on. `scripts/faults.sh` runs
//! these.

use std::fs;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testing::{memory, patient, reset, until};

use crate::common::{Server, echo};

const CONNECTIONS: u32 = 1_000_000;

fn descriptors(id: u32) -> usize {
    fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
}

#[test]
#[ignore = "takes minutes: scripts/faults.sh runs it"]
fn a_million_connections_leave_nothing_behind() {
    let server = Server::start(&["-q"]);
    let open = descriptors(server.id());
    let begin = Instant::now();
    let made = AtomicU32::new(0);
    let mut early = 0;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while made.fetch_add(1, Ordering::Relaxed) < CONNECTIONS {
                    let peer = patient(TcpStream::connect(server.addr).unwrap());
                    echo(&peer, b"x");
                    // A port that lies in TIME-WAIT cannot be had again soon.
                    reset(peer);
                }
            });
        }
        // What the allocator keeps is there after the first tenth.
        while made.load(Ordering::Relaxed) < CONNECTIONS / 10 {
            thread::sleep(Duration::from_millis(10));
        }
        early = memory(server.id(), "VmRSS").unwrap();
    });
    let took = begin.elapsed();
    until(|| descriptors(server.id()), |now| *now == open);
    let late = memory(server.id(), "VmRSS").unwrap();
    let grown = late.saturating_sub(early);
    assert!(grown <= 64, "{grown} KiB more");
    eprintln!("{CONNECTIONS} in {took:.0?}: descriptors +0, memory {early} KiB, then +{grown} KiB");
}

/// A suspended process finds, when it goes on, that time has passed. What is
/// timed by it must be neither early nor forgotten.
#[test]
#[ignore = "takes some seconds: scripts/faults.sh runs it"]
fn a_suspended_server_times_out_nobody_early() {
    let server = Server::start(&["-q", "--idle-timeout", "2s"]);
    let peer = server.connect();
    echo(&peer, b"before");
    server.signal("STOP");
    thread::sleep(Duration::from_millis(1_500));
    let last = Instant::now();
    // It waits in the kernel until the server goes on.
    let echoing = thread::spawn({
        let peer = peer.try_clone().unwrap();
        move || echo(&peer, b"meanwhile")
    });
    server.signal("CONT");
    echoing.join().unwrap();
    testing::expect_end(&peer);
    let lasted = last.elapsed();
    assert!(lasted >= Duration::from_secs(2), "closed after {lasted:?}");
    eprintln!("early 0: closed {lasted:.2?} after the last byte, of 2 s");
}
