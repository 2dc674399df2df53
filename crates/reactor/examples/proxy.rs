//! A TCP proxy: for each connection to LISTEN it opens one to TARGET, and
//! forwards data in both directions.
//!
//! ```text
//! cargo run --package reactor --example proxy 127.0.0.1:8080 example.com:80
//! ```
//!
//! A slow side slows the other one down: while output is queued for it, no more
//! is read. So a connection holds one read of 64 KiB per direction, for any
//! amount of data.

use std::env;
use std::io;
use std::mem;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use reactor::{Cause, CloseReason, Io, Limits, Listener, Protocol, Reactor, Stream, Token};

/// One of the two connections: to the client, or to the target.
struct Side {
    target: Rc<[SocketAddr]>,
    /// The other connection; `None` for a new client.
    other: Option<Token>,
    /// The other side is paused until the output queued here is sent.
    holds_back: bool,
}

impl Side {
    fn new(target: &Rc<[SocketAddr]>, other: Option<Token>) -> Self {
        Side { target: Rc::clone(target), other, holds_back: false }
    }

    /// Returns the other side, or `None` if it has closed, and this one with it.
    fn other<'a>(&self, io: &'a mut Io<'_>) -> Option<&'a mut Stream<Side>> {
        io.context().get_mut(self.other?)
    }
}

impl Protocol for Side {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        if self.other.is_none() {
            let target = Stream::connect(
                self.target.iter().copied(),
                Side::new(&self.target, Some(io.token())),
            );
            // Output sent before it is connected is queued.
            self.other = Some(io.context().add(target.with_limits(limits()))?);
        }
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let Some(other) = self.other(io) else { return Ok(()) };
        // If this fails, the other side closes, and its `handle_close` closes
        // this side. Returning the error would lose output queued here.
        let _ = other.send(data);
        if other.unsent() > 0 {
            other.protocol_mut().holds_back = true;
            io.pause();
        }
        Ok(())
    }

    fn writable(&self) -> bool {
        self.holds_back
    }

    /// The queued output was sent.
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        if mem::take(&mut self.holds_back)
            && let Some(other) = self.other(io)
        {
            other.resume();
        }
        Ok(())
    }

    /// Forwards a half-close: the peer may still read. After the second one,
    /// both streams close by themselves.
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.other(io).map_or(Ok(()), |other| other.shutdown())
    }

    /// In all cases, including an unreachable target and a reset, the other side
    /// sends its queued output and closes.
    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        if !matches!(reason.cause, Cause::PeerClosed | Cause::Local) {
            eprintln!("{}: {reason}", io.peer_addr());
        }
        if let Some(other) = self.other(io) {
            other.close();
        }
    }
}

fn limits() -> Limits {
    // A paused download is legitimate, and its queued output is small.
    Limits { stall_timeout: Some(Duration::from_secs(600)), ..Limits::default() }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (Some(listen), Some(target), None) = (args.next(), args.next(), args.next()) else {
        bail!("usage: proxy LISTEN TARGET");
    };
    let mut reactor = Reactor::new()?;
    // Resolved once, before the loop runs, which it would block.
    let target = target.to_socket_addrs().map_err(|error| anyhow!("{target}: {error}"))?.collect();
    let listener = Listener::bind(listen, move |_| Ok(Side::new(&target, None)))?;
    println!("Listening on {}", listener.local_addr());
    reactor.add(listener.with_limits(limits()))?;
    Ok(reactor.run()?)
}
