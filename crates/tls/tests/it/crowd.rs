//! Many half-open handshakes.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use reactor::{ConnectionLimit, Handle, Limits, Listener, Reactor, Stream};
use testing::status_kib;

use crate::common::{Event, Log, Probe, World, turn_until};
use crate::hostile::HELLO_START;

/// Half-open handshakes cost little, end in time, and do not disturb others.
#[test]
fn crowd_of_half_open_handshakes_is_bounded() {
    let world = World::new();
    let handshake_timeout = Some(Duration::from_secs(15));
    // As many as the limit of descriptors allows; both ends are in this process.
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let max: usize =
        files.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1024);
    let count = ((max - 100) / 2).min(10_000);

    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let to = log.clone();
    let listener = Listener::bind("127.0.0.1:0", move |_| Ok(Probe::echo("server", &to))).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    let limits = Limits { handshake_timeout, ..Limits::default() };
    let limit = ConnectionLimit::default();
    let listener = listener.with_limits(limits).with_connection_limit(limit.clone());
    reactor.add(world.server.listen(listener)).unwrap();
    let before = status_kib(std::process::id(), "VmRSS");
    let handle = reactor.handle();
    let crowd = thread::spawn(move || {
        let _stop = StopOnDrop(handle);
        let peers: Vec<_> = (0..count)
            .map(|index| {
                let mut peer = TcpStream::connect(addr).unwrap();
                // Each stops at another byte.
                peer.write_all(&HELLO_START[..index % HELLO_START.len()]).unwrap();
                peer
            })
            .collect();
        peers
    });
    reactor.run().unwrap();
    let peers = crowd.join().unwrap();
    turn_until(&mut reactor, {
        let limit = limit.clone();
        move || limit.open_count() == count
    });
    if let (Some(before), Some(now)) = (before, status_kib(std::process::id(), "VmRSS")) {
        let each = (now - before) * 1024 / count as u64;
        println!("{count} half-open handshakes: {each} bytes each");
        assert!(each < 8 * 1024, "{each} bytes for each of {count}");
    }
    // Another peer is served meanwhile.
    let probe = Probe::new("client", &log, |event, io| {
        match event {
            Event::Connect => io.send(b"hello")?,
            Event::Read(_) => io.close(),
            Event::Eof | Event::Timer => {}
        }
        Ok(())
    });
    let begin = Instant::now();
    let stream = Stream::connect([addr], probe);
    reactor.add(world.client.connect(stream, "localhost").unwrap()).unwrap();
    turn_until(&mut reactor, || log.get("client close: closed").is_some());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    // All of the crowd is closed by the timeout.
    let closed = || log.lines().iter().filter(|line| line.contains("handshake timeout")).count();
    turn_until(&mut reactor, || closed() == count);
    drop(peers);
}

struct StopOnDrop(Handle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        // This fails if the reactor has already ended.
        let _ = self.0.stop();
    }
}
