//! Drives the load: connects, measures for a while, and ends.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use reactor::{Context, Limits, Protocol, Reactor, Stream};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::conversation::{Conversation, Idle, Load};
use crate::options::Options;
use crate::pattern::Pattern;
use crate::record::Record;
use crate::report;

/// How many connections may be under way at a time when they are opened.
const OPENING: u64 = 256;

/// How many connections go out from one loopback address: it has some 28,000
/// ports.
const PER_SOURCE: u32 = 25_000;

/// How many loopback addresses the connections of a churn go out from in turn:
/// each leaves its port in TIME-WAIT for a minute, and looking for one that is
/// free takes the kernel ever longer.
const CHURN_SOURCES: u32 = 200;

/// How long connecting may take, and the last answers when the time is up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Measures and reports. Fails, after the report, where an answer was wrong or
/// missing.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let addr = options
        .addr
        .to_socket_addrs()
        .with_context(|| format!("cannot find {}; give --addr HOST:PORT", options.addr))?
        .next()
        .with_context(|| format!("{} has no address", options.addr))?;
    let wanted = options.connections.get() + options.idle;
    check_descriptors(wanted)?;

    let load = Rc::new(Load {
        pattern: Pattern::new(options.size),
        size: options.size,
        pipeline: if options.churn { 1 } else { options.pipeline.get() },
        churn: options.churn,
        addr,
        spreads: options.churn || wanted > PER_SOURCE as usize,
        opened: Cell::new(0),
        record: RefCell::new(Record::new()?),
    });
    let mut reactor = Reactor::new().context("cannot start")?;
    open_all(&mut reactor, options.idle, &load, || Idle::new(Rc::clone(&load)))?;
    let conversing = || Conversation::new(Rc::clone(&load));
    open_all(&mut reactor, options.connections.get(), &load, conversing)?;

    schedule(reactor.context(), options, &load);
    reactor.run().context("the event loop failed")?;

    let record = load.record.borrow();
    if options.json {
        report::json(options, addr, &record)?;
    } else {
        report::text(options, addr, &record)?;
    }
    if !record.is_good() {
        bail!("{addr} did not answer as an echo server does; see the report");
    }
    Ok(())
}

/// How many descriptors it takes is known before, and so whether they suffice.
fn check_descriptors(wanted: usize) -> anyhow::Result<()> {
    /// The program's own, with room for some that are just being closed.
    const OTHERS: u64 = 64;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused, it stays what it is, and that is looked at next.
    let _ = setrlimit(Resource::Nofile, limit);
    let wanted = wanted as u64 + OTHERS;
    match getrlimit(Resource::Nofile).current {
        Some(most) if most < wanted => bail!(
            "needs {wanted} open files, and the limit is {most}: \
             ask for fewer connections, or raise it (as root: ulimit -Hn {wanted})"
        ),
        _ => Ok(()),
    }
}

/// Opens `count` connections and waits until they are.
fn open_all<P: Protocol>(
    reactor: &mut Reactor,
    count: usize,
    load: &Load,
    protocol: impl Fn() -> P,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let count = count as u64;
    let before = load.record.borrow().connections;
    // In a churn there may be more of them than were opened here.
    let connected = || load.record.borrow().connections - before;
    let mut opened = 0;
    while connected() < count {
        while opened < count && opened < connected() + OPENING {
            open(reactor.context(), load, protocol())
                .map_err(|error| anyhow!("cannot connect to {}: {}", load.addr, hinted(&error)))?;
            opened += 1;
        }
        reactor.turn(Some(Duration::from_millis(100))).context("the event loop failed")?;
        if let Some((error, _)) = load.record.borrow().errors.first_key_value() {
            bail!("cannot connect to {}: {error}; is an echo server running there?", load.addr);
        }
        if begun.elapsed() > PATIENCE + Duration::from_millis(count) {
            let done = connected();
            bail!("{} accepted {done} of {count} connections in {PATIENCE:?}", load.addr);
        }
    }
    Ok(())
}

/// The error, with what to do.
fn hinted(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        // RFC 9293, section 3.4.1: a closed connection keeps its port that long.
        return format!("{error}: no port is left; wait a minute for those that were closed");
    }
    error.to_string()
}

fn open(cx: &mut Context, load: &Load, protocol: impl Protocol) -> io::Result<()> {
    let number = load.opened.replace(load.opened.get().wrapping_add(1));
    let source = if load.churn { number % CHURN_SOURCES } else { number / PER_SOURCE };
    let stream = if load.spreads && load.addr.ip().is_loopback() && load.addr.is_ipv4() {
        // 127.0.0.1, 127.0.0.2 and so on are all this machine.
        let source = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + source);
        Stream::connect_from(SocketAddr::new(IpAddr::V4(source), 0), load.addr, protocol)?
    } else {
        Stream::connect(load.addr, protocol)?
    };
    let limits = Limits {
        // All that can be under way, so that reading never stops for it.
        high_water: load.size * load.pipeline + 1,
        connect_timeout: Some(PATIENCE),
        stall_timeout: None,
        ..Limits::default()
    };
    cx.add(stream.limits(limits)).map(drop)
}

/// The next connection of a churn.
pub(crate) fn reopen(cx: &mut Context, load: &Rc<Load>) {
    if let Err(error) = open(cx, load, Conversation::new(Rc::clone(load))) {
        load.record.borrow_mut().failed(error.to_string());
    }
}

/// Sets the times at which measuring begins and ends.
fn schedule(cx: &mut Context, options: &Options, load: &Rc<Load>) {
    let total = options.warm_up + options.duration;
    // Where standard error is no terminal it is not drawn.
    let bar = ProgressBar::new(u64::try_from(total.as_millis()).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {msg}") {
        bar.set_style(style);
    }
    tick(cx, Rc::clone(load), bar.clone(), Instant::now());

    let begin = Rc::clone(load);
    cx.call_later(options.warm_up, move |_| {
        let mut record = begin.record.borrow_mut();
        record.connections = 0;
        record.begun = Some(Instant::now());
    });
    let end = Rc::clone(load);
    cx.call_later(total, move |cx| {
        end.record.borrow_mut().ended = Some(Instant::now());
        bar.finish_and_clear();
        // Conversations end with their last answer.
        cx.drain(PATIENCE);
    });
}

fn tick(cx: &mut Context, load: Rc<Load>, bar: ProgressBar, since: Instant) {
    if bar.is_finished() || bar.is_hidden() {
        return;
    }
    bar.set_position(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX));
    bar.set_message(format!("{} messages", load.record.borrow().messages));
    cx.call_later(Duration::from_millis(100), move |cx| tick(cx, load, bar, since));
}
