//! A reactor on the main thread and its user on another, for `strace` to count
//! the system calls of the former: see `scripts/syscalls.sh`.
#![allow(clippy::unwrap_used, reason = "a panic reports why the benchmark cannot run")]

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use reactor::{Chat, ChatIo, ChatProtocol, Context, Handle, Listener, Reactor};

const PIPELINED: usize = 16;

/// Sends each line back.
struct EchoLines;

impl ChatProtocol for EchoLines {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let mut line = chat.take_collected();
        line.push(b'\n');
        chat.push(&line)
    }
}

/// Waits until the loop sleeps: the main thread's state is the process's.
fn wait_until_idle() {
    while !fs::read_to_string("/proc/self/stat").unwrap().contains(") S ") {
        thread::yield_now();
    }
}

/// Posts `count` times to the idle loop, each after the one before has run.
fn post(handle: &Handle, count: usize) {
    let done = Arc::new(AtomicUsize::new(0));
    for number in 1..=count {
        wait_until_idle();
        let done_by_loop = Arc::clone(&done);
        handle.post(move |_| done_by_loop.store(number, Ordering::Release)).unwrap();
        while done.load(Ordering::Acquire) < number {
            thread::yield_now();
        }
    }
}

/// Sends `count` batches of lines, each in one write, and receives them back.
/// Returns the connection: its end would be one more read of the loop.
fn send_lines(addr: SocketAddr, count: usize) -> TcpStream {
    let mut server = TcpStream::connect(addr).unwrap();
    let batch = b"0123456789\n".repeat(PIPELINED);
    let mut reply = vec![0; batch.len()];
    for _ in 0..count {
        wait_until_idle();
        server.write_all(&batch).unwrap();
        server.read_exact(&mut reply).unwrap();
        assert_eq!(reply, batch);
    }
    server
}

fn main() {
    let args: Vec<_> = env::args().skip(1).collect();
    // `cargo bench` passes other arguments, and there is nothing to measure then.
    let Ok([what, count]) = <[String; 2]>::try_from(args) else { return };
    let count = count.parse().unwrap();

    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Chat::new("\n", EchoLines))).unwrap();
    let addr = listener.local_addr().to_string().parse().unwrap();
    reactor.add(listener).unwrap();

    let handle = reactor.handle();
    let user = thread::spawn(move || {
        let connection = (what == "lines").then(|| send_lines(addr, count));
        if what == "posts" {
            post(&handle, count);
        }
        handle.post(Context::stop).unwrap();
        connection
    });
    reactor.run().unwrap();
    drop(user.join().unwrap());
}
