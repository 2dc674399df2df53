//! The graceful end: stop taking on work, finish what is at hand, by a
//! deadline.

use std::mem;
use std::time::{Duration, Instant};

use crate::reactor::context::Context;
use crate::reactor::dispatcher::Dispatcher;
use crate::reactor::timers::{Timer, TimerId};

/// How far the graceful end has come.
#[derive(Default)]
pub(crate) struct Drain {
    /// Asked for in this turn, to begin when it settles.
    pub(crate) requested: Option<Duration>,
    /// Every channel was told.
    begun: bool,
    /// When what is still open is cut off; `None` for never.
    deadline: Option<TimerId>,
    /// That time has come: nothing can be added any more.
    pub(crate) over: bool,
}

impl Context {
    /// Ends the reactor in good order: listeners accept what is queued and
    /// close, every other channel is told (`handle_drain`), and those still
    /// open after `timeout` are closed with [`Cause::Shutdown`](crate::Cause::Shutdown);
    /// nothing can be added any more then. Called again, the earlier of the two
    /// deadlines holds. The drain is over when nothing is left that could call
    /// back, or with [`Context::stop`].
    pub fn drain(&mut self, timeout: Duration) {
        let earlier = self.drain.requested.map_or(timeout, |requested| requested.min(timeout));
        self.drain.requested = Some(earlier);
    }

    /// Whether a [`drain`](Self::drain) is under way.
    pub fn is_draining(&self) -> bool {
        self.drain.requested.is_some() || self.drain.begun
    }

    /// Whether every channel was told, and so those that come now are to be.
    pub(crate) fn has_told_of_drain(&self) -> bool {
        self.drain.begun
    }

    pub(crate) fn drain_if_requested(&mut self) {
        let Some(timeout) = self.drain.requested.take() else { return };
        if let Some(at) = Instant::now().checked_add(timeout)
            && self.drain.deadline.is_none_or(|set| at < set.at())
        {
            let earlier = self.timers.set(at, Timer::Drain);
            if let Some(later) = self.drain.deadline.replace(earlier) {
                self.timers.cancel(later);
            }
        }
        if !mem::replace(&mut self.drain.begun, true) {
            log::info!("draining {} channels, for {timeout:?} at most", self.channels.foreground());
            self.tell_all();
        }
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
        self.drain.over = true;
        self.close_all();
    }

    /// All is closed, or the loop was stopped.
    pub(crate) fn end_drain(&mut self) {
        if let Some(deadline) = mem::take(&mut self.drain).deadline {
            self.timers.cancel(deadline);
        }
    }
}
