//! When a [`Connection`] may continue, or must end: its rates and its timeouts.

use std::mem;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::reactor::TimeoutKind;
use crate::stream::active::{Linger, Throttles};
use crate::stream::closing::{CloseState, LINGER_TIMEOUT, ReadHalf, WriteHalf};
use crate::stream::connection::{Activity, Connection};
use crate::stream::throttle::Throttle;

impl Connection {
    /// Limits reading to `bytes_per_second`, as
    /// [`Limits::read_rate`](crate::Limits::read_rate) does; `None` for no limit.
    pub fn set_read_rate(&mut self, bytes_per_second: Option<NonZeroU64>) {
        self.active_mut().throttles.read = bytes_per_second.map(Throttle::new);
    }

    /// Limits writing to `bytes_per_second`, as
    /// [`Limits::write_rate`](crate::Limits::write_rate) does; `None` for no limit.
    pub fn set_write_rate(&mut self, bytes_per_second: Option<NonZeroU64>) {
        self.active_mut().throttles.write = bytes_per_second.map(Throttle::new);
    }

    pub(super) fn throttles(&self) -> Option<&Throttles> {
        self.active.as_ref().map(|active| &active.throttles)
    }

    pub(super) fn read_throttle(&mut self) -> Option<&mut Throttle> {
        self.active.as_mut()?.throttles.read.as_mut()
    }

    pub(super) fn write_throttle(&mut self) -> Option<&mut Throttle> {
        self.active.as_mut()?.throttles.write.as_mut()
    }

    #[inline(always)]
    pub(super) fn has_write_rate(&self) -> bool {
        self.throttles().is_some_and(|both| both.write.is_some())
    }

    pub(super) fn is_read_throttled(&self) -> bool {
        self.throttles().is_some_and(|both| both.read.as_ref().is_some_and(Throttle::is_blocked))
    }

    pub(super) fn is_write_throttled(&self) -> bool {
        self.throttles().is_some_and(|both| both.write.as_ref().is_some_and(Throttle::is_blocked))
    }

    fn release_throttles(&mut self, now: Instant) {
        if let Some(both) = self.active.as_mut().map(|active| &mut active.throttles) {
            let blocked = [&mut both.read, &mut both.write].into_iter().flatten();
            blocked.for_each(|rate| rate.release_if_due(now));
        }
    }

    /// Closes the stream after `timeout` without traffic, counted from now; `None` for
    /// never. A stream whose timeout differs from that of its listener uses more memory,
    /// for its own copy of the limits.
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        // It starts now, not at the last traffic.
        self.last_activity = None;
        if timeout != self.limits().idle_timeout {
            Rc::make_mut(&mut self.config).limits.idle_timeout = timeout;
        }
    }

    /// Returns `true` if the stream may have a deadline, for which
    /// [`record_activity`](Self::record_activity) needs the time.
    #[inline(always)]
    pub(super) fn may_time_out(&self) -> bool {
        !self.is_resting()
    }

    /// Restarts the clocks of the timeouts, according to what was moved since the last
    /// call.
    pub(super) fn record_activity(&mut self, now: Instant) {
        let activity = mem::replace(&mut self.activity, Activity::None);
        if self.limits().idle_timeout.is_some()
            && (activity != Activity::None || self.last_activity.is_none())
        {
            self.last_activity = Some(now);
        }
        if self.is_handshaking() {
            self.record_handshake(now);
        }
        let is_waiting = !self.is_connecting() && self.waits_for_peer();
        if self.discards_input() {
            self.record_linger(activity, now);
        } else if is_waiting {
            let stalled_since = &mut self.active_mut().stalled_since;
            if activity == Activity::Wrote || stalled_since.is_none() {
                *stalled_since = Some(now);
            }
        } else if let Some(active) = &mut self.active {
            active.stalled_since = None;
            if !active.is_needed() {
                self.active = None;
            }
        }
    }

    /// Restarts the linger timeout of a closing stream that was flushed, if there is
    /// progress: output that left, or, once all has left, input.
    #[cold]
    fn record_linger(&mut self, activity: Activity, now: Instant) {
        let is_lingering = self.close_state == CloseState::Lingering;
        if let Some(active) = &mut self.active
            && active.linger.is_some()
        {
            if is_lingering && activity != Activity::None {
                active.stalled_since = Some(now);
            }
            return;
        }
        let unsent = self.endpoint.measure_send_queue();
        let active = self.active_mut();
        active.linger = Some(Linger { since: now, progress_at: now, unsent });
        active.stalled_since = Some(now);
    }

    /// Returns `true` if the peer must read output, or end. Output that waits for its
    /// rate does not wait for the peer.
    fn waits_for_peer(&self) -> bool {
        (self.queued() > 0 && !self.is_write_throttled())
            || self.write_half == WriteHalf::Failed
            || self.discards_input()
    }

    /// Returns when the next timeout expires, or a rate allows more. Does not cover
    /// connecting.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let rates = self.throttles().into_iter().flat_map(|both| [&both.read, &both.write]);
        let rates = rates.flatten().filter_map(Throttle::ready_at);
        let timeouts = [
            self.stall_deadline(),
            self.close_deadline(),
            self.idle_deadline(),
            self.handshake_deadline(),
        ];
        timeouts.into_iter().flatten().chain(rates).min()
    }

    fn stall_deadline(&self) -> Option<Instant> {
        let stalled_since = self.active.as_ref()?.stalled_since?;
        let timeout =
            if self.discards_input() { LINGER_TIMEOUT } else { self.limits().stall_timeout? };
        stalled_since.checked_add(timeout)
    }

    fn close_deadline(&self) -> Option<Instant> {
        let linger = self.active.as_ref()?.linger.as_ref()?;
        linger.since.checked_add(self.limits().close_timeout?)
    }

    /// Returns `None` for a stream that is closing, because other timeouts limit that.
    fn idle_deadline(&self) -> Option<Instant> {
        if !self.close_state.is_open() {
            return None;
        }
        self.last_activity?.checked_add(self.limits().idle_timeout?)
    }

    /// A deadline has passed: lets rates continue, and ends lingering. Returns the
    /// timeout that closes the stream, if one does.
    pub(super) fn expire(&mut self, now: Instant) -> Option<TimeoutKind> {
        self.release_throttles(now);
        let has_passed = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        if has_passed(self.close_deadline()) {
            return Some(TimeoutKind::Close);
        }
        if has_passed(self.stall_deadline()) {
            if self.finish_failed() {
                return None;
            }
            return if self.discards_input() {
                self.expire_linger(now)
            } else if self.read_half == ReadHalf::Paused && self.source().check_readable() {
                Some(TimeoutKind::MutualStall)
            } else {
                Some(TimeoutKind::Stall)
            };
        }
        if has_passed(self.handshake_deadline()) {
            return Some(TimeoutKind::Handshake);
        }
        has_passed(self.idle_deadline()).then_some(TimeoutKind::Idle)
    }

    /// The linger timeout has passed. Restarts it if the peer has read something
    /// meanwhile; if that cannot be seen, up to the stall timeout.
    fn expire_linger(&mut self, now: Instant) -> Option<TimeoutKind> {
        let is_sending = self.close_state == CloseState::AwaitingTransmit;
        let stall_timeout = self.limits().stall_timeout;
        let unsent = if is_sending { self.endpoint.measure_send_queue() } else { None };
        if let Some(active) = &mut self.active
            && let Some(linger) = &mut active.linger
            && is_sending
        {
            let has_progressed = match (linger.unsent, unsent) {
                (Some(before), Some(unsent)) => unsent < before,
                // The send buffer was too full to tell.
                (None, Some(_)) => true,
                (_, None) => false,
            };
            if has_progressed {
                linger.progress_at = now;
                linger.unsent = unsent;
            }
            let waited = now.saturating_duration_since(linger.progress_at);
            if unsent.is_none() && stall_timeout.is_some_and(|timeout| waited >= timeout) {
                return Some(TimeoutKind::Stall);
            }
            if has_progressed || unsent.is_none() {
                active.stalled_since = Some(now);
                return None;
            }
        }
        self.close_state = self.close_state.after_linger();
        None
    }
}
