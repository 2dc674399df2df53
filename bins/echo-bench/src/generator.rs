//! [`Generator`]: all connections of one thread, on a reactor.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use cli::error::{with_fd_hint, without_errno};
use cli_tls::Security;
use reactor::{Address, Context, Reactor, Token};

use crate::conversation::Conversation;
use crate::failure::{Failure, FailureKind};
use crate::idle::Idle;
use crate::interval::Interval;
use crate::options::Options;
use crate::pattern::Pattern;
use crate::record::Record;
use crate::share::Share;
use crate::workload::{CONNECT_TIMEOUT, Workload};

/// Maximum number of connections that are being established at a time.
const MAX_PENDING_CONNECTS: u64 = 256;

/// Interval at which the opening of connections is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Time for the last replies after the end of the measurement.
const LAST_REPLIES_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections on a reactor, which exchange messages and are not yet measured.
pub(crate) struct Generator<'a> {
    reactor: Reactor,
    workload: Rc<Workload>,
    share: Share,
    options: &'a Options,
}

impl<'a> Generator<'a> {
    /// Creates a generator for `share`, on a reactor without channels.
    ///
    /// # Errors
    ///
    /// Returns an error if the reactor or the record cannot be created.
    pub(crate) fn new(
        addr: Address,
        share: Share,
        pattern: Arc<Pattern>,
        security: Security,
        options: &'a Options,
    ) -> anyhow::Result<Self> {
        let workload = Rc::new(Workload::new(addr, share, pattern, security, options)?);
        let reactor = Reactor::new()
            .map_err(|error| anyhow!("cannot create the event loop: {}", with_fd_hint(&error)))?;
        Ok(Generator { reactor, workload, share, options })
    }

    /// Returns the handle by which other threads stop this one.
    pub(crate) fn handle(&self) -> reactor::Handle {
        self.reactor.handle()
    }

    /// Opens all connections, and waits for the first reply on each that
    /// exchanges messages. Returns `false` if `is_stopped` returned `true`, or if
    /// a connection failed after it was established: the record contains the
    /// error.
    ///
    /// # Errors
    ///
    /// Returns an error if the server does not accept all connections in time.
    pub(crate) fn open(&mut self, is_stopped: impl Fn() -> bool) -> anyhow::Result<bool> {
        let (idle, conversations) = (self.share.idle(), self.share.connections());
        let (connected, ready) =
            (|workload: &Workload| workload.record().connections(), Workload::ready_count);
        Ok(self.open_all(idle, Idle::open, connected, &is_stopped)?
            && self.open_all(conversations, Conversation::open, ready, &is_stopped)?)
    }

    /// Opens `count` connections with `open` and waits until `ready` counts all.
    fn open_all(
        &mut self,
        count: usize,
        open: impl Fn(&mut Context, &Rc<Workload>) -> io::Result<()>,
        ready: impl Fn(&Workload) -> u64,
        is_stopped: impl Fn() -> bool,
    ) -> anyhow::Result<bool> {
        let Generator { reactor, workload, .. } = self;
        let (addr, started_at, count) = (workload.addr(), Instant::now(), count as u64);
        let mut opened = 0;
        while ready(workload) < count {
            while opened < count && opened < ready(workload) + MAX_PENDING_CONNECTS {
                open(reactor.context(), workload)
                    .map_err(|error| anyhow!("cannot connect to {addr}: {}", with_hint(&error)))?;
                opened += 1;
            }
            reactor.turn(Some(CHECK_INTERVAL)).context("the event loop failed")?;
            if let Some((_, errors)) = workload.record().errors().first_key_value() {
                if workload.record().connections() == 0 {
                    let error = &errors.example;
                    bail!("cannot connect to {addr}: {error}; is an echo server running there?");
                }
                return Ok(false);
            }
            if is_stopped() {
                return Ok(false);
            }
            if started_at.elapsed() > CONNECT_TIMEOUT + Duration::from_millis(count) {
                let ready = ready(workload);
                bail!("{addr}: accepted {ready} of {count} connections in time");
            }
        }
        Ok(true)
    }

    /// Runs the warm-up and the measurement, until the last replies were
    /// received, a connection failed, or the generator was stopped. Calls
    /// `report` at the end of each interval with its number, from 0.
    ///
    /// # Errors
    ///
    /// Returns an error if the event loop fails. Errors of connections are in
    /// the record.
    pub(crate) fn measure(
        &mut self,
        report: impl Fn(usize, Interval) + 'static,
    ) -> anyhow::Result<()> {
        let Generator { reactor, workload, share, options } = self;
        let cx = reactor.context();
        let now = Instant::now();
        let ready = workload.start(now);
        if workload.is_churn() {
            for _ in 0..share.connections() {
                Conversation::open(cx, workload)
                    .map_err(|error| anyhow!("cannot connect: {}", with_hint(&error)))?;
            }
        } else {
            for &token in &ready {
                Conversation::start(cx, token);
            }
        }
        let (workload, interval) = (Rc::clone(workload), options.interval());
        if let Some(duration) = options.duration() {
            schedule_end(cx, options.warm_up().saturating_add(duration), ready, &workload);
        }
        let start = move |cx: &mut Context| {
            let now = Instant::now();
            match workload.record_mut().start_measuring(now) {
                Ok(()) => {}
                Err(error) => {
                    let failure = Failure::new(FailureKind::Local, error.to_string());
                    return workload.fail(cx, &failure);
                }
            }
            schedule_interval(cx, Rc::clone(&workload), now, interval, 0, report);
        };
        match options.warm_up() {
            Duration::ZERO => start(cx),
            warm_up => drop(cx.call_later(warm_up, start)),
        }
        reactor.run().context("the event loop failed")
    }

    /// Closes all connections and returns the record.
    ///
    /// # Errors
    ///
    /// Does not return an error unless a protocol outlives its reactor.
    pub(crate) fn finish(self) -> anyhow::Result<Record> {
        // Unless it has ended in time.
        self.workload.record_mut().finish(Instant::now());
        // Drops the protocols, each of which holds the workload.
        drop(self.reactor);
        let workload = Rc::into_inner(self.workload).context("a conversation is still open")?;
        Ok(workload.into_record())
    }
}

/// Returns the text of `error` and what to do.
fn with_hint(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        // RFC 9293, section 3.4.1: TIME-WAIT.
        let text = without_errno(error);
        return format!("{text}: no port is available; closed connections keep theirs a minute");
    }
    with_fd_hint(error)
}

/// Schedules the end of the measurement, at which each of `conversations` closes
/// that waits for no reply.
fn schedule_end(
    cx: &mut Context,
    after: Duration,
    conversations: Vec<Token>,
    workload: &Rc<Workload>,
) {
    let workload = Rc::clone(workload);
    cx.call_later(after, move |cx| {
        workload.record_mut().finish(Instant::now());
        for token in conversations {
            Conversation::end(cx, token);
        }
        // Each conversation closes after its last reply, and the last one stops
        // the reactor.
        if workload.open_count() == 0 {
            cx.stop();
        }
        cx.call_later(LAST_REPLIES_TIMEOUT, move |cx| {
            let seconds = LAST_REPLIES_TIMEOUT.as_secs();
            let text = format!("no reply within {seconds} s after the end of the measurement");
            workload.fail(cx, &Failure::new(FailureKind::NoReply, text));
        });
    });
}

/// Schedules the end of interval number `number`, and so of all later ones.
fn schedule_interval(
    cx: &mut Context,
    workload: Rc<Workload>,
    since: Instant,
    length: Duration,
    number: usize,
    report: impl Fn(usize, Interval) + 'static,
) {
    let Some(until) = since.checked_add(length) else { return };
    cx.call_at(until, move |cx| {
        if workload.record().is_finished() {
            return;
        }
        let ended = workload.record_mut().end_interval(Instant::now());
        if let Some(interval) = ended {
            report(number, interval);
        }
        schedule_interval(cx, workload, until, length, number + 1, report);
    });
}
