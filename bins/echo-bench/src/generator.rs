//! [`Generator`]: all connections of one thread, on a reactor.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use cli::error::{with_fd_hint, without_errno};
use reactor::{Context, Reactor};

use crate::conversation::Conversation;
use crate::idle::Idle;
use crate::options::Options;
use crate::pattern::Pattern;
use crate::progress::MessageCount;
use crate::record::Record;
use crate::share::Share;
use crate::workload::{CONNECT_TIMEOUT, Workload};

/// Maximum number of connections that are being established at a time.
const MAX_PENDING_CONNECTS: u64 = 256;

/// Interval at which the progress is updated.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

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
        addr: SocketAddr,
        share: Share,
        pattern: Arc<Pattern>,
        options: &'a Options,
    ) -> anyhow::Result<Self> {
        let workload = Rc::new(Workload::new(addr, share.first_number(), pattern, options)?);
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
            reactor.turn(Some(PROGRESS_INTERVAL)).context("the event loop failed")?;
            if let Some((error, _)) = workload.record().errors().first_key_value() {
                if workload.record().connections() == 0 {
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
    /// received, a connection failed, or the generator was stopped.
    ///
    /// # Errors
    ///
    /// Returns an error if the event loop fails. Errors of connections are in
    /// the record.
    pub(crate) fn measure(&mut self, progress: &Arc<MessageCount>) -> anyhow::Result<()> {
        let Generator { reactor, workload, share, options } = self;
        let cx = reactor.context();
        schedule(cx, options, workload);
        update_progress(cx, Rc::clone(workload), Arc::clone(progress), 0);
        let ready = workload.start();
        if workload.is_churn() {
            for _ in 0..share.connections() {
                Conversation::open(cx, workload)
                    .map_err(|error| anyhow!("cannot connect: {}", with_hint(&error)))?;
            }
        } else {
            for token in ready {
                Conversation::start(cx, token);
            }
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

/// Schedules the start and the end of the measurement.
fn schedule(cx: &mut Context, options: &Options, workload: &Rc<Workload>) {
    let started = Rc::clone(workload);
    cx.call_later(options.warm_up, move |_| started.record_mut().start_measuring(Instant::now()));
    let finished = Rc::clone(workload);
    let end = options.warm_up.saturating_add(options.duration);
    cx.call_later(end, move |cx| {
        finished.record_mut().finish(Instant::now());
        // Each conversation closes after its last reply, and the last one stops
        // the reactor.
        if finished.open_count() == 0 {
            cx.stop();
        }
        cx.call_later(LAST_REPLIES_TIMEOUT, move |cx| {
            let seconds = LAST_REPLIES_TIMEOUT.as_secs();
            let error = format!("no reply within {seconds} s after the end of the measurement");
            finished.fail(cx, error);
        });
    });
}

/// Adds the messages since the last update, of which `reported` were counted in
/// all, and schedules the next update.
fn update_progress(
    cx: &mut Context,
    workload: Rc<Workload>,
    progress: Arc<MessageCount>,
    reported: u64,
) {
    let messages = workload.record().messages();
    if workload.record().is_finished() {
        return;
    }
    progress.add(messages - reported);
    cx.call_later(PROGRESS_INTERVAL, move |cx| update_progress(cx, workload, progress, messages));
}
