//! The program that asyncore's tutorials show: an echo server and its client,
//! each on a thread of its own, ten messages there and back.
//!
//! ```text
//! cargo run --package reactor --example echo_threads
//! ```
//!
//! Two things differ. The tutorial sleeps for two seconds and hopes that the
//! server listens by then; here the server says so. And the tutorial prints
//! whatever one `recv` brings, which is `12345678910` where TCP joins the
//! replies; here each reply has its line.

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
    /// How long each reply is that is still to come.
    owed: VecDeque<usize>,
    /// What came of the next reply.
    reply: Vec<u8>,
}

impl Protocol for EchoClient {
    fn writable(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let Some(message) = self.unsent.pop_front() else { return Ok(()) };
        self.owed.push_back(message.len());
        io.send(message.as_bytes())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.reply.extend(data);
        while let Some(&len) = self.owed.front()
            && len <= self.reply.len()
        {
            let reply: Vec<u8> = self.reply.drain(..len).collect();
            println!("{}", String::from_utf8_lossy(&reply));
            self.owed.pop_front();
        }
        if self.unsent.is_empty() && self.owed.is_empty() {
            io.close();
        }
        Ok(())
    }

    fn handle_close(&mut self, _io: &mut Io<'_>, reason: &CloseReason) {
        if !matches!(reason.cause, Cause::Local) {
            eprintln!("echo_threads: {reason}, {} replies are missing", self.owed.len());
        }
    }
}

/// Serves until it is told to stop, through the handle that it sends.
fn serve(ready: &Sender<(SocketAddr, Handle)>) -> anyhow::Result<()> {
    let mut reactor = Reactor::new()?;
    let listener = Listener::bind("localhost:0", |peer| {
        println!("Incoming connection from {peer}");
        Ok(EchoHandler)
    })?;
    if let Some(addr) = listener.local_addr().as_inet() {
        ready.send((addr, reactor.handle()))?;
    }
    reactor.add(listener)?;
    Ok(reactor.run()?)
}

fn talk(addr: SocketAddr) -> anyhow::Result<()> {
    let unsent = (1..=10).map(|number| number.to_string()).collect();
    let mut reactor = Reactor::new()?;
    reactor.add(Stream::connect(addr, EchoClient { unsent, ..EchoClient::default() })?)?;
    Ok(reactor.run()?)
}

fn main() -> anyhow::Result<()> {
    let (ready, is_ready) = mpsc::channel();
    let server = thread::spawn(move || serve(&ready));
    // Where the server fails the channel ends, and its own error tells why.
    if let Ok((addr, stop)) = is_ready.recv() {
        let client = thread::spawn(move || talk(addr));
        client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        stop.stop()?;
    }
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))?
}
