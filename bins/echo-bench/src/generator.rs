//! [`Generator`]: the load of one thread. Connects, measures for a while, and ends.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use reactor::{Context, Limits, Protocol, Reactor, Stream};

use crate::conversation::{Conversation, Idle, Load};
use crate::options::Options;
use crate::pattern::Pattern;
use crate::progress::Progress;
use crate::record::Record;
use crate::run::Share;

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

/// Connections on a reactor, in conversation already and not measured yet.
pub(crate) struct Generator<'a> {
    reactor: Reactor,
    load: Rc<Load>,
    options: &'a Options,
}

impl<'a> Generator<'a> {
    /// Opens the connections of `share`. Fails where `addr` does not accept all
    /// of them.
    pub(crate) fn open(
        addr: SocketAddr,
        share: &Share,
        pattern: Arc<Pattern>,
        options: &'a Options,
    ) -> anyhow::Result<Self> {
        let wanted = options.connections.get() + options.idle;
        let load = Rc::new(Load {
            pattern,
            size: options.size,
            pipeline: if options.churn { 1 } else { options.pipeline.get() },
            churn: options.churn,
            addr,
            spreads: options.churn || wanted > PER_SOURCE as usize,
            opened: Cell::new(share.first),
            record: RefCell::new(Record::new()?),
        });
        let mut reactor = Reactor::new().context("cannot start")?;
        open_all(&mut reactor, share.idle, &load, || Idle::new(Rc::clone(&load)))?;
        let conversing = || Conversation::new(Rc::clone(&load));
        open_all(&mut reactor, share.connections, &load, conversing)?;
        Ok(Generator { reactor, load, options })
    }

    /// What came of it, when the time is up and the last answers are in.
    pub(crate) fn measure(mut self, progress: Arc<Progress>) -> anyhow::Result<Record> {
        schedule(self.reactor.context(), self.options, &self.load, progress);
        self.reactor.run().context("the event loop failed")?;
        // Conversations hold the load, and are gone with the reactor.
        drop(self.reactor);
        let load = Rc::into_inner(self.load).context("a conversation is left")?;
        Ok(load.record.into_inner())
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
    cx.add(stream.with_limits(limits)).map(drop)
}

/// The next connection of a churn.
pub(crate) fn reopen(cx: &mut Context, load: &Rc<Load>) {
    if let Err(error) = open(cx, load, Conversation::new(Rc::clone(load))) {
        load.record.borrow_mut().failed(error.to_string());
    }
}

/// Sets the times at which measuring begins and ends.
fn schedule(cx: &mut Context, options: &Options, load: &Rc<Load>, progress: Arc<Progress>) {
    tick(cx, Rc::clone(load), progress, 0);

    let begin = Rc::clone(load);
    cx.call_later(options.warm_up, move |_| {
        let mut record = begin.record.borrow_mut();
        record.connections = 0;
        record.begun = Some(Instant::now());
    });
    let end = Rc::clone(load);
    cx.call_later(options.warm_up + options.duration, move |cx| {
        end.record.borrow_mut().ended = Some(Instant::now());
        // Conversations end with their last answer.
        cx.drain(PATIENCE);
    });
}

/// Tells how many messages there are more than were told before, from time to
/// time.
fn tick(cx: &mut Context, load: Rc<Load>, progress: Arc<Progress>, told: u64) {
    let messages = load.record.borrow().messages;
    if load.record.borrow().goes_on() && progress.more(messages - told) {
        cx.call_later(Duration::from_millis(100), move |cx| tick(cx, load, progress, messages));
    }
}
