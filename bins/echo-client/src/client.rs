//! One conversation, from resolving the server's name to the result.

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use cli::error::with_fd_hint;
use cli::value::Endpoint;
use cli_tls::Security;
use reactor::{Limits, Protocol, Reactor, Stream};

use crate::failure::Failure;
use crate::limits::connection_limits;
use crate::messages::Messages;
use crate::options::Options;
use crate::outcome::Outcome;
use crate::pipe::Pipe;
use crate::sys::unix_socket::connect_unix;
use crate::target::Target;

/// Resolves the server's name, and runs the conversation that the options
/// select.
///
/// # Errors
///
/// Returns a [`Failure`] if the conversation fails, or another error if there
/// is no event loop.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let security = match options.endpoint() {
        Endpoint::Inet { host, .. } => options.tls.load(Some(&host))?,
        Endpoint::Unix(_) => options.tls.load(None)?,
    };
    let started_at = Instant::now();
    let target = Target::resolve(&options)?;
    // Resolving the name is part of connecting.
    let connect_timeout = options.timeout.saturating_sub(started_at.elapsed());

    let mut reactor = Reactor::new()
        .map_err(|error| anyhow!("cannot create the event loop: {}", with_fd_hint(&error)))?;
    let result_rx = setup(&mut reactor, &target, &security, connect_timeout, options)?;
    reactor.run().context("the event loop failed")?;
    result_rx
        .try_recv()
        .context("the conversation ended without a result; please report this")??;
    Ok(())
}

/// Adds a connection to `reactor`. The receiver gets the result when the
/// connection closes.
fn setup(
    reactor: &mut Reactor,
    target: &Target,
    security: &Security,
    connect_timeout: Duration,
    options: Options,
) -> anyhow::Result<Receiver<Result<(), Failure>>> {
    let (result_tx, result_rx) = mpsc::channel();
    let outcome = Outcome::new(target.to_string(), options.timeout, result_tx);
    let limits = connection_limits(connect_timeout, options.timeout);
    if options.stdin {
        connect(reactor, (target, security), Pipe::new(options.timeout, outcome), limits)?;
    } else {
        let limits = Limits { idle_timeout: Some(options.timeout), ..limits };
        let messages = Messages::new(options.into_messages(), outcome);
        connect(reactor, (target, security), messages, limits)?;
    }
    Ok(result_rx)
}

fn connect(
    reactor: &mut Reactor,
    (target, security): (&Target, &Security),
    protocol: impl Protocol,
    limits: Limits,
) -> anyhow::Result<()> {
    let stream = match target {
        Target::Inet { addrs, .. } => Stream::connect(addrs.iter().copied(), protocol),
        Target::Unix(path) => connect_unix(path, protocol),
    };
    let stream = security.protect(stream.with_limits(limits))?;
    reactor.add(stream).context("cannot watch the connection")?;
    Ok(())
}
