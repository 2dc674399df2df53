//! A TCP proxy: each connection to LISTEN gets one to TARGET, and what comes
//! from either goes to the other.
//!
//! ```text
//! cargo run --package reactor --example proxy 127.0.0.1:8080 example.com:80
//! ```
//!
//! A side that takes its time slows the other down: while it has bytes waiting,
//! nothing is read for it. So a connection holds one read of 64 KiB for each
//! direction, however much goes through.

use std::env;
use std::io;
use std::mem;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use reactor::{Cause, CloseReason, Io, Limits, Listener, Protocol, Reactor, Stream, Token};

/// One of the two connections: the client's, or the target's.
struct Side {
    target: Rc<[SocketAddr]>,
    /// The other one; `None` for a client that has just come.
    other: Option<Token>,
    /// The other one is paused until our peer has taken what waits here.
    holds_back: bool,
}

impl Side {
    fn new(target: &Rc<[SocketAddr]>, other: Option<Token>) -> Self {
        Side { target: Rc::clone(target), other, holds_back: false }
    }

    /// `None` where it is closed; then it has closed this one as well.
    fn other<'a>(&self, io: &'a mut Io<'_>) -> Option<&'a mut Stream<Side>> {
        io.context().get_mut(self.other?)
    }
}

impl Protocol for Side {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        if self.other.is_none() {
            let target = Stream::connect(&*self.target, Side::new(&self.target, Some(io.token())))?;
            // It need not be connected to be sent to: that waits till it is.
            self.other = Some(io.context().add(target.with_limits(limits()))?);
        }
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let Some(other) = self.other(io) else { return Ok(()) };
        // Where that fails the other side closes, and its `handle_close` sees
        // to ours. An error from here would lose what waits for our own peer.
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

    /// Our peer took what waited.
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        if mem::take(&mut self.holds_back)
            && let Some(other) = self.other(io)
        {
            other.resume();
        }
        Ok(())
    }

    /// Our peer will send no more, but it may still read: half a close, passed
    /// on as one. With the second half, both streams close by themselves.
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.other(io).map_or(Ok(()), Stream::shutdown)
    }

    /// However this side ended (a target that cannot be reached ends here, and
    /// so does a reset), the other one gets what it is still owed, and closes.
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
    // A paused download is no fault, and what waits for it is little.
    Limits { stall_timeout: Some(Duration::from_secs(600)), ..Limits::default() }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (Some(listen), Some(target), None) = (args.next(), args.next(), args.next()) else {
        bail!("usage: proxy LISTEN TARGET");
    };
    let mut reactor = Reactor::new()?;
    // Looked up once, and not in the loop, where that would hold up everybody.
    let target = target.to_socket_addrs().map_err(|error| anyhow!("{target}: {error}"))?.collect();
    let listener = Listener::bind(listen, move |_| Ok(Side::new(&target, None)))?;
    println!("Listening on {}", listener.local_addr());
    reactor.add(listener.with_limits(limits()))?;
    Ok(reactor.run()?)
}
