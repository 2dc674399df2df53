//! The protocol and the listening socket, which are the same on all threads.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::anyhow;
use cli::error::{port_denied_hint, without_errno};
use cli::output::STDOUT;
use reactor::{Address, ConnectionLimit, Io, Limits, Listener, Protocol};

use crate::options::Options;

/// The protocol of one connection: sends back what was received.
///
/// The reactor stops reading from a peer that does not read its echo, and
/// delivers all pending output to a peer that closes its sending side.
struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// Listens on all of `addrs` that this machine has, for connections that count
/// in `limit`.
///
/// No connection is accepted until the listeners are added to a reactor and that
/// reactor runs.
///
/// # Errors
///
/// Returns an error if one of `addrs` cannot be bound, or this machine has none
/// of them.
pub(crate) fn listen(
    addrs: &[SocketAddr],
    limit: &ConnectionLimit,
    options: &Options,
) -> io::Result<Vec<Listener>> {
    let quiet = options.quiet;
    let handle_accepted = move |peer: &Address| {
        if !quiet {
            STDOUT.write_line(&format!("Incoming connection from {peer}"));
        }
        Ok(Echo)
    };
    // Only with several threads: a shared port can also be bound by another
    // server, which would then receive some of the connections.
    let listeners = match options.threads.get() {
        1 => Listener::bind_all(addrs, handle_accepted),
        _ => Listener::bind_all_reuse_port(addrs, handle_accepted),
    }?;
    let limits = Limits {
        idle_timeout: options.idle_timeout,
        stall_timeout: Some(options.stall_timeout),
        ..Limits::default()
    };
    let limited =
        |listener: Listener| listener.with_limits(limits).with_connection_limit(limit.clone());
    Ok(listeners.into_iter().map(limited).collect())
}

/// Returns the addresses of the host of the command line.
///
/// `Listener::bind_all` resolves names too, but does not distinguish an unknown
/// name from an address that cannot be bound.
///
/// # Errors
///
/// Returns an error if `host` has no address.
pub(crate) fn resolve(host: &str, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
    let addrs = (host, port).to_socket_addrs().map_err(|error| {
        anyhow!(
            "cannot resolve host {host:?}: {}; check the name, \
             or specify an address with --host, such as 127.0.0.1",
            without_errno(&error)
        )
    })?;
    Ok(addrs.collect())
}

/// Returns advice for an address that cannot be bound.
pub(crate) fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "stop the other server, or choose another port with --port (0 selects a free one)"
        }
        ErrorKind::AddrNotAvailable => {
            "choose an address of this machine with --host (0.0.0.0 or :: for all of them)"
        }
        ErrorKind::PermissionDenied => port_denied_hint(),
        ErrorKind::Unsupported => {
            "this system does not distribute connections among threads: use --threads 1"
        }
        _ => {
            "choose another address with --host or port with --port, \
             or raise the limit that was reached (ulimit -a)"
        }
    }
}
