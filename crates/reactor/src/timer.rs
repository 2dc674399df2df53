//! Deadlines, in the order in which they fall due.
//!
//! A B-tree keyed by time: setting and cancelling cost a logarithm, and a
//! cancelled timer leaves nothing behind, however many come and go.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use crate::channels::Token;
use crate::context::Context;

/// The name of one timer, returned by
/// [`Context::set_timer`](crate::Context::set_timer) and
/// [`Context::call_later`](crate::Context::call_later).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId {
    /// In nanoseconds since the timers' epoch: half the room of an `Instant`,
    /// and good for 584 years.
    at: u64,
    /// Of two timers for the same instant the older one comes first.
    sequence: NonZeroU64,
}

/// What to do when a timer falls due.
pub(crate) enum Due {
    /// Ask this channel for its deadline.
    Deadline(Token),
    /// Call this channel's `handle_timer`.
    Timer(Token),
    /// Close what is still open.
    Drain,
    /// Call this.
    Call(Box<dyn FnOnce(&mut Context)>),
}

/// The timers of one reactor.
pub(crate) struct Timers {
    epoch: Instant,
    queue: BTreeMap<TimerId, Due>,
    /// The `Due::Timer`s by channel and sequence, to free them with it.
    of_channel: BTreeMap<(Token, NonZeroU64), u64>,
    /// How many `Due::Call`s wait: they keep the loop running.
    calls: usize,
    next: NonZeroU64,
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            epoch: Instant::now(),
            queue: BTreeMap::new(),
            of_channel: BTreeMap::new(),
            calls: 0,
            next: NonZeroU64::MIN,
        }
    }
}

impl Timers {
    /// When a timer falls due.
    pub(crate) fn at(&self, id: TimerId) -> Instant {
        self.epoch + Duration::from_nanos(id.at)
    }

    /// Sets a timer for `after` from `now`. One that lies beyond what the
    /// clock can express never falls due, and takes no room.
    pub(crate) fn set_after(&mut self, now: Instant, after: Duration, due: Due) -> TimerId {
        match now.checked_add(after) {
            Some(at) => self.set(at, due),
            None => self.name(now),
        }
    }

    /// Sets a timer for the instant `at`.
    pub(crate) fn set(&mut self, at: Instant, due: Due) -> TimerId {
        let id = self.name(at);
        match due {
            Due::Timer(token) => {
                self.of_channel.insert((token, id.sequence), id.at);
            }
            Due::Call(_) => self.calls += 1,
            Due::Deadline(_) | Due::Drain => {}
        }
        self.queue.insert(id, due);
        id
    }

    fn name(&mut self, at: Instant) -> TimerId {
        let sequence = self.next;
        self.next = sequence.saturating_add(1);
        // What lies before the epoch has fallen due in any case.
        let at = at.saturating_duration_since(self.epoch).as_nanos();
        TimerId { at: u64::try_from(at).unwrap_or(u64::MAX), sequence }
    }

    /// Frees a timer; `false` where it is gone already.
    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        self.take(id).is_some()
    }

    fn take(&mut self, id: TimerId) -> Option<Due> {
        let due = self.queue.remove(&id)?;
        match due {
            Due::Timer(token) => {
                self.of_channel.remove(&(token, id.sequence));
            }
            Due::Call(_) => self.calls -= 1,
            Due::Deadline(_) | Due::Drain => {}
        }
        Some(due)
    }

    /// Frees every timer that `token` set.
    pub(crate) fn cancel_channel(&mut self, token: Token) {
        let mine = (token, NonZeroU64::MIN)..=(token, NonZeroU64::MAX);
        while let Some((&(_, sequence), &at)) = self.of_channel.range(mine.clone()).next() {
            self.take(TimerId { at, sequence });
        }
    }

    /// When the next timer falls due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(&id, _)| self.at(id))
    }

    /// A mark between the timers that are set and those set from now on.
    pub(crate) fn fence(&self) -> NonZeroU64 {
        self.next
    }

    /// The next timer that is due at `now` and was set before `fence`, so
    /// that a callback which sets a timer for at once does not keep the loop
    /// in its timers.
    pub(crate) fn pop_due(&mut self, now: Instant, fence: NonZeroU64) -> Option<(TimerId, Due)> {
        let id = *self.queue.first_key_value()?.0;
        if self.at(id) > now || id.sequence >= fence {
            return None;
        }
        self.take(id).map(|due| (id, due))
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Due {
        Due::Call(Box::new(|_| {}))
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
        let order: Vec<_> =
            std::iter::from_fn(|| timers.pop_due(at, fence)).map(|(id, _)| id).collect();
        assert_eq!(order, [early, twin, late]);
    }

    #[test]
    fn invariant_10_cancel_churn_leaves_no_garbage() {
        let mut timers = Timers::default();
        let now = Instant::now();
        for _ in 0..1_000_000 {
            let id = timers.set_after(now, Duration::from_secs(3600), call());
            assert!(timers.cancel(id));
            assert!(!timers.cancel(id), "a timer can be cancelled once");
        }
        assert!(timers.queue.is_empty() && timers.of_channel.is_empty() && timers.calls == 0);
    }

    #[test]
    fn invariant_10_the_longest_duration_is_never_and_no_panic() {
        let mut timers = Timers::default();
        let now = Instant::now();
        timers.set_after(now, Duration::MAX, call());
        assert_eq!(timers.next_deadline(), None);
        timers.set_after(now, Duration::ZERO, call());
        assert_eq!(timers.next_deadline(), Some(now));
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
        let other = timers.set_after(now, Duration::from_secs(1), Due::Timer(Token::NONE));
        let token = crate::channels::tests::token(3, 4);
        for after in 0..10 {
            timers.set_after(now, Duration::from_secs(after), Due::Timer(token));
        }
        timers.cancel_channel(token);
        assert_eq!(timers.queue.keys().copied().collect::<Vec<_>>(), [other]);
    }
}
