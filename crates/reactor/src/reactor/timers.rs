//! What falls due when: timers, and the deadlines of channels, of which each
//! channel has one at the most.
//!
//! Both are B-trees ordered by time: setting and cancelling cost a logarithm,
//! and what is cancelled leaves nothing behind, however much comes and goes.
//! Every connection may have a deadline, so an entry of those is small.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use crate::compact_instant::Moment;
use crate::reactor::context::Context;
use crate::reactor::slots::Token;

/// The name of one timer, returned by
/// [`Context::set_timer`](crate::Context::set_timer) and
/// [`Context::call_later`](crate::Context::call_later).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId {
    at: Moment,
    /// Of two timers for the same instant the older one comes first.
    sequence: NonZeroU64,
}

impl TimerId {
    /// When it falls due.
    pub(crate) fn at(self) -> Instant {
        self.at.instant()
    }
}

/// What to do when a timer falls due.
pub(crate) enum Timer {
    /// Call this channel's `handle_timer`.
    Channel(Token),
    /// Close what is still open.
    Drain,
    /// Call this.
    Call(Box<dyn FnOnce(&mut Context)>),
}

/// What fell due.
pub(crate) enum Due {
    /// Ask this channel whether its deadline has passed.
    Deadline(Token),
    Timer(TimerId, Timer),
}

/// The timers and deadlines of one reactor.
pub(crate) struct Timers {
    queue: BTreeMap<TimerId, Timer>,
    deadlines: BTreeSet<(Moment, Token)>,
    /// The `Timer::Channel`s by channel and sequence, to free them with it.
    of_channel: BTreeMap<(Token, NonZeroU64), Moment>,
    /// How many `Timer::Call`s wait: they keep the loop running.
    calls: usize,
    next: NonZeroU64,
}

impl Default for Timers {
    fn default() -> Self {
        Moment::begin();
        Timers {
            queue: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            of_channel: BTreeMap::new(),
            calls: 0,
            next: NonZeroU64::MIN,
        }
    }
}

impl Timers {
    /// Sets a timer for `after` from `now`. One that lies beyond what the
    /// clock can express never falls due, and takes no room.
    pub(crate) fn set_after(&mut self, now: Instant, after: Duration, timer: Timer) -> TimerId {
        match now.checked_add(after) {
            Some(at) => self.set(at, timer),
            None => self.name(now),
        }
    }

    /// Sets a timer for the instant `at`.
    pub(crate) fn set(&mut self, at: Instant, timer: Timer) -> TimerId {
        let id = self.name(at);
        match timer {
            Timer::Channel(token) => {
                self.of_channel.insert((token, id.sequence), id.at);
            }
            Timer::Call(_) => self.calls += 1,
            Timer::Drain => {}
        }
        self.queue.insert(id, timer);
        id
    }

    fn name(&mut self, at: Instant) -> TimerId {
        let sequence = self.next;
        self.next = sequence.saturating_add(1);
        TimerId { at: at.into(), sequence }
    }

    /// Frees a timer; `false` where it is gone already.
    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        self.take(id).is_some()
    }

    fn take(&mut self, id: TimerId) -> Option<Timer> {
        let timer = self.queue.remove(&id)?;
        match timer {
            Timer::Channel(token) => {
                self.of_channel.remove(&(token, id.sequence));
            }
            Timer::Call(_) => self.calls -= 1,
            Timer::Drain => {}
        }
        Some(timer)
    }

    /// Frees every timer that `token` set.
    pub(crate) fn cancel_channel(&mut self, token: Token) {
        let mine = (token, NonZeroU64::MIN)..=(token, NonZeroU64::MAX);
        while let Some((&(_, sequence), &at)) = self.of_channel.range(mine.clone()).next() {
            self.take(TimerId { at, sequence });
        }
    }

    /// Sets a deadline of `token`, which has none.
    pub(crate) fn set_deadline(&mut self, token: Token, at: Moment) {
        self.deadlines.insert((at, token));
    }

    /// Frees a deadline of `token`.
    pub(crate) fn cancel_deadline(&mut self, token: Token, at: Moment) {
        self.deadlines.remove(&(at, token));
    }

    /// When something falls due next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let timer = self.queue.first_key_value().map(|(id, _)| id.at);
        let deadline = self.deadlines.first().map(|&(at, _)| at);
        timer.into_iter().chain(deadline).min().map(Moment::instant)
    }

    /// A mark between the timers that are set and those set from now on.
    pub(crate) fn fence(&self) -> NonZeroU64 {
        self.next
    }

    /// The next that is due at `now`; none where that is a timer not set before
    /// `fence`, so that a callback which sets a timer for at once does not keep
    /// the loop in its timers. A deadline waits for the timers up to its instant:
    /// one of them may be there to move it off.
    pub(crate) fn pop_due(&mut self, now: Instant, fence: NonZeroU64) -> Option<Due> {
        if self.queue.is_empty() && self.deadlines.is_empty() {
            return None; // without looking at the time
        }
        let now = Moment::from(now);
        let timer = self.queue.first_key_value().map(|(&id, _)| id);
        if let Some(&(at, token)) = self.deadlines.first()
            && at <= now
            && timer.is_none_or(|id| at < id.at)
        {
            self.deadlines.pop_first();
            return Some(Due::Deadline(token));
        }
        let id = timer.filter(|id| id.at <= now && id.sequence < fence)?;
        self.take(id).map(|timer| Due::Timer(id, timer))
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Timer {
        Timer::Call(Box::new(|_| {}))
    }

    /// The timer that fell due; `None` for a deadline.
    fn name(due: &Due) -> Option<TimerId> {
        match due {
            Due::Timer(id, _) => Some(*id),
            Due::Deadline(_) => None,
        }
    }

    /// All that is due, in order.
    fn pop_all(timers: &mut Timers, now: Instant, fence: NonZeroU64) -> Vec<Option<TimerId>> {
        std::iter::from_fn(|| timers.pop_due(now, fence)).map(|due| name(&due)).collect()
    }

    #[test]
    fn invariant_10_timers_fall_due_in_order_and_never_early() {
        let mut timers = Timers::default();
        let start = Instant::now();
        let late = timers.set_after(start, Duration::from_millis(20), call());
        let early = timers.set_after(start, Duration::from_millis(10), call());
        let twin = timers.set_after(start, Duration::from_millis(10), call());
        let fence = timers.fence();
        assert!(timers.pop_due(start + Duration::from_micros(9_999), fence).is_none());
        let at = start + Duration::from_millis(20);
        let order = pop_all(&mut timers, at, fence);
        assert_eq!(order, [Some(early), Some(twin), Some(late)]);
    }

    #[test]
    fn invariant_10_cancel_churn_leaves_no_garbage() {
        let mut timers = Timers::default();
        let now = Instant::now();
        for _ in 0..1_000_000 {
            let id = timers.set_after(now, Duration::from_secs(3600), call());
            assert!(timers.cancel(id));
            assert!(!timers.cancel(id), "a timer can be cancelled once");
            timers.set_deadline(Token::NONE, now.into());
            timers.cancel_deadline(Token::NONE, now.into());
        }
        assert!(timers.queue.is_empty() && timers.of_channel.is_empty() && timers.calls == 0);
        assert!(timers.deadlines.is_empty());
    }

    #[test]
    fn invariant_10_the_longest_duration_is_never_and_no_panic() {
        let mut timers = Timers::default();
        let now = Instant::now();
        timers.set_after(now, Duration::MAX, call());
        assert_eq!(timers.next_due(), None);
        timers.set_after(now, Duration::ZERO, call());
        assert_eq!(timers.next_due(), Some(now));
    }

    #[test]
    fn timers_and_deadlines_fall_due_in_one_order() {
        let mut timers = Timers::default();
        let start = Instant::now();
        let after = |micros| start + Duration::from_micros(micros);
        let second = timers.set(after(2), call());
        let fourth = timers.set(after(4), call());
        for (index, at) in [(1, 1), (3, 3), (4, 4)] {
            timers.set_deadline(crate::reactor::slots::tests::token(index, 0), after(at).into());
        }
        assert_eq!(timers.next_due(), Some(after(1)));
        let fence = timers.fence();
        let order = pop_all(&mut timers, after(3), fence);
        assert_eq!(order, [None, Some(second), None], "and what is not due stays");
        assert_eq!(name(&timers.pop_due(after(4), fence).unwrap()), Some(fourth));
        assert!(matches!(timers.pop_due(after(4), fence), Some(Due::Deadline(_))));
    }

    /// A timer that was set meanwhile has to wait, and so has what comes after
    /// it: the timer before a deadline may be there to move that off.
    #[test]
    fn a_deadline_does_not_overtake_the_timers_before_it() {
        let mut timers = Timers::default();
        let start = Instant::now();
        let fence = timers.fence();
        let ticking = timers.set(start, call());
        let moves_it_off = timers.set(start + Duration::from_millis(1), call());
        timers.set_deadline(Token::NONE, (start + Duration::from_millis(2)).into());
        let late = start + Duration::from_secs(1);
        assert!(timers.pop_due(late, fence).is_none());
        let fence = timers.fence();
        let order = pop_all(&mut timers, late, fence);
        assert_eq!(order, [Some(ticking), Some(moves_it_off), None]);
    }

    #[test]
    fn a_timer_set_while_timers_run_waits_for_the_next_turn() {
        let mut timers = Timers::default();
        let now = Instant::now();
        timers.set_after(now, Duration::ZERO, call());
        let fence = timers.fence();
        assert!(timers.pop_due(now, fence).is_some());
        timers.set_after(now, Duration::ZERO, call());
        assert!(timers.pop_due(now, fence).is_none());
        assert!(timers.pop_due(now, timers.fence()).is_some());
    }

    #[test]
    fn a_channel_that_goes_takes_its_timers_along() {
        let mut timers = Timers::default();
        let now = Instant::now();
        let other = timers.set_after(now, Duration::from_secs(1), Timer::Channel(Token::NONE));
        let token = crate::reactor::slots::tests::token(3, 4);
        for after in 0..10 {
            timers.set_after(now, Duration::from_secs(after), Timer::Channel(token));
        }
        timers.cancel_channel(token);
        assert_eq!(timers.queue.keys().copied().collect::<Vec<_>>(), [other]);
    }
}
