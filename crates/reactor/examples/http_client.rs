//! The HTTP client that Python's `asyncore` documentation begins with: it
//! fetches one page and prints what the server answers, headers included.
//!
//! ```text
//! cargo run --package reactor --example http_client HOST [PORT] [PATH]
//! ```
//!
//! The name is looked up on another thread, and all addresses of the host are
//! tried, so that a loop with other work to do would not be held up.

use std::env;
use std::io::{self, Write};
use std::sync::mpsc::{self, Sender};

use anyhow::bail;
use reactor::{Cause, CloseReason, Io, Protocol, Reactor, Stream};

struct HttpClient {
    request: String,
    /// For `main`, which waits for the end: what went wrong, if anything did.
    failed: Sender<String>,
}

impl Protocol for HttpClient {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.send(self.request.as_bytes())
    }

    fn handle_read(&mut self, _io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout();
        stdout.write_all(data).and_then(|()| stdout.flush()).map_err(|error| {
            // Else it would look as if the connection had failed.
            io::Error::other(format!("cannot print it: {error}"))
        })
    }

    /// With HTTP/1.0 the answer ends where the server closes. An unknown name
    /// and a refused connection come here too.
    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        if !matches!(reason.cause, Cause::PeerClosed) {
            // `main` still has the other end.
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
    // An IPv6 address goes in brackets: its colons are not the port's.
    let name = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let request = format!("GET {path} HTTP/1.0\r\nHost: {name}:{port}\r\n\r\n");

    let (failed, failure) = mpsc::channel();
    let mut reactor = Reactor::new()?;
    reactor.add(Stream::connect_host(&host, port, HttpClient { request, failed })?)?;
    reactor.run()?;
    match failure.try_recv() {
        Ok(failure) => bail!(failure),
        Err(_) => Ok(()),
    }
}
