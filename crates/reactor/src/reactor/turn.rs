//! The turn, from top to bottom.
//!
//! ```text
//!            +-----------------------------------------------------+
//!            v                                                     |
//!   1 wait --> 2 dispatch events --> 3 timers, jobs --> 4 settle --+
//! ```
//!
//! A channel is settled after each of its callbacks: closed if it has ended, or else
//! its registration is compared with what it wants now. Step 4 settles the channels
//! that were added, or reached through their token, and closes those that have ended.

use std::io;
use std::time::{Duration, Instant};

use crate::poll::{Event, Interest, Ready};
use crate::reactor::call::Callback;
use crate::reactor::timers::{Expiry, TimerAction};
use crate::reactor::{Context, Reactor};
use crate::token::Token;

/// How many posted jobs run in one turn: enough to make the cost of the wait
/// disappear, few enough not to delay I/O.
const MAX_JOBS_PER_TURN: usize = 1024;

/// How many timers run in one turn, likewise.
const MAX_TIMERS_PER_TURN: usize = 1024;

impl Reactor {
    /// Runs one turn: waits until a source is ready, for at most `limit` (`None`:
    /// without limit), and serves it. Returns `false` if [`Context::stop`] was
    /// called or no work remains, and `true` otherwise.
    ///
    /// To embed the reactor in another loop, watch [`source`](Self::source) for reading,
    /// wait until [`next_deadline`](Self::next_deadline) at the latest, and then call
    /// `turn(Some(Duration::ZERO))`.
    ///
    /// # Errors
    ///
    /// The same as for [`run`](Self::run).
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        self.cx.poller.owner().check()?;
        self.run_turn(limit)
    }

    pub(super) fn run_turn(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        // Channels that were added or reached from outside since the last turn.
        self.cx.settle_pending();

        let deadline = self.cx.wait_deadline(limit);
        self.cx.poller.wait(&mut self.events, deadline)?;
        self.cx.start_turn();

        // Some systems need more than the short path, and so does measuring.
        let is_short = !self.cx.poller.is_oneshot() && self.cx.monitor.is_off();
        for event in self.events.iter() {
            self.cx.dispatch_event(event, is_short);
        }
        self.cx.dispatch_always_ready();
        self.cx.leave_channels();
        self.cx.run_timers();
        self.cx.run_jobs();
        self.cx.settle_pending();
        self.cx.park();
        Ok(self.cx.continue_run())
    }
}

impl Context {
    /// Returns until when to wait: the next timer or the limit, or now if work is
    /// pending. `None`, and so no timeout, if there is neither.
    pub(super) fn wait_deadline(&self, limit: Option<Duration>) -> Option<Instant> {
        if self.has_pending_work() {
            return Some(self.now);
        }
        let limit = limit.and_then(|limit| self.clock().checked_add(limit));
        match (self.timers.next_expiry(), limit) {
            (Some(expiry), Some(limit)) => Some(expiry.min(limit)),
            (expiry, limit) => expiry.or(limit),
        }
    }

    fn has_pending_work(&self) -> bool {
        self.stopping
            || self.drain.is_requested()
            || !self.jobs.is_empty()
            || !self.always_ready.is_empty()
            || !self.pending.is_empty()
    }

    fn start_turn(&mut self) {
        self.now = self.clock();
        self.stats.turns += 1;
        // From here on a post need not wake the loop.
        self.handle.take_jobs(&mut self.jobs);
    }

    /// Passes one event to its channel. An event for a channel that an earlier
    /// callback of the same batch closed is dropped, and so is one whose slot
    /// contains a new channel.
    #[inline(always)]
    fn dispatch_event(&mut self, event: Event, is_short: bool) {
        // Most events: a channel that only waits for input.
        if is_short && let Some((token, channel)) = self.slots.take_readable(event) {
            self.stats.events += 1;
            return self.read(token, channel);
        }
        self.dispatch_other(event);
    }

    #[inline(never)]
    fn dispatch_other(&mut self, event: Event) {
        match self.slots.resolve_settled(event.key) {
            Some((token, interest)) if !event.ready.urgent() && !self.poller.is_oneshot() => {
                let ready = event.ready.intersection(interest);
                if ready.is_empty() {
                    return self.dispatch_special(event);
                }
                self.count_event(token);
                self.dispatch_ready(token, ready);
            }
            _ => self.dispatch_special(event),
        }
    }

    fn dispatch_ready(&mut self, token: Token, ready: Interest) {
        self.source_exchanged = false;
        if ready.readable() {
            self.call(token, Callback::Read);
        }
        // The event does not belong to a source that the read has put in place.
        if ready.writable() && !self.source_exchanged {
            self.call(token, Callback::Write);
        }
    }

    /// Handles the rare cases: a channel that an earlier callback of this batch has
    /// touched, urgent data, a hang-up of a source from which nothing is wanted, and a
    /// oneshot poller.
    #[cold]
    fn dispatch_special(&mut self, mut event: Event) {
        let Some((token, _)) = self.slots.resolve(event.key) else {
            if self.poller.is_oneshot() {
                self.slots.disarm_key(event.key);
            }
            return;
        };
        self.count_event(token);
        if self.poller.is_oneshot() {
            self.slots.disarm(token);
            self.mark_dirty(token);
        }
        // What it wants may have changed, for example by `pause`.
        self.settle_channel(token);
        let Some((_, interest)) = self.slots.resolve(token.key()) else { return };
        if interest.is_empty() {
            // Or the event is one that the channel still wanted when it occurred.
            if self.check_channel(token, |channel| channel.source().check_hung_up()) {
                self.dispatch_hangup(token);
            }
            return;
        }
        if !event.ready.readable() && !event.ready.writable() {
            return self.dispatch_hangup(token);
        }
        self.source_exchanged = false;
        if event.ready.urgent() && interest.readable() {
            self.call(token, Callback::UrgentData);
            // `polling` reports urgent data as readable: only the source shows if
            // there is anything else to read.
            let readable = self.check_channel(token, |channel| channel.source().check_readable());
            event.ready = Ready::new(readable, event.ready.writable());
        }
        if !self.source_exchanged
            && let Some((_, interest)) = self.slots.resolve(token.key())
        {
            self.dispatch_ready(token, event.ready.intersection(interest));
        }
    }

    /// Sources that never block have a turn like all others.
    fn dispatch_always_ready(&mut self) {
        if self.always_ready.is_empty() {
            return;
        }
        // A copy, because a callback may remove and add entries.
        for token in self.always_ready.clone() {
            let key = token.key();
            self.dispatch_other(Event { key, ready: Ready::new(true, true) });
        }
    }

    /// A source hung up or failed while nothing was wanted from it. A level-triggered
    /// poller would report that forever, so the source leaves the poller until the
    /// channel wants something again.
    fn dispatch_hangup(&mut self, token: Token) {
        self.call(token, Callback::Hangup);
        self.suspend_registration(token);
    }

    fn run_timers(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        // A timer that a timer sets runs in the next turn.
        let mark = self.timers.sequence_mark();
        for _ in 0..MAX_TIMERS_PER_TURN {
            let Some(expiry) = self.timers.pop_expired(self.now, mark) else { break };
            match expiry {
                Expiry::Timer(id, TimerAction::Channel(token)) => {
                    self.call(token, Callback::Timer(id));
                }
                Expiry::Timer(_, TimerAction::Call(job)) => self.run_job(job),
                Expiry::Timer(_, TimerAction::ExpireDrain) => self.expire_drain(),
                Expiry::Deadline(token) => self.on_deadline(token),
            }
        }
    }

    /// The deadline that was armed for `token` has passed.
    pub(super) fn on_deadline(&mut self, token: Token) {
        self.slots.clear_deadline(token);
        self.call(token, Callback::Deadline);
    }

    fn run_jobs(&mut self) {
        // Jobs that callbacks of this turn posted run in it, too.
        self.handle.take_jobs(&mut self.jobs);
        for _ in 0..MAX_JOBS_PER_TURN {
            let Some(job) = self.jobs.pop_front() else { break };
            self.run_job(job);
        }
    }

    /// Prepares for the wait: from here on, the next post wakes the loop.
    fn park(&mut self) {
        // Not once only: the job that was posted may have been taken before.
        while self.jobs.is_empty() && !self.handle.try_sleep() {
            self.handle.take_jobs(&mut self.jobs);
        }
    }
}
