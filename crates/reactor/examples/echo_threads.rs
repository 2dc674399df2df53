//! The program of asyncore's tutorials: an echo server and its client, on two
//! threads, exchange ten messages.
//!
//! ```text
//! cargo run --package reactor --example echo_threads
//! ```
//!
//! There are two differences. The tutorial sleeps for two seconds until the
//! server listens; here the server sends its address. The tutorial prints the
//! data of one `recv`, which is `12345678910` if TCP joins the replies; here
//! each reply is one line.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::thread;

use reactor::{Cause, CloseReason, Handle, Io, Listener, Protocol, Reactor, Stream};

struct EchoHandler;

impl Protocol for EchoHandler {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

#[derive(Default)]
struct EchoClient {
    unsent: VecDeque<String>,
    /// The lengths of the pending replies.
    pending: VecDeque<usize>,
    /// The received part of the next reply.
    reply: Vec<u8>,
}

impl Protocol for EchoClient {
    fn writable(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let Some(message) = self.unsent.pop_front() else { return Ok(()) };
        self.pending.push_back(message.len());
        io.send(message.as_bytes())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.reply.extend(data);
        while let Some(&len) = self.pending.front()
            && len <= self.reply.len()
        {
            let reply: Vec<u8> = self.reply.drain(..len).collect();
            println!("{}", String::from_utf8_lossy(&reply));
            self.pending.pop_front();
        }
        if self.unsent.is_empty() && self.pending.is_empty() {
            io.close();
        }
        Ok(())
    }

    fn handle_close(&mut self, _io: &mut Io<'_>, reason: &CloseReason) {
        if !matches!(reason.cause, Cause::Local) {
            eprintln!("echo_threads: {reason}, {} replies are missing", self.pending.len());
        }
    }
}

/// Serves until stopped through the handle that it sends.
fn serve(ready_tx: &Sender<(SocketAddr, Handle)>) -> anyhow::Result<()> {
    let mut reactor = Reactor::new()?;
    let listener = Listener::bind("localhost:0", |peer| {
        println!("Incoming connection from {peer}");
        Ok(EchoHandler)
    })?;
    if let Some(addr) = listener.local_addr().as_inet() {
        ready_tx.send((addr, reactor.handle()))?;
    }
    reactor.add(listener)?;
    Ok(reactor.run()?)
}

fn talk(addr: SocketAddr) -> anyhow::Result<()> {
    let unsent = (1..=10).map(|number| number.to_string()).collect();
    let mut reactor = Reactor::new()?;
    reactor.add(Stream::connect([addr], EchoClient { unsent, ..EchoClient::default() }))?;
    Ok(reactor.run()?)
}

fn main() -> anyhow::Result<()> {
    let (ready_tx, ready_rx) = mpsc::channel();
    let server = thread::spawn(move || serve(&ready_tx));
    // If the server fails, `recv` fails, and `join` returns the server's error.
    if let Ok((addr, handle)) = ready_rx.recv() {
        let client = thread::spawn(move || talk(addr));
        client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        handle.stop()?;
    }
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))?
}
