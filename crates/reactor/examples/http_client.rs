//! The first example of Python's `asyncore` documentation: an HTTP client that
//! fetches one page and prints the response with its headers.
//!
//! ```text
//! cargo run --package reactor --example http_client HOST [PORT] [PATH]
//! ```
//!
//! The name is resolved on another thread, and all addresses of the host are
//! tried, without blocking the loop.

use std::env;
use std::io::{self, Write};
use std::sync::mpsc::{self, Sender};

use anyhow::bail;
use reactor::{Cause, CloseReason, Io, Protocol, Reactor, Stream};

struct HttpClient {
    request: String,
    /// The result for `main`, which waits for the end.
    failed: Sender<String>,
}

impl Protocol for HttpClient {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.send(self.request.as_bytes())
    }

    fn handle_read(&mut self, _io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout();
        stdout.write_all(data).and_then(|()| stdout.flush()).map_err(|error| {
            // Otherwise this would look like a failure of the connection.
            io::Error::other(format!("cannot print it: {error}"))
        })
    }

    /// With HTTP/1.0 the response ends when the server closes. Also called for
    /// an unknown name and a refused connection.
    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        if !matches!(reason.cause, Cause::PeerClosed) {
            // Cannot fail, as `main` still holds the receiver.
            let _ = self.failed.send(format!("{}: {reason}", io.peer_addr()));
        }
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (Some(host), port, path, None) = (args.next(), args.next(), args.next(), args.next())
    else {
        bail!("usage: http_client HOST [PORT] [PATH]");
    };
    let port = match port.as_deref().unwrap_or("80").parse() {
        Ok(port) => port,
        Err(error) => bail!("PORT: {error}"),
    };
    let path = path.as_deref().unwrap_or("/");
    // Brackets separate the colons of an IPv6 address from the port.
    let name = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let request = format!("GET {path} HTTP/1.0\r\nHost: {name}:{port}\r\n\r\n");

    let (failed, failure) = mpsc::channel();
    let mut reactor = Reactor::new()?;
    reactor.add(Stream::connect_host(&host, port, HttpClient { request, failed }))?;
    reactor.run()?;
    match failure.try_recv() {
        Ok(failure) => bail!(failure),
        Err(_) => Ok(()),
    }
}
