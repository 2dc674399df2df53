//! [`Timers`]: timers, and the deadlines of channels, in order of time.
//!
//! Both are B-trees: setting and cancelling take logarithmic time, and a cancelled
//! entry leaves nothing behind. Every connection may have a deadline, so those
//! entries are small.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use crate::compact_instant::CompactInstant;
use crate::reactor::Context;
use crate::token::Token;

/// Identifies a timer, for [`Context::cancel`](crate::Context::cancel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId {
    at: CompactInstant,
    /// Of two timers for the same instant, the older one expires first.
    sequence: NonZeroU64,
}

/// What to do when a timer expires.
pub(super) enum TimerAction {
    /// Call this channel's `handle_timer`.
    Channel(Token),
    /// Close what is still open.
    ExpireDrain,
    /// Call this.
    Call(Box<dyn FnOnce(&mut Context)>),
}

/// An entry that expired.
pub(super) enum Expiry {
    /// Query if this channel's deadline has passed.
    Deadline(Token),
    Timer(TimerId, TimerAction),
}

/// The timers and deadlines of one reactor.
pub(super) struct Timers {
    /// What the compact instants are relative to.
    epoch: Instant,
    queue: BTreeMap<TimerId, TimerAction>,
    deadlines: BTreeSet<(CompactInstant, Token)>,
    /// The timers of each channel, to cancel them with it.
    by_channel: BTreeMap<(Token, NonZeroU64), CompactInstant>,
    /// How many `TimerAction::Call`s are pending: they keep the loop running.
    pending_calls: usize,
    next_sequence: NonZeroU64,
    /// The time of the turn. An entry for an earlier instant is set for this one, so
    /// that it expires after all that have expired already.
    floor: CompactInstant,
}

impl Timers {
    pub(super) fn new(epoch: Instant) -> Self {
        Timers {
            epoch,
            queue: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            by_channel: BTreeMap::new(),
            pending_calls: 0,
            next_sequence: NonZeroU64::MIN,
            floor: CompactInstant::new(epoch, epoch),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.deadlines.is_empty()
    }

    pub(super) fn compact(&self, at: Instant) -> CompactInstant {
        CompactInstant::new(self.epoch, at)
    }

    /// Sets a timer for `after` from `now`. If that is beyond the clock's range, the
    /// timer never expires and takes no memory.
    pub(super) fn set_after(
        &mut self,
        now: Instant,
        after: Duration,
        action: TimerAction,
    ) -> TimerId {
        match now.checked_add(after) {
            Some(at) => self.set(at, action),
            None => self.allocate_id(now),
        }
    }

    /// Sets a timer for the instant `at`.
    pub(super) fn set(&mut self, at: Instant, action: TimerAction) -> TimerId {
        let id = self.allocate_id(at);
        match action {
            TimerAction::Channel(token) => {
                self.by_channel.insert((token, id.sequence), id.at);
            }
            TimerAction::Call(_) => self.pending_calls += 1,
            TimerAction::ExpireDrain => {}
        }
        self.queue.insert(id, action);
        id
    }

    fn allocate_id(&mut self, at: Instant) -> TimerId {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.saturating_add(1);
        TimerId { at: self.compact(at).max(self.floor), sequence }
    }

    /// Cancels a timer. Returns `false` if it has already expired or been cancelled.
    pub(super) fn cancel(&mut self, id: TimerId) -> bool {
        self.take(id).is_some()
    }

    fn take(&mut self, id: TimerId) -> Option<TimerAction> {
        let action = self.queue.remove(&id)?;
        match action {
            TimerAction::Channel(token) => {
                self.by_channel.remove(&(token, id.sequence));
            }
            TimerAction::Call(_) => self.pending_calls -= 1,
            TimerAction::ExpireDrain => {}
        }
        Some(action)
    }

    /// Cancels every timer of `token`.
    pub(super) fn cancel_channel(&mut self, token: Token) {
        let range = (token, NonZeroU64::MIN)..=(token, NonZeroU64::MAX);
        while let Some((&(_, sequence), &at)) = self.by_channel.range(range.clone()).next() {
            self.take(TimerId { at, sequence });
        }
    }

    /// Removes all pending calls, and returns them to be dropped.
    pub(super) fn take_calls(&mut self) -> Vec<TimerAction> {
        let ids: Vec<_> = self
            .queue
            .iter()
            .filter(|(_, action)| matches!(action, TimerAction::Call(_)))
            .map(|(&id, _)| id)
            .collect();
        ids.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// Sets the deadline of `token`, which has none. Returns the instant for which it
    /// is set.
    pub(super) fn set_deadline(&mut self, token: Token, at: CompactInstant) -> CompactInstant {
        let at = at.max(self.floor);
        self.deadlines.insert((at, token));
        at
    }

    /// Removes the deadline of `token`.
    pub(super) fn cancel_deadline(&mut self, token: Token, at: CompactInstant) {
        self.deadlines.remove(&(at, token));
    }

    /// Returns when the next entry expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let timer = self.queue.first_key_value().map(|(id, _)| id.at);
        let deadline = self.deadlines.first().map(|&(at, _)| at);
        timer.into_iter().chain(deadline).min().map(|at| at.to_instant(self.epoch))
    }

    /// Returns a mark between the timers set so far and those set from now on.
    pub(super) fn sequence_mark(&self) -> NonZeroU64 {
        self.next_sequence
    }

    /// Removes and returns the next entry that has expired at `now`. A timer set after
    /// `mark` waits for the next turn, and so does all after it. A deadline waits for
    /// the timers up to its instant: one of them may postpone it.
    pub(super) fn pop_expired(&mut self, now: Instant, mark: NonZeroU64) -> Option<Expiry> {
        let now = self.compact(now);
        self.floor = self.floor.max(now);
        let timer = self.queue.first_key_value().map(|(&id, _)| id);
        if let Some(&(at, token)) = self.deadlines.first()
            && at <= now
            && timer.is_none_or(|id| at < id.at)
        {
            self.deadlines.pop_first();
            return Some(Expiry::Deadline(token));
        }
        let id = timer.filter(|id| id.at <= now && id.sequence < mark)?;
        self.take(id).map(|action| Expiry::Timer(id, action))
    }

    pub(super) fn pending_calls(&self) -> usize {
        self.pending_calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> TimerAction {
        TimerAction::Call(Box::new(|_| {}))
    }

    /// Returns the timer that expired; `None` for a deadline.
    fn name(expiry: &Expiry) -> Option<TimerId> {
        match expiry {
            Expiry::Timer(id, _) => Some(*id),
            Expiry::Deadline(_) => None,
        }
    }

    /// Returns all expired entries, in order.
    fn pop_all(timers: &mut Timers, now: Instant, mark: NonZeroU64) -> Vec<Option<TimerId>> {
        std::iter::from_fn(|| timers.pop_expired(now, mark)).map(|expiry| name(&expiry)).collect()
    }

    #[test]
    fn invariant_10_timers_expire_in_order_and_never_early() {
        let mut timers = Timers::new(Instant::now());
        let start = Instant::now();
        let late = timers.set_after(start, Duration::from_millis(20), call());
        let early = timers.set_after(start, Duration::from_millis(10), call());
        let twin = timers.set_after(start, Duration::from_millis(10), call());
        let mark = timers.sequence_mark();
        assert!(timers.pop_expired(start + Duration::from_micros(9_999), mark).is_none());
        let at = start + Duration::from_millis(20);
        let order = pop_all(&mut timers, at, mark);
        assert_eq!(order, [Some(early), Some(twin), Some(late)]);
    }

    #[test]
    fn invariant_10_cancel_churn_leaves_no_garbage() {
        let mut timers = Timers::new(Instant::now());
        let now = Instant::now();
        for _ in 0..1_000_000 {
            let id = timers.set_after(now, Duration::from_secs(3600), call());
            assert!(timers.cancel(id));
            assert!(!timers.cancel(id), "a timer can be cancelled once");
            let armed = timers.set_deadline(Token::NONE, timers.compact(now));
            timers.cancel_deadline(Token::NONE, armed);
        }
        assert!(
            timers.queue.is_empty() && timers.by_channel.is_empty() && timers.pending_calls == 0
        );
        assert!(timers.deadlines.is_empty());
    }

    #[test]
    fn invariant_10_longest_duration_never_expires() {
        let mut timers = Timers::new(Instant::now());
        let now = Instant::now();
        timers.set_after(now, Duration::MAX, call());
        assert_eq!(timers.next_expiry(), None);
        timers.set_after(now, Duration::ZERO, call());
        assert_eq!(timers.next_expiry(), Some(now));
    }

    #[test]
    fn timers_and_deadlines_expire_in_one_order() {
        let mut timers = Timers::new(Instant::now());
        let start = Instant::now();
        let after = |micros| start + Duration::from_micros(micros);
        let second = timers.set(after(2), call());
        let fourth = timers.set(after(4), call());
        for (index, at) in [(1, 1), (3, 3), (4, 4)] {
            timers.set_deadline(Token::new(index, 0), timers.compact(after(at)));
        }
        assert_eq!(timers.next_expiry(), Some(after(1)));
        let mark = timers.sequence_mark();
        let order = pop_all(&mut timers, after(3), mark);
        assert_eq!(order, [None, Some(second), None], "and the others remain");
        assert_eq!(name(&timers.pop_expired(after(4), mark).unwrap()), Some(fourth));
        assert!(matches!(timers.pop_expired(after(4), mark), Some(Expiry::Deadline(_))));
    }

    /// A timer set meanwhile waits for the next turn, and so does a deadline after
    /// it, which that timer may postpone.
    #[test]
    fn deadline_waits_for_the_timers_before_it() {
        let mut timers = Timers::new(Instant::now());
        let start = Instant::now();
        let mark = timers.sequence_mark();
        let ticking = timers.set(start, call());
        let postpones = timers.set(start + Duration::from_millis(1), call());
        timers.set_deadline(Token::NONE, timers.compact(start + Duration::from_millis(2)));
        let late = start + Duration::from_secs(1);
        assert!(timers.pop_expired(late, mark).is_none());
        let mark = timers.sequence_mark();
        let order = pop_all(&mut timers, late, mark);
        assert_eq!(order, [Some(ticking), Some(postpones), None]);
    }

    #[test]
    fn timer_set_while_timers_run_waits_for_the_next_turn() {
        let mut timers = Timers::new(Instant::now());
        let now = Instant::now();
        timers.set_after(now, Duration::ZERO, call());
        let mark = timers.sequence_mark();
        assert!(timers.pop_expired(now, mark).is_some());
        timers.set_after(now, Duration::ZERO, call());
        assert!(timers.pop_expired(now, mark).is_none());
        assert!(timers.pop_expired(now, timers.sequence_mark()).is_some());
    }

    #[test]
    fn timers_of_a_closed_channel_are_cancelled() {
        let mut timers = Timers::new(Instant::now());
        let now = Instant::now();
        let other =
            timers.set_after(now, Duration::from_secs(1), TimerAction::Channel(Token::NONE));
        let token = Token::new(3, 4);
        for after in 0..10 {
            timers.set_after(now, Duration::from_secs(after), TimerAction::Channel(token));
        }
        timers.cancel_channel(token);
        assert_eq!(timers.queue.keys().copied().collect::<Vec<_>>(), [other]);
    }

    /// A job that is late and sets itself again for the same instant starves neither
    /// timers nor deadlines.
    #[test]
    fn timer_for_the_past_expires_after_those_before_it() {
        let mut timers = Timers::new(Instant::now());
        let start = Instant::now();
        let late = start + Duration::from_secs(1);
        let other = timers.set(start + Duration::from_millis(1), call());
        timers.set_deadline(Token::NONE, timers.compact(start + Duration::from_millis(2)));
        let again = timers.set(start, call());
        let mark = timers.sequence_mark();
        assert_eq!(name(&timers.pop_expired(late, mark).unwrap()), Some(again));
        let again = timers.set(start, call());
        assert_eq!(pop_all(&mut timers, late, mark), [Some(other), None]);
        let mark = timers.sequence_mark();
        assert_eq!(pop_all(&mut timers, late, mark), [Some(again)]);
    }
}
