//! [`Server`]: listeners, two signals and the worker threads, on a reactor.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use anyhow::{Context as _, anyhow, bail};
use cli::error::{with_fd_hint, without_errno};
use cli::output::{STDERR, STDOUT};
use cli::value::Endpoint;
use reactor::signal::Signals;
use reactor::{Address, ConnectionLimit, Handle, Reactor};

use crate::listen::{
    HostAddrs, Shared, Target, bind_hint, bind_unix_hint, listen, listen_unix, log_cut_count,
};
use crate::options::Options;
use crate::security::Security;
use crate::service_manager::{self, State};
use crate::sys::unix::on_hangup;
use crate::thread_config::ThreadConfig;
use crate::workers::Workers;

/// Serves until a signal ends it.
///
/// # Errors
///
/// Returns an error if the server cannot listen, if it fails later, or if a
/// second signal closed connections.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut reactor = Reactor::builder()
        .busy_poll(options.busy_poll)
        .build()
        .map_err(|error| anyhow!("cannot create the event loop: {}", with_fd_hint(&error)))?;
    raise_open_file_limit(options);

    let server = Server::setup(&mut reactor, options)?;
    // After the signal handlers are installed: the reader of these lines may
    // send a signal at once.
    for addr in &server.addrs {
        STDOUT.write_line(&format!("Listening on {addr}"));
        log::info!("listening on {addr}");
    }
    service_manager::notify(State::Ready);

    // Returns when the last channel has closed, or at the second signal.
    reactor.run().context("the event loop failed")?;
    server.finish()
}

/// A server that was added to a reactor.
pub struct Server {
    addrs: Vec<Address>,
    workers: Workers,
    signals_received: Rc<Cell<u32>>,
}

impl Server {
    /// Adds the listeners, the worker threads and the signals to `reactor`.
    ///
    /// # Errors
    ///
    /// Returns an error if the host does not resolve, an address of it cannot
    /// be bound, an inherited descriptor is no listening socket, or a thread, a
    /// processor or a signal is not available, or a file for TLS cannot be used.
    pub fn setup(reactor: &mut Reactor, options: &Options) -> anyhow::Result<Self> {
        let security = Security::load(options)?;
        let inherited = service_manager::listening_sockets()?;
        let endpoints = if inherited.is_empty() { options.endpoints() } else { Vec::new() };
        let hosts = HostAddrs::resolve(&endpoints, options)?;
        let target = if inherited.is_empty() {
            Target::Addrs(HostAddrs::all(&hosts))
        } else {
            Target::Inherited(inherited)
        };
        let mut configs = ThreadConfig::for_threads(options)?;
        // One limit for all threads.
        let limit = match options.max_connections {
            Some(max) => ConnectionLimit::new(max.get()),
            None => ConnectionLimit::default(),
        };
        let shared = Shared { limit, security };
        let mut listeners = Vec::new();
        if target.is_empty() {
            // The other threads would have nothing to listen on.
            configs.truncate(1);
        } else {
            listeners = listen(&target, &shared, options).map_err(|error| match target {
                // The error's own text begins with the address.
                Target::Addrs(_) => {
                    anyhow!("cannot listen on {}; {}", without_errno(&error), bind_hint(&error))
                }
                // Names the descriptor.
                Target::Inherited(_) => anyhow!(error),
            })?;
        }
        let inet: Vec<_> =
            listeners.iter().filter_map(|listener| listener.local_addr().as_inet()).collect();
        HostAddrs::check_bound(&hosts, &inet)?;
        for endpoint in endpoints {
            if let Endpoint::Unix(path) = endpoint {
                listeners.push(listen_unix(&path, &shared, options).map_err(|error| {
                    let hint = bind_unix_hint(&error);
                    anyhow!("cannot listen on {}; {hint}", without_errno(&error))
                })?);
            }
        }
        let addrs: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr().clone()).collect();
        for listener in listeners {
            reactor.add(listener)?;
        }

        let workers = Workers::start(reactor, &configs[1..], &target, &addrs, &shared, options)?;
        // After all other threads started, since a thread inherits the affinity.
        STDOUT.start();
        STDERR.start();
        configs[0].pin_thread()?;

        let signals_received = Rc::new(Cell::new(0));
        let signals =
            handle_signals(Rc::clone(&signals_received), workers.handles(), shared.limit, options)
                .map_err(|error| anyhow!("cannot catch signals: {}", with_fd_hint(&error)))?;
        reactor.add(signals)?;
        if shared.security.has_files() {
            let security = shared.security;
            let reload = on_hangup(move || security.reload())
                .map_err(|error| anyhow!("cannot catch signals: {}", with_fd_hint(&error)))?;
            if let Some(reload) = reload {
                reactor.add(reload)?;
            }
        }
        Ok(Server { addrs, workers, signals_received })
    }

    /// Joins the worker threads and returns how the server ended. Call it after
    /// the reactor's `run` has returned.
    ///
    /// # Errors
    ///
    /// Returns an error if a thread failed, the listening sockets did, or a second signal
    /// closed connections.
    pub fn finish(self) -> anyhow::Result<()> {
        self.workers.join()?;
        log_cut_count();
        match self.signals_received.get() {
            0 => bail!(
                "stopped listening on {}: the listening socket failed; \
                 see the log, and start the server again",
                join(&self.addrs)
            ),
            1 => Ok(()),
            _ => bail!(
                "terminated by a second signal: open connections were closed; \
                 send only one signal to let peers finish"
            ),
        }
    }
}

/// Returns the addresses as a text, separated by commas.
fn join(addrs: &[Address]) -> String {
    addrs.iter().map(Address::to_string).collect::<Vec<_>>().join(", ")
}

/// Raises the open file limit, since each connection needs a descriptor.
fn raise_open_file_limit(options: &Options) {
    let Some(limit) = cli::limits::raise_open_files() else { return };
    log::info!("open file limit is {limit}; slightly fewer peers can connect");
    if let Some(max) = options.max_connections
        && max.get() as u64 >= limit
    {
        log::warn!(
            "--max-connections {max} is not below the open file limit ({limit}): \
             further peers wait until others disconnect; raise the limit (ulimit -Hn)"
        );
    }
}

/// Drains all reactors at the first signal, and stops them at the second.
fn handle_signals(
    received: Rc<Cell<u32>>,
    workers: Vec<Handle>,
    limit: ConnectionLimit,
    options: &Options,
) -> io::Result<Signals> {
    let drain_timeout = options.drain_timeout;
    Signals::termination(move |cx| {
        received.set(received.get() + 1);
        let first = received.get() == 1;
        if first {
            service_manager::notify(State::Stopping);
            let peers = limit.open_count();
            log::info!("shutting down: open connections: {peers}, for at most {drain_timeout:?}");
            cx.drain(drain_timeout);
        } else {
            cx.stop();
        }
        for worker in &workers {
            // A worker that has ended already returns an error.
            let _ = if first { worker.drain(drain_timeout) } else { worker.stop() };
        }
    })
}
