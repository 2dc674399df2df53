//! How a measurement ends before its time: the server dies, stops or misbehaves,
//! or the user interrupts it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testing::{DEADLINE, Lines, Process, command};

use crate::{BENCH, field, server};

const MODES: [&[&str]; 5] = [
    &[],
    &["--churn"],
    &["--threads", "2"],
    &["--pipeline", "8", "--idle", "3"],
    &["--rate", "1000", "--threads", "2"],
];

/// Much longer than a test may take.
const LONG: &str = "1h";

/// A server that stops replying when requested, at the latest after a second.
struct Stopping {
    addr: SocketAddr,
    messages: Arc<AtomicUsize>,
    is_stopped: Arc<AtomicBool>,
}

#[derive(Clone, Copy)]
enum Fault {
    /// Reads, and replies to nothing more.
    Silent,
    /// Closes each connection, and refuses further ones.
    Closed,
    /// Sends a wrong byte.
    Wrong,
}

impl Stopping {
    fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (messages, is_stopped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stop) = (Arc::clone(&messages), Arc::clone(&is_stopped));
        thread::spawn(move || {
            for peer in listener.incoming() {
                if stop.load(Ordering::Relaxed) && matches!(fault, Fault::Closed) {
                    return;
                }
                let (peer, count, stop) = (peer.unwrap(), Arc::clone(&count), Arc::clone(&stop));
                thread::spawn(move || serve(peer, &count, &stop, fault));
            }
        });
        Stopping { addr, messages, is_stopped }
    }

    fn stop_after_messages(&self, count: usize) {
        testing::wait_until(|| self.messages.load(Ordering::Relaxed), |messages| *messages > count);
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

fn serve(mut peer: TcpStream, count: &AtomicUsize, stop: &AtomicBool, fault: Fault) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = peer.read(&mut buffer) {
        if stop.load(Ordering::Relaxed) {
            match fault {
                Fault::Silent => continue,
                Fault::Closed => return,
                Fault::Wrong => buffer[0] ^= 1,
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
        if peer.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

/// Starts a measurement that would last very long.
fn start(addr: SocketAddr, options: &[&str]) -> (Process, Lines) {
    let mut command = command(BENCH);
    command.args(["--addr", &addr.to_string(), "--connections", "4", "--json"]);
    command.args(["--warm-up", "0s", "--duration", LONG]).args(options);
    let mut process = Process::start(command.stdout(Stdio::piped()));
    let stdout = Lines::from_reader(process.take_stdout());
    (process, stdout)
}

#[test]
fn faulty_server_ends_measurement_with_report() {
    for fault in [Fault::Silent, Fault::Closed, Fault::Wrong] {
        for mode in MODES {
            let server = Stopping::start(fault);
            let (mut process, mut stdout) = start(server.addr, mode);
            server.stop_after_messages(200);
            let stopped_at = Instant::now();
            let report = stdout.rest();
            let took = stopped_at.elapsed();
            let stderr = process.stderr.rest();
            assert_eq!(process.exit_code(), 1, "{mode:?}: {report:?} {stderr:?}");
            // Two seconds, on a machine that is not busy.
            assert!(took < DEADLINE / 2, "{mode:?}: {took:?}");
            assert!(field(&report[0], "/messages") > 10.0, "{mode:?}: {report:?}");
            assert!(!report[0].contains("\"errors\":{}"), "{mode:?}: {report:?}");
            let [line] = &stderr[..] else { panic!("{mode:?}: {stderr:#?}") };
            let expected = match fault {
                Fault::Wrong => "not an echo server: it sent other data than it received",
                Fault::Silent | Fault::Closed => "replies missing or wrong",
            };
            assert!(line.ends_with(&format!("{expected}; see the report")), "{line}");
        }
    }
}

/// Also if the others continue to receive replies.
#[test]
fn connection_without_replies_ends_measurement() {
    for (options, timeout) in
        [(&[][..], "1.5s"), (&["--reply-timeout", "0.3"], "300ms"), (&["-t", "0.2"], "200ms")]
    {
        let seen = Arc::new(AtomicUsize::new(0));
        let addr = server(move |data| {
            // One message, among those of four connections.
            if seen.fetch_add(1, Ordering::Relaxed) == 100 {
                data.clear();
            }
        });
        let (mut process, mut stdout) = start(addr, options);
        let report = stdout.rest();
        assert_eq!(process.exit_code(), 1, "{report:?}");
        let example = format!("\"error_examples\":{{\"no_reply\":\"no reply for {timeout}\"}}");
        for expected in ["\"errors\":{\"no_reply\":1}", &example] {
            assert!(report[0].contains(expected), "{report:?}");
        }
    }
}

#[cfg(unix)] // a shell
#[test]
fn interrupt_prints_report_and_exits_with_130() {
    for mode in MODES {
        let server = Stopping::start(Fault::Silent);
        let (mut process, mut stdout) = start(server.addr, mode);
        testing::wait_until(|| server.messages.load(Ordering::Relaxed), |count| *count > 500);
        let kill = format!("kill -s INT {}", process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let report = stdout.rest();
        assert_eq!(process.exit_code(), 130, "{mode:?}: {report:?}");
        assert_eq!(process.stderr.rest(), [""; 0], "{mode:?}");
        assert!(field(&report[0], "/messages") > 10.0, "{mode:?}: {report:?}");
        assert!(field(&report[0], "/seconds") > 0.0, "{mode:?}: {report:?}");
        assert!(report[0].contains("\"errors\":{}"), "{mode:?}: {report:?}");
    }
}

#[test]
fn closed_stdout_ends_quietly() {
    for mode in [&[][..], &["--json"], &["--help"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = crate::bench(server(|_| {}), mode);
        let mut process = Process::start(command.stdout(writer));
        assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]), "{mode:?}");
    }
}

/// Each reply takes a while, also the last. Until then, no idle connection ends.
#[test]
fn idle_connections_stay_open_until_the_last_reply() {
    const IDLE: usize = 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let idle = IDLE.to_string();
    let mut command = crate::bench(addr, &["--connections", "1", "--idle", &idle, "--json"]);
    let mut process = Process::start(command.stdout(Stdio::piped()));
    let mut stdout = Lines::from_reader(process.take_stdout());
    let peers: Vec<_> =
        (0..=IDLE).map(|_| testing::with_timeouts(listener.accept().unwrap().0)).collect();
    // Idle connections are opened first.
    let (mut talking, idle) = (&peers[IDLE], &peers[..IDLE]);
    let (mut message, mut replies) = ([0; 64], 0);
    while talking.read_exact(&mut message).is_ok() {
        // Not to wait for a result: the server is slow.
        thread::sleep(Duration::from_millis(120));
        for peer in idle {
            peer.set_nonblocking(true).unwrap();
            let error = peer.peek(&mut [0]).expect_err("an idle connection has ended");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
        talking.write_all(&message).unwrap();
        replies += 1;
    }
    assert_eq!(process.exit_code(), 0, "{:?}", process.stderr.rest());
    assert!(replies >= 3, "{replies}");
    // The first reply, and those of the warm-up, are not part of the latency.
    assert!(field(&stdout.rest()[0], "/messages") < f64::from(replies));
}
