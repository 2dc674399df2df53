//! The protocol and the listening socket, which are the same on all threads.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::anyhow;
use cli::error::without_errno;
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

/// Listens on all of `addrs`.
///
/// No connection is accepted until the listeners are added to a reactor and that
/// reactor runs. With port 0, the addresses share one port if possible.
///
/// # Errors
///
/// Returns an error if one of `addrs` cannot be bound. An address that this
/// machine does not have, such as `::1` without IPv6, is an error only if it has
/// none of them.
pub(crate) fn listen_on_all(
    addrs: &[SocketAddr],
    limit: &ConnectionLimit,
    options: &Options,
) -> io::Result<Vec<Listener>> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut unavailable = None;
    for &addr in addrs {
        let common_port = listeners.first().and_then(local_port).unwrap_or(addr.port());
        let shared = SocketAddr::new(addr.ip(), common_port);
        let result = match listen(shared, limit, options) {
            // Another program uses the port, on this address only.
            Err(error) if error.kind() == ErrorKind::AddrInUse && addr.port() == 0 => {
                listen(addr, limit, options)
            }
            result => result,
        };
        match result {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_unavailable(&error) => {
                log::debug!("not listening: {error}");
                unavailable = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match unavailable {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn local_port(listener: &Listener) -> Option<u16> {
    Some(listener.local_addr().as_inet()?.port())
}

/// Returns `true` if the machine does not have the address, or not its family.
fn is_unavailable(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
}

/// Listens on `addr`, for connections that count in `limit`.
///
/// # Errors
///
/// Returns an error if `addr` cannot be bound.
pub(crate) fn listen(
    addr: SocketAddr,
    limit: &ConnectionLimit,
    options: &Options,
) -> io::Result<Listener> {
    let quiet = options.quiet;
    let handle_accepted = move |peer: &Address| {
        if !quiet {
            STDOUT.write_line(&format!("Incoming connection from {peer}"));
        }
        Ok(Echo)
    };
    // Only with several threads: a shared port can also be bound by another
    // server, which would then receive some of the connections.
    let listener = match options.threads.get() {
        1 => Listener::bind(addr, handle_accepted),
        _ => Listener::bind_reuse_port(addr, handle_accepted),
    }?;
    let limits = Limits {
        idle_timeout: options.idle_timeout,
        stall_timeout: Some(options.stall_timeout),
        ..Limits::default()
    };
    Ok(listener.with_limits(limits).with_connection_limit(limit.clone()))
}

/// Returns the addresses of the host of the command line.
///
/// `Listener::bind` resolves names too, but does not distinguish an unknown
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
    // A hosts file may contain an address twice.
    let mut unique = Vec::new();
    for addr in addrs {
        if !unique.contains(&addr) {
            unique.push(addr);
        }
    }
    Ok(unique)
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
        ErrorKind::PermissionDenied => {
            "low ports require privileges: choose 1024 or higher with --port \
             (0 selects a free one)"
        }
        _ => {
            "choose another address with --host or port with --port, \
             or raise the limit that was reached (ulimit -a)"
        }
    }
}
