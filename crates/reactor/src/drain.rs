//! The graceful end: stop taking on work, finish what is at hand, by a
//! deadline.

use std::time::{Duration, Instant};

use crate::context::Context;
use crate::dispatcher::Dispatcher;
use crate::timer::{Due, TimerId};

/// How far the graceful end has come.
#[derive(Default)]
pub(crate) struct Drain {
    /// Asked for in this turn, to begin when it settles.
    requested: Option<Duration>,
    /// Begun: when what is still open is cut off.
    deadline: Option<TimerId>,
}

impl Context {
    /// Ends the reactor in good order: listeners accept what is queued and
    /// close, every other channel is told (`handle_drain`), and those still
    /// open after `timeout` are closed with [`Cause::ShutDown`](crate::Cause::ShutDown). Called
    /// again, the earlier of the two deadlines holds.
    pub fn drain(&mut self, timeout: Duration) {
        let earlier = self.drain.requested.map_or(timeout, |requested| requested.min(timeout));
        self.drain.requested = Some(earlier);
    }

    /// Whether [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.drain.requested.is_some() || self.drain.deadline.is_some()
    }

    pub(crate) fn drain_if_requested(&mut self) {
        let Some(timeout) = self.drain.requested.take() else { return };
        let deadline = self.timers.set_after(Instant::now(), timeout, Due::Drain);
        let Some(earlier) = self.drain.deadline.replace(deadline) else {
            log::info!("draining {} channels, for {timeout:?} at most", self.channels.foreground());
            return self.tell_all();
        };
        let (stays, goes) =
            if earlier <= deadline { (earlier, deadline) } else { (deadline, earlier) };
        self.timers.cancel(goes);
        self.drain.deadline = Some(stays);
    }

    fn tell_all(&mut self) {
        for index in 0..self.channels.slots() {
            // One that is fresh is told right after its `handle_add`.
            if let Some(token) = self.channels.at(index)
                && self.channels.get_mut(token).is_some_and(|slot| !slot.fresh)
            {
                self.call(token, Dispatcher::handle_drain);
            }
        }
    }

    /// The deadline has come.
    pub(crate) fn cut_off(&mut self) {
        log::warn!("the drain's time is up: closing {} channels", self.channels.foreground());
        self.close_all();
    }

    /// All is closed, or the loop was stopped.
    pub(crate) fn end_drain(&mut self) {
        if let Some(deadline) = self.drain.deadline.take() {
            self.timers.cancel(deadline);
        }
    }
}
