//! What goes wrong when a program starts to listen, and when it connects.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use echo_server::{Options, Server};
use reactor::{Limits, Stream};
use sim::{Fault, Faults, Sim, SimError};

use crate::common::{LATENCY, Log, MINUTE, On, Probe, SECOND, server_addr};
use crate::support::{add_echo, rest, up_to};

/// echo-server is to listen where it cannot: its error names the address, and what to do.
pub(crate) fn cannot_listen(sim: &mut Sim) -> anyhow::Result<()> {
    add_echo(sim, |listener| listener)?;
    let (address, hint) = match sim.choose(3) {
        0 => ("10.0.0.1:7", "stop the other server"),
        1 => ("0.0.0.0:7", "stop the other server"),
        _ => ("10.0.0.77:7", "choose an address of this machine"),
    };
    let options = Options::try_parse_from(["echo-server", "--quiet", address])?;
    let result = sim.machine("another", [10, 0, 0, 1], move |reactor| {
        Server::setup(reactor, &options).map(drop).map_err(std::io::Error::other)
    });
    let Err(SimError::Setup { error, .. }) = result else {
        anyhow::bail!("it listens on {address}: {result:?}")
    };
    let error = error.to_string();
    let is_named = error.starts_with(&format!("cannot listen on {address}"));
    ensure!(is_named && error.contains(hint) && !error.contains('\n'), "{error}");
    Ok(())
}

/// Connects to a name, and logs what happens.
fn connect_host(sim: &mut Sim, name: &str, limits: Limits) -> anyhow::Result<Log> {
    let log = Log::new();
    let (noted, name) = (log.clone(), name.to_owned());
    let client = sim.machine("client", [10, 0, 0, 2], move |reactor| {
        noted.note(reactor.context().clock(), "starts");
        let probe = Probe::new("client", &noted, |on, io| {
            if on == On::Connect {
                io.close();
            }
            Ok(())
        });
        reactor.add(Stream::connect_host(&name, 7, probe).with_limits(limits)).map(drop)
    })?;
    rest(sim)?;
    ensure!(sim.has_ended(client), "the client has not ended");
    Ok(log)
}

pub(crate) fn unknown_name(sim: &mut Sim) -> anyhow::Result<()> {
    add_echo(sim, |listener| listener)?;
    sim.add_name("server.test", [IpAddr::from([10, 0, 0, 1])]);
    let is_known = sim.choose(2) == 0;
    if is_known {
        // It is known, but the system cannot tell at the moment.
        sim.set_faults(Faults::none().with(Fault::NameFailure, 1_000_000));
    }
    let name = if is_known { "server.test" } else { "nope.invalid" };
    let log = connect_host(sim, name, Limits::default())?;
    let lines = log.lines();
    let expected = "client closed: failed to lookup address information: Name or service not known";
    ensure!(lines == ["starts", expected], "{lines:?}");
    Ok(())
}

/// The only address does not reply.
pub(crate) fn connect_timeout(sim: &mut Sim) -> anyhow::Result<()> {
    let timeout = Duration::from_millis(1 + sim.choose(40_000));
    sim.add_name("server.test", [IpAddr::from([10, 0, 0, 9])]);
    // Without it, the system gives up.
    let is_limited = sim.choose(4) != 0;
    let connect_timeout = is_limited.then_some(timeout);
    let log = connect_host(sim, "server.test", Limits { connect_timeout, ..Limits::default() })?;
    let took = log.between("starts", "client closed");
    if is_limited {
        ensure!(log.has("timed out: connect timeout") && took == timeout, "{took:?}");
    } else {
        ensure!(log.has("timed out (os error") && took > MINUTE, "{took:?}: {:?}", log.lines());
    }
    Ok(())
}

/// A name has several addresses, and one of them answers.
pub(crate) fn several_addresses(sim: &mut Sim) -> anyhow::Result<()> {
    add_echo(sim, |listener| listener)?;
    // A host on which nothing listens there.
    sim.machine("other", [10, 0, 0, 8], |reactor| {
        reactor.context().call_later(MINUTE, |_| ());
        Ok(())
    })?;
    let mut ips = Vec::new();
    let (mut silent, mut refusing) = (0, 0);
    for _ in 0..sim.choose(4) {
        if sim.choose(2) == 0 {
            silent += 1;
            ips.push(IpAddr::from([10, 0, 0, 100 + silent]));
        } else {
            refusing += 1;
            ips.push(IpAddr::from([10, 0, 0, 8]));
        }
    }
    ips.push(server_addr().ip());
    sim.add_name("server.test", ips);
    let log = connect_host(sim, "server.test", Limits::default())?;
    ensure!(log.has("client closed: closed"), "{:?}", log.lines());
    // RFC 8305: the next one follows after 250 ms, or at once after a refusal.
    let took = log.between("starts", "client connected");
    let trips = 2 * LATENCY * (2 + u32::from(refusing > 0) * 4);
    let expected = Duration::from_millis(250) * u32::from(silent);
    ensure!(took >= expected && took <= expected + trips, "{took:?}: {silent} {refusing}");
    Ok(())
}

/// Partitions while connecting: the deadline holds, or the connection is established.
pub(crate) fn lost_requests(sim: &mut Sim) -> anyhow::Result<()> {
    add_echo(sim, |listener| listener)?;
    sim.add_name("server.test", [server_addr().ip()]);
    sim.set_faults(Faults::none().with(Fault::Loss, 500_000));
    let timeout = SECOND + up_to(sim, 20 * SECOND);
    let limits = Limits { connect_timeout: Some(timeout), ..Limits::default() };
    let log = connect_host(sim, "server.test", limits)?;
    if log.has("client connected") {
        ensure!(log.between("starts", "client connected") <= timeout, "{:?}", log.lines());
    } else {
        ensure!(log.between("starts", "connect timeout") == timeout, "{:?}", log.lines());
    }
    Ok(())
}
