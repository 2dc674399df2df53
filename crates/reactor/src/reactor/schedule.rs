//! Scheduling: timers of channels, and calls at a later time.

use std::io;
use std::time::{Duration, Instant};

use crate::reactor::Context;
use crate::reactor::timers::{TimerAction, TimerId};
use crate::token::Token;

impl Context {
    /// Calls `handle_timer` of the current channel once, after `after` has elapsed. It is
    /// never called early, and not at all if the time is beyond the clock's range. The
    /// timer is cancelled when the channel closes.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if no channel is being called, as in a job; use
    /// [`call_later`](Self::call_later) there.
    pub fn set_timer(&mut self, after: Duration) -> io::Result<TimerId> {
        let action = self.timer_of_channel()?;
        Ok(self.timers.set_after(self.clock(), after, action))
    }

    /// Like [`set_timer`](Self::set_timer), but at the instant `at`. Use it for regular
    /// intervals that do not depend on how long callbacks take.
    ///
    /// # Errors
    ///
    /// The same as for [`set_timer`](Self::set_timer).
    pub fn set_timer_at(&mut self, at: Instant) -> io::Result<TimerId> {
        let action = self.timer_of_channel()?;
        Ok(self.timers.set(at, action))
    }

    /// Sets a timer of channel `token`.
    pub(crate) fn set_timer_of(&mut self, token: Token, after: Duration) -> TimerId {
        self.timers.set_after(self.clock(), after, TimerAction::Channel(token))
    }

    fn timer_of_channel(&self) -> io::Result<TimerAction> {
        if self.current_token == Token::NONE {
            let message = "cannot set a channel's timer: no channel is being called";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(TimerAction::Channel(self.current_token))
    }

    /// Calls `job` once, after `after` has elapsed. It is never called early, and not at
    /// all if the time is beyond the clock's range. A panic in it affects that call only.
    /// The loop continues while such a call is pending, until the deadline of a
    /// [`drain`](Self::drain).
    pub fn call_later(
        &mut self,
        after: Duration,
        job: impl FnOnce(&mut Context) + 'static,
    ) -> TimerId {
        self.timers.set_after(self.clock(), after, TimerAction::Call(Box::new(job)))
    }

    /// Like [`call_later`](Self::call_later), but at the instant `at`. Use it for regular
    /// intervals that do not depend on how long callbacks take. If `at` is in the past,
    /// `job` is called in the next turn.
    pub fn call_at(&mut self, at: Instant, job: impl FnOnce(&mut Context) + 'static) -> TimerId {
        self.timers.set(at, TimerAction::Call(Box::new(job)))
    }

    /// Cancels a timer and frees it. Returns `false` if it has already fired or been
    /// cancelled.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        self.timers.cancel(timer)
    }
}
