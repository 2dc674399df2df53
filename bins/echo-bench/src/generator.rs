//! [`Generator`]: all connections of one thread, on a reactor.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use reactor::{Context, Protocol, Reactor};

use crate::conversation::Conversation;
use crate::idle::Idle;
use crate::options::Options;
use crate::pattern::Pattern;
use crate::progress::Progress;
use crate::record::Record;
use crate::share::Share;
use crate::workload::{REPLY_TIMEOUT, Workload};

/// Maximum number of connections that are being established at a time.
const MAX_PENDING_CONNECTS: u64 = 256;

/// Interval at which the progress is updated.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Connections on a reactor, which exchange messages and are not yet measured.
pub(crate) struct Generator<'a> {
    reactor: Reactor,
    workload: Rc<Workload>,
    options: &'a Options,
}

impl<'a> Generator<'a> {
    /// Opens the connections of `share`.
    ///
    /// # Errors
    ///
    /// Returns an error if `addr` does not accept all of them in time.
    pub(crate) fn open(
        addr: SocketAddr,
        share: Share,
        pattern: Arc<Pattern>,
        options: &'a Options,
    ) -> anyhow::Result<Self> {
        let workload = Rc::new(Workload::new(addr, share.first_number(), pattern, options)?);
        let mut reactor = Reactor::new().context("cannot create the event loop")?;
        open_all(&mut reactor, share.idle(), &workload, || Idle::new(Rc::clone(&workload)))?;
        let conversation = || Conversation::new(Rc::clone(&workload));
        open_all(&mut reactor, share.connections(), &workload, conversation)?;
        Ok(Generator { reactor, workload, options })
    }

    /// Runs the warm-up and the measurement, and returns the record when the
    /// last replies were received.
    ///
    /// # Errors
    ///
    /// Returns an error if the event loop fails. Errors of connections are in
    /// the record.
    pub(crate) fn measure(mut self, progress: Arc<Progress>) -> anyhow::Result<Record> {
        let cx = self.reactor.context();
        schedule(cx, self.options, &self.workload);
        update_progress(cx, Rc::clone(&self.workload), progress, 0);
        self.reactor.run().context("the event loop failed")?;
        // Drops the conversations, each of which holds the workload.
        drop(self.reactor);
        let workload = Rc::into_inner(self.workload).context("a conversation is still open")?;
        Ok(workload.into_record())
    }
}

/// Opens `count` connections and waits until they are established.
fn open_all<P: Protocol>(
    reactor: &mut Reactor,
    count: usize,
    workload: &Workload,
    new_protocol: impl Fn() -> P,
) -> anyhow::Result<()> {
    let (addr, started_at) = (workload.addr(), Instant::now());
    let count = count as u64;
    let previous = workload.record().connections();
    // With churn, this includes connections that replaced others.
    let connected = || workload.record().connections() - previous;
    let mut opened = 0;
    while connected() < count {
        while opened < count && opened < connected() + MAX_PENDING_CONNECTS {
            workload
                .open(reactor.context(), new_protocol())
                .map_err(|error| anyhow!("cannot connect to {addr}: {}", with_hint(&error)))?;
            opened += 1;
        }
        reactor.turn(Some(Duration::from_millis(100))).context("the event loop failed")?;
        if let Some((error, _)) = workload.record().errors().first_key_value() {
            bail!("cannot connect to {addr}: {error}; is an echo server running there?");
        }
        if started_at.elapsed() > REPLY_TIMEOUT + Duration::from_millis(count) {
            let connected = connected();
            bail!("{addr}: accepted {connected} of {count} connections within {REPLY_TIMEOUT:?}");
        }
    }
    Ok(())
}

/// Returns the text of `error` and what to do.
fn with_hint(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        // RFC 9293, section 3.4.1: TIME-WAIT.
        return format!("{error}: no port is available; closed connections keep theirs a minute");
    }
    error.to_string()
}

/// Schedules the start and the end of the measurement.
fn schedule(cx: &mut Context, options: &Options, workload: &Rc<Workload>) {
    let started = Rc::clone(workload);
    cx.call_later(options.warm_up, move |_| started.record_mut().start_measuring(Instant::now()));
    let finished = Rc::clone(workload);
    cx.call_later(options.warm_up + options.duration, move |cx| {
        finished.record_mut().finish(Instant::now());
        // Each conversation closes after its last reply.
        cx.drain(REPLY_TIMEOUT);
    });
}

/// Adds the messages since the last update, of which `reported` were counted in
/// all, and schedules the next update.
fn update_progress(
    cx: &mut Context,
    workload: Rc<Workload>,
    progress: Arc<Progress>,
    reported: u64,
) {
    let messages = workload.record().messages();
    if workload.record().is_finished() || !progress.is_visible() {
        return;
    }
    progress.add(messages - reported);
    cx.call_later(PROGRESS_INTERVAL, move |cx| update_progress(cx, workload, progress, messages));
}
