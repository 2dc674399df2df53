//! The protocol, and what to listen on, which are the same on all threads.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::anyhow;
use cli::error::{port_denied_hint, with_fd_hint, without_errno};
use cli::output::STDOUT;
use reactor::{Address, ConnectionLimit, Io, Limits, Listener, OwnedDescriptor, Protocol};

use crate::options::Options;
use crate::service_manager::refusal;

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

/// What each thread listens on.
pub(crate) enum Target {
    /// Addresses, of which each thread binds its own sockets.
    Addrs(Vec<SocketAddr>),
    /// Sockets that listen already, and that all threads share.
    Inherited(Vec<OwnedDescriptor>),
}

impl Target {
    /// Returns the target of a further thread, once the first one has bound
    /// `addrs`: the ports that were selected.
    pub(crate) fn for_worker(&self, addrs: &[Address]) -> io::Result<Self> {
        Ok(match self {
            Target::Addrs(_) => Target::Addrs(addrs.iter().filter_map(Address::as_inet).collect()),
            Target::Inherited(sockets) => Target::Inherited(
                sockets.iter().map(OwnedDescriptor::try_clone).collect::<io::Result<_>>()?,
            ),
        })
    }
}

/// Listens on all addresses of `target` that this machine has, or on its
/// inherited sockets, for connections that count in `limit`.
///
/// No connection is accepted until the listeners are added to a reactor and that
/// reactor runs.
///
/// # Errors
///
/// Returns an error if one of the addresses cannot be bound, or this machine has
/// none of them.
pub(crate) fn listen(
    target: &Target,
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
    let listeners = match (target, options.threads.get()) {
        (Target::Addrs(addrs), 1) => Listener::bind_all(&**addrs, handle_accepted),
        (Target::Addrs(addrs), _) => Listener::bind_all_reuse_port(&**addrs, handle_accepted),
        (Target::Inherited(sockets), _) => sockets
            .iter()
            .enumerate()
            .map(|(index, socket)| {
                let named = |error: io::Error| {
                    io::Error::new(error.kind(), refusal(index, &with_fd_hint(&error)))
                };
                Listener::new(socket.try_clone().map_err(named)?, handle_accepted).map_err(named)
            })
            .collect(),
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
