//! Settling: closing a channel that has ended, or updating what the poller and the
//! timers watch for it.

use std::io;
use std::time::Instant;

use crate::poll::Interest;
use crate::reactor::call::Callback;
use crate::reactor::panic::log_panic;
use crate::reactor::{Cause, CloseReason, Context};
use crate::sys::source::Source;
use crate::token::Token;

/// How many channels are settled in one turn beyond those it touched itself.
const MAX_SETTLES_PER_TURN: usize = 1024;

/// An entry in the queue of step 4.
pub(super) enum Pending {
    /// The channel was added, or touched outside its callbacks.
    Settle(Token),
    /// The channel ends for this cause.
    Close(Token, Cause),
}

impl Context {
    /// Returns `true` if what a channel wants is what is watched for it already.
    #[inline(always)]
    pub(super) fn is_watched(
        &self,
        token: Token,
        readable: bool,
        writable: bool,
        deadline: Option<Instant>,
    ) -> bool {
        deadline.is_none() && self.slots.is_settled(token, Interest::new(readable, writable))
    }

    /// Changes what the poller and the timers watch for a channel, unless it is closing.
    #[cold]
    pub(super) fn watch(
        &mut self,
        token: Token,
        source: Source<'_>,
        readable: bool,
        writable: bool,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        if self.slots.is_closing(token) {
            return Ok(());
        }
        self.arm_deadline(token, deadline);
        self.update_registration(token, source, Interest::new(readable, writable))
    }

    /// Ensures that a timer expires no later than `deadline`. It may expire earlier,
    /// and the deadline is then queried again; so a deadline that moves with each
    /// message costs nothing.
    fn arm_deadline(&mut self, token: Token, deadline: Option<Instant>) {
        let Some(slot) = self.slots.get_mut(token) else { return };
        let armed = slot.armed_deadline();
        let deadline = deadline.map(|at| self.timers.compact(at));
        match (armed, deadline) {
            (None, None) => {}
            (Some(armed), Some(deadline)) if armed <= deadline => {}
            (armed, deadline) => {
                if let Some(armed) = armed {
                    self.timers.cancel_deadline(token, armed);
                }
                let armed = deadline.map(|at| self.timers.set_deadline(token, at));
                slot.set_armed_deadline(armed);
            }
        }
    }

    /// Step 4: settles each channel in the queue, and those that this queues.
    /// If they are too many, the next turn continues: channels that close and add
    /// others forever must not delay timers.
    pub(super) fn settle_pending(&mut self) {
        if self.pending.is_empty() && !self.drain.is_requested() {
            return;
        }
        let budget = MAX_SETTLES_PER_TURN + 4 * self.pending.len();
        for _ in 0..budget {
            self.start_requested_drain();
            match self.pending.pop_front() {
                Some(Pending::Settle(token)) => self.settle_touched(token),
                Some(Pending::Close(token, cause)) => self.finish_close(token, cause),
                None => return,
            }
        }
    }

    fn settle_touched(&mut self, token: Token) {
        let Some(slot) = self.slots.get_mut(token) else { return };
        slot.clear_dirty();
        if !slot.open() {
            return self.settle_channel(token);
        }
        self.call(token, Callback::Add);
        if self.drain_started() {
            self.call(token, Callback::Drain);
        }
    }

    /// Queues the channel for step 4.
    pub(super) fn mark_dirty(&mut self, token: Token) {
        if let Some(slot) = self.slots.get_mut(token)
            && slot.set_dirty()
        {
            self.pending.push_back(Pending::Settle(token));
        }
    }

    /// Decides that a channel ends. The first cause counts.
    pub(super) fn begin_close(&mut self, token: Token, cause: Cause) {
        if self.slots.start_closing(token) {
            self.queue_close(token, cause);
        }
    }

    pub(super) fn queue_close(&mut self, token: Token, cause: Cause) {
        self.pending.push_back(Pending::Close(token, cause));
    }

    /// Closes a channel. From here on its token resolves to nothing, so that no
    /// callback follows `handle_close`; its source leaves the poller before it is
    /// closed.
    fn finish_close(&mut self, token: Token, cause: Cause) {
        let Some(removed) = self.slots.remove(token) else { return };
        if let Some(armed) = removed.armed_deadline {
            self.timers.cancel_deadline(token, armed);
        }
        let mut channel = removed.channel;
        let mut reason = CloseReason { cause, unsent: 0 };
        let caller = std::mem::replace(&mut self.current_token, token);
        log_panic("closing", || {
            self.deregister_source(token, channel.source(), removed.registration);
            reason.unsent = channel.unsent();
        });
        log_panic("handle_close", || channel.handle_close(self, &reason));
        // Including those that `handle_close` set.
        self.timers.cancel_channel(token);
        log_panic("drop", || drop(channel));
        self.current_token = caller;
        self.record_close(token, reason);
    }
}
