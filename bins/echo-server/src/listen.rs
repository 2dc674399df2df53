//! The protocol, and what to listen on, which are the same on all threads.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{anyhow, bail};
use cli::error::{port_denied_hint, with_fd_hint, without_errno};
use cli::output::STDOUT;
use cli::value::Endpoint;
use reactor::{
    Address, Cause, CloseReason, ConnectionLimit, Io, Limits, Listener, OwnedDescriptor, Protocol,
    TimeoutKind,
};

use crate::options::Options;
use crate::security::Security;
use crate::service_manager::refusal;
use crate::sys::unix::bind_unix;

/// Maximum number of connections that the log of a shutdown names.
const MAX_CUT_LOGGED: usize = 20;

/// Number of connections that the shutdown has closed, on all threads.
static CUT_COUNT: AtomicUsize = AtomicUsize::new(0);

/// The protocol of one connection: sends back what was received.
///
/// The reactor stops reading from a peer that does not read its echo, and
/// delivers all pending output to a peer that closes its sending side.
#[derive(Clone, Copy)]
struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        log_close(io, reason);
    }
}

/// [`Echo`], with a log line for each read. A protocol of its own, so that `Echo`
/// does not query the log level for each message.
#[derive(Clone, Copy)]
struct LoggedEcho;

impl Protocol for LoggedEcho {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        log::trace!("{}: echoing {} bytes", io.peer_addr(), data.len());
        io.send(data)
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        log_close(io, reason);
    }
}

/// [`Echo`], for connections from a proxy: it announces the client that the proxy names.
#[derive(Clone, Copy)]
struct ProxiedEcho {
    is_quiet: bool,
}

impl Protocol for ProxiedEcho {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        announce(&io.peer_addr(), self.is_quiet);
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        LoggedEcho.handle_read(io, data)
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        log_close(io, reason);
    }
}

fn announce(peer: &Address, is_quiet: bool) {
    if !is_quiet {
        STDOUT.write_line(&format!("Incoming connection from {peer}"));
    }
}

/// Logs the end of a connection, as a warning if the shutdown did not wait for it, or it
/// never started.
fn log_close(io: &Io<'_>, reason: &CloseReason) {
    let peer = io.peer_addr();
    if matches!(reason.cause, Cause::TimedOut(TimeoutKind::Handshake)) {
        log::warn!("{peer}: {reason}");
    } else if !matches!(reason.cause, Cause::Shutdown) {
        log::debug!("{peer}: {reason}");
    } else if CUT_COUNT.fetch_add(1, Ordering::Relaxed) < MAX_CUT_LOGGED {
        log::warn!("{peer}: closed by the shutdown, with {} bytes unsent", reason.unsent);
    }
}

/// Logs how many connections the shutdown closed, if it named only some.
pub(crate) fn log_cut_count() {
    let count = CUT_COUNT.load(Ordering::Relaxed);
    if count > MAX_CUT_LOGGED {
        log::warn!("connections closed by the shutdown: {count}");
    }
}

/// What the listeners of all threads share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Counts the connections.
    pub(crate) limit: ConnectionLimit,
    pub(crate) security: Security,
}

/// What each thread listens on.
pub(crate) enum Target {
    /// Addresses, of which each thread binds its own sockets.
    Addrs(Vec<SocketAddr>),
    /// Sockets that listen already, and that all threads share.
    Inherited(Vec<OwnedDescriptor>),
}

impl Target {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Target::Addrs(addrs) => addrs.is_empty(),
            Target::Inherited(sockets) => sockets.is_empty(),
        }
    }

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
/// inherited sockets.
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
    shared: &Shared,
    options: &Options,
) -> io::Result<Vec<Listener>> {
    let listeners = if options.proxy_protocol {
        bind(target, accept_proxied(options), options)
    } else if log::log_enabled!(log::Level::Trace) {
        bind(target, accept(LoggedEcho, options), options)
    } else {
        bind(target, accept(Echo, options), options)
    }?;
    Ok(listeners.into_iter().map(|listener| configure(listener, shared, options)).collect())
}

/// Listens on a Unix socket, as [`listen`].
///
/// # Errors
///
/// Returns an error if `path` cannot be bound.
pub(crate) fn listen_unix(path: &Path, shared: &Shared, options: &Options) -> io::Result<Listener> {
    let listener = if options.proxy_protocol {
        bind_unix(path, accept_proxied(options))
    } else if log::log_enabled!(log::Level::Trace) {
        bind_unix(path, accept(LoggedEcho, options))
    } else {
        bind_unix(path, accept(Echo, options))
    }?;
    Ok(configure(listener, shared, options))
}

fn bind<P: Protocol>(
    target: &Target,
    handle_accepted: impl FnMut(&Address) -> io::Result<P> + Copy + 'static,
    options: &Options,
) -> io::Result<Vec<Listener>> {
    // Only with several threads: a shared port can also be bound by another
    // server, which would then receive some of the connections.
    match (target, options.threads.get()) {
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
    }
}

/// Returns a handler that announces a connection, and has `protocol` serve it.
fn accept<P: Copy + 'static>(
    protocol: P,
    options: &Options,
) -> impl FnMut(&Address) -> io::Result<P> + Copy + 'static {
    let is_quiet = options.quiet;
    move |peer| {
        announce(peer, is_quiet);
        Ok(protocol)
    }
}

/// Returns a handler for connections from proxies, whose clients are not known yet.
fn accept_proxied(
    options: &Options,
) -> impl FnMut(&Address) -> io::Result<ProxiedEcho> + Copy + 'static {
    let is_quiet = options.quiet;
    move |_| Ok(ProxiedEcho { is_quiet })
}

/// Applies the options to a listener.
fn configure(listener: Listener, shared: &Shared, options: &Options) -> Listener {
    let limits = Limits {
        idle_timeout: options.idle_timeout,
        stall_timeout: Some(options.stall_timeout),
        handshake_timeout: Some(options.handshake_timeout),
        ..Limits::default()
    };
    let listener = listener.with_limits(limits).with_connection_limit(shared.limit.clone());
    let listener = match &options.proxy_from[..] {
        _ if !options.proxy_protocol => listener,
        [] => proxy_protocol::listen(listener, proxy_protocol::loopback()),
        networks => proxy_protocol::listen(listener, networks.iter().copied()),
    };
    shared.security.protect(listener)
}

/// The addresses of a host of the command line.
pub(crate) struct HostAddrs {
    host: String,
    addrs: Vec<SocketAddr>,
}

impl HostAddrs {
    /// Resolves the host of each of `endpoints` that has one.
    ///
    /// `Listener::bind_all` resolves names too, but does not distinguish an unknown
    /// name from an address that cannot be bound.
    ///
    /// # Errors
    ///
    /// Returns an error if a host has no address, or none of the IP version that
    /// the options select.
    pub(crate) fn resolve(endpoints: &[Endpoint], options: &Options) -> anyhow::Result<Vec<Self>> {
        let mut hosts = Vec::new();
        for endpoint in endpoints {
            if let Endpoint::Inet { host, port } = endpoint {
                let addrs = resolve(host, port.unwrap_or(0), options)?;
                hosts.push(HostAddrs { host: host.clone(), addrs });
            }
        }
        Ok(hosts)
    }

    /// Returns all addresses of `hosts`.
    pub(crate) fn all(hosts: &[Self]) -> Vec<SocketAddr> {
        hosts.iter().flat_map(|host| host.addrs.iter().copied()).collect()
    }

    /// Checks that each of `hosts` has an address among `bound`. One that this
    /// machine does not have is skipped if there are others, but these may be of
    /// another host.
    ///
    /// # Errors
    ///
    /// Returns an error for the first host without an address.
    pub(crate) fn check_bound(hosts: &[Self], bound: &[SocketAddr]) -> anyhow::Result<()> {
        let is_bound = |addr: &SocketAddr| bound.iter().any(|bound| bound.ip() == addr.ip());
        match hosts.iter().find(|host| !host.addrs.iter().any(is_bound)) {
            None => Ok(()),
            Some(HostAddrs { host, .. }) => {
                let hint = bind_hint(&ErrorKind::AddrNotAvailable.into());
                bail!("cannot listen on {host}: this machine does not have the address; {hint}")
            }
        }
    }
}

fn resolve(host: &str, port: u16, options: &Options) -> anyhow::Result<Vec<SocketAddr>> {
    let addrs = (host, port).to_socket_addrs().map_err(|error| {
        anyhow!(
            "cannot resolve host {host:?}: {}; check the name, \
             or specify an address with --host, such as 127.0.0.1",
            without_errno(&error)
        )
    })?;
    let is_wanted = |addr: &SocketAddr| match (options.ipv4, options.ipv6) {
        (true, _) => addr.is_ipv4(),
        (_, true) => addr.is_ipv6(),
        (false, false) => true,
    };
    let addrs: Vec<_> = addrs.filter(is_wanted).collect();
    if addrs.is_empty() && (options.ipv4 || options.ipv6) {
        let (version, flag) = if options.ipv4 { ("IPv4", "-4") } else { ("IPv6", "-6") };
        bail!("cannot resolve host {host:?}: it has no {version} address; omit {flag}");
    }
    Ok(addrs)
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

/// Returns advice for a Unix socket that cannot be bound.
pub(crate) fn bind_unix_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "stop the other server, or choose the path of no other file",
        ErrorKind::NotFound => "create its directory, or choose another path",
        _ => "choose another path",
    }
}
