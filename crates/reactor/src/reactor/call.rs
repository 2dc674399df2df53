//! Calling a channel: taking it out of its slot, and containing its errors and
//! panics.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::reactor::settle::Channel;
use crate::reactor::{Cause, Context, Dispatcher};
use crate::token::Token;

/// Why a call ends its channel.
enum Ending {
    /// A callback failed: `handle_error` is notified first.
    Failed(Cause),
    /// The channel has ended by itself, or cannot be registered.
    Ended(Cause),
}

impl Context {
    /// Calls a channel back, with the rest of the reactor as its context, then
    /// settles it. An error or a panic closes this channel and no other.
    pub(super) fn call(
        &mut self,
        token: Token,
        callback: impl FnOnce(&mut dyn Channel, &mut Context) -> io::Result<()>,
    ) {
        self.enter(token, |channel, cx| {
            let started_at = cx.start_callback();
            let result = callback(channel, cx);
            cx.finish_callback(started_at, token, channel);
            match result {
                Ok(()) => cx.settle(token, channel).map_err(Ending::Ended),
                Err(error) => Err(Ending::from_error(error)),
            }
        });
    }

    /// As [`call`](Self::call), for a channel of type `T`. It has no effect if
    /// `token` names no such channel.
    pub(crate) fn call_channel<T: Dispatcher>(
        &mut self,
        token: Token,
        callback: impl FnOnce(&mut T, &mut Context) -> io::Result<()>,
    ) {
        self.call(token, |channel, cx| match channel.downcast_mut() {
            Some(channel) => callback(channel, cx),
            None => Ok(()),
        });
    }

    /// Settles a channel that was touched outside its callbacks.
    pub(super) fn settle_channel(&mut self, token: Token) {
        self.enter(token, |channel, cx| cx.settle(token, channel).map_err(Ending::Ended));
    }

    /// Takes a channel out of its slot for the duration of `f`. Has no effect if
    /// the channel is closed or closing, or is being called already.
    fn enter(
        &mut self,
        token: Token,
        f: impl FnOnce(&mut dyn Channel, &mut Context) -> Result<(), Ending>,
    ) {
        let Some(mut channel) = self.slots.take(token) else { return };
        let caller = mem::replace(&mut self.current_token, token);
        let result = catch_unwind(AssertUnwindSafe(|| f(&mut *channel, self)));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(ending)) => self.end_channel(token, &mut *channel, ending),
            Err(payload) => {
                let ending = Ending::Failed(Cause::from_panic(&*payload));
                self.end_channel(token, &mut *channel, ending);
            }
        }
        self.current_token = caller;
        self.slots.put_back(token, channel);
    }

    #[cold]
    fn end_channel(&mut self, token: Token, channel: &mut dyn Channel, ending: Ending) {
        match ending {
            Ending::Ended(cause) => self.begin_close(token, cause),
            Ending::Failed(cause) => {
                // The first cause counts: `handle_error` may close the channel too.
                let is_first = self.slots.start_closing(token);
                catch_panic("handle_error", || channel.handle_error(self, &cause));
                if is_first {
                    self.queue_close(token, cause);
                }
            }
        }
    }

    /// Calls `f` with a channel of type `T` taken out of its slot, as during a
    /// callback. The channel settles at the end of the turn.
    ///
    /// Returns `None` if `token` names no such channel, or the one being called.
    pub(crate) fn with_channel<T: Dispatcher, R>(
        &mut self,
        token: Token,
        f: impl FnOnce(&mut T, &mut Context) -> R,
    ) -> Option<R> {
        self.get_mut::<T>(token)?;
        let mut channel = self.slots.take(token)?;
        let caller = mem::replace(&mut self.current_token, token);
        let result = catch_unwind(AssertUnwindSafe(|| Some(f(channel.downcast_mut()?, self))));
        self.current_token = caller;
        self.slots.put_back(token, channel);
        // A panic is the caller's: this channel is not at fault.
        result.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    }

    /// Runs a job that belongs to no channel.
    pub(super) fn run_job(&mut self, job: impl FnOnce(&mut Context)) {
        self.stats.jobs += 1;
        let caller = mem::replace(&mut self.current_token, Token::NONE);
        catch_panic("job", || job(self));
        self.current_token = caller;
    }
}

impl Ending {
    /// Errors that are an ordinary end of a connection are not reported to
    /// `handle_error`: asyncore's `_DISCONNECTED`.
    fn from_error(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        match error.kind() {
            ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected => {
                Ending::Ended(Cause::Error(error))
            }
            _ => Ending::Failed(Cause::Error(error)),
        }
    }
}

/// Runs code that must not end the loop: the last callbacks of a closing channel,
/// and jobs. A panic is logged.
pub(super) fn catch_panic(what: &str, f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        log::error!("{what}: {}", Cause::from_panic(&*payload));
    }
}
