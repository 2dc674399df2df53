//! Draining: accepting no new work, finishing pending work, by a deadline.

use std::time::{Duration, Instant};

use crate::reactor::Context;
use crate::reactor::call::Callback;
use crate::reactor::panic::log_panic;
use crate::reactor::timers::{TimerAction, TimerId};

/// State of a drain, and a request for one, which may arrive in any state.
#[derive(Default)]
pub(super) struct Drain {
    state: DrainState,
    /// The timeout of a drain that starts when this turn settles.
    requested: Option<Duration>,
}

/// State machine for a drain.
///
/// | from | event | to |
/// | --- | --- | --- |
/// | `Inactive` | a request is settled | `Draining`; channels are notified |
/// | `Draining` | a request with an earlier deadline | `Draining`, with that deadline |
/// | `Draining` | the deadline | `Expired`; channels are closed |
/// | any | the run ends | `Inactive` |
#[derive(Default)]
enum DrainState {
    #[default]
    Inactive,
    Draining {
        /// `None` if it is beyond the clock's range.
        deadline: Option<(Instant, TimerId)>,
    },
    /// No channel can be added.
    Expired,
}

impl Drain {
    pub(super) fn is_requested(&self) -> bool {
        self.requested.is_some()
    }

    pub(super) fn is_expired(&self) -> bool {
        matches!(self.state, DrainState::Expired)
    }
}

impl Context {
    /// Shuts the reactor down gracefully. Listeners accept the queued connections, then
    /// close. All other channels receive `handle_drain`. Channels still open after
    /// `timeout` are closed with [`Cause::Shutdown`](crate::Cause::Shutdown). From then
    /// on no channel can be added, and pending [`call_later`](Self::call_later)s are
    /// dropped. If `drain` is called again, the earlier deadline applies. The drain ends
    /// when no work remains, or with [`stop`](Self::stop).
    pub fn drain(&mut self, timeout: Duration) {
        let earlier = self.drain.requested.map_or(timeout, |requested| requested.min(timeout));
        self.drain.requested = Some(earlier);
    }

    /// Returns `true` if a [`drain`](Self::drain) was requested or is in progress.
    pub fn is_draining(&self) -> bool {
        self.drain.is_requested() || self.drain_started()
    }

    /// Returns `true` once all channels were notified of the drain: later ones must be
    /// notified when they are added.
    pub(crate) fn drain_started(&self) -> bool {
        !matches!(self.drain.state, DrainState::Inactive)
    }

    pub(super) fn start_requested_drain(&mut self) {
        let Some(timeout) = self.drain.requested.take() else { return };
        let at = self.clock().checked_add(timeout);
        match self.drain.state {
            DrainState::Expired => {}
            DrainState::Draining { deadline } => {
                let is_earlier =
                    at.is_some_and(|at| deadline.is_none_or(|(current, _)| at < current));
                if is_earlier {
                    self.replace_drain_deadline(deadline, at);
                }
            }
            DrainState::Inactive => {
                self.replace_drain_deadline(None, at);
                let count = self.slots.foreground_count();
                log::info!("draining: open channels: {count}, for at most {timeout:?}");
                self.notify_all();
            }
        }
    }

    fn replace_drain_deadline(&mut self, current: Option<(Instant, TimerId)>, at: Option<Instant>) {
        if let Some((_, timer)) = current {
            self.timers.cancel(timer);
        }
        let deadline = at.map(|at| (at, self.timers.set(at, TimerAction::ExpireDrain)));
        self.drain.state = DrainState::Draining { deadline };
    }

    fn notify_all(&mut self) {
        for index in 0..self.slots.capacity() {
            // A channel without its `handle_add` is notified right after that.
            if let Some(token) = self.slots.token_at(index)
                && self.slots.is_open(token)
            {
                self.call(token, Callback::Drain);
            }
        }
    }

    /// The deadline has passed.
    pub(super) fn expire_drain(&mut self) {
        self.drain.state = DrainState::Expired;
        let calls = self.timers.take_calls();
        let (channels, calls_count) = (self.slots.foreground_count(), calls.len());
        log::warn!(
            "drain timed out: closing open channels: {channels}, pending calls: {calls_count}"
        );
        log_panic("dropping calls", || drop(calls));
        self.close_all();
    }

    /// Ends the drain, as the run has ended.
    pub(super) fn reset_drain(&mut self) {
        let drain = std::mem::take(&mut self.drain);
        if let DrainState::Draining { deadline: Some((_, timer)) } = drain.state {
            self.timers.cancel(timer);
        }
    }
}
