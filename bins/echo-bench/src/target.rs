//! The address of the server under test.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;

use anyhow::{Context as _, anyhow, bail};
use cli::error::{with_fd_hint, without_errno};
use reactor::{Address, Cause, Io, Limits, Protocol, Reactor, Stream};

use crate::options::{Options, Target};
use crate::workload::CONNECT_TIMEOUT;

/// Returns the address to measure: of a name with several addresses, one that
/// accepts a connection.
///
/// # Errors
///
/// Returns an error if the name does not resolve, or no address accepts a
/// connection.
pub(crate) fn select(options: &Options) -> anyhow::Result<Address> {
    let (host, port) = match options.target() {
        Target::Unix(path) => return Ok(Address::Unix(Some(path))),
        Target::Inet { host, port } => (host, port),
    };
    let addrs = (&host[..], port).to_socket_addrs().map_err(|error| {
        anyhow!("cannot resolve {host:?}: {}; specify HOST:PORT", without_errno(&error))
    })?;
    let is_wanted = |addr: &SocketAddr| match (options.ipv4, options.ipv6) {
        (true, _) => addr.is_ipv4(),
        (_, true) => addr.is_ipv6(),
        (false, false) => true,
    };
    match addrs.filter(is_wanted).collect::<Vec<_>>()[..] {
        [] if options.ipv4 => bail!("cannot resolve {host:?}: it has no IPv4 address; omit -4"),
        [] if options.ipv6 => bail!("cannot resolve {host:?}: it has no IPv6 address; omit -6"),
        [] => bail!("cannot resolve {host:?}: it has no address"),
        [addr] => Ok(addr.into()),
        ref addrs => Ok(probe(addrs)
            .with_context(|| format!("cannot connect to {host}:{port}, at none of {addrs:?}"))?
            .into()),
    }
}

/// Opens one connection to the addresses, and returns the one that accepts it.
fn probe(addrs: &[SocketAddr]) -> anyhow::Result<SocketAddr> {
    let connected = Rc::new(Cell::new(None));
    let stream = Stream::connect(addrs.iter().copied(), Probe(Rc::clone(&connected)));
    let limits = Limits { connect_timeout: Some(CONNECT_TIMEOUT), ..Limits::default() };
    let mut reactor = Reactor::new()
        .map_err(|error| anyhow!("cannot create the event loop: {}", with_fd_hint(&error)))?;
    let token = reactor.add(stream.with_limits(limits))?;
    let reason = reactor.run_until_closed(token)?;
    match (connected.get(), reason.cause) {
        (Some(addr), _) => Ok(addr),
        (None, Cause::Error(error)) => {
            bail!("{}; is an echo server running there?", without_errno(&error))
        }
        (None, cause) => bail!("{cause}"),
    }
}

/// Records which address accepts, and closes the connection.
struct Probe(Rc<Cell<Option<SocketAddr>>>);

impl Protocol for Probe {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        if let Address::Inet(addr) = io.peer_addr() {
            self.0.set(Some(addr));
        }
        io.close();
        Ok(())
    }

    fn handle_read(&mut self, _io: &mut Io<'_>, _data: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Does nothing: the caller reports the cause.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}
}
