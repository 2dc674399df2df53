//! Calling a channel: taking it out of its slot, and containing its errors and
//! panics.

use std::any::Any;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::reactor::panic::{catch_panic, log_panic};
use crate::reactor::{Cause, Context, Dispatcher, TimerId};
use crate::token::Token;

/// A callback of a [`Dispatcher`] in response to an event.
#[derive(Clone, Copy)]
pub(super) enum Callback {
    Add,
    Read,
    Write,
    UrgentData,
    Hangup,
    Deadline,
    Drain,
    Timer(TimerId),
}

/// Why a call ends its channel.
pub(super) enum Ending {
    /// A callback failed: `handle_error` is notified first.
    Failed(Cause),
    /// The channel has ended by itself, or cannot be registered.
    Ended(Cause),
}

/// What a channel waits for after a read.
pub(super) enum Outcome {
    /// For input only, and it has no deadline.
    WaitsForInput,
    /// What is watched has been updated.
    Settled,
    Ended(Box<Ending>),
}

/// A dispatcher in a slot. A callback and the queries that follow it are one virtual
/// call.
pub(super) trait Channel: Dispatcher {
    /// Calls `handle_read`, without measuring it, then settles the channel unless it only
    /// waits for input.
    fn read(&mut self, token: Token, cx: &mut Context) -> Outcome;

    /// Makes any callback, then settles the channel. Returns why it ends, if it does.
    fn call(&mut self, callback: Callback, token: Token, cx: &mut Context) -> Option<Box<Ending>>;

    /// Closes the channel if it has ended; otherwise updates what is watched for it.
    fn settle(&mut self, token: Token, cx: &mut Context) -> Option<Box<Ending>>;
}

impl<T: Dispatcher> Channel for T {
    fn read(&mut self, token: Token, cx: &mut Context) -> Outcome {
        cx.count_callback();
        if let Err(error) = self.handle_read(cx) {
            return Outcome::Ended(Box::new(Ending::from_error(error)));
        }
        if let Some(cause) = self.poll_close(cx) {
            return Outcome::Ended(Box::new(Ending::Ended(cause)));
        }
        if self.waits_for_input() {
            return Outcome::WaitsForInput;
        }
        match update_watched(self, token, cx) {
            None => Outcome::Settled,
            Some(ending) => Outcome::Ended(ending),
        }
    }

    fn call(&mut self, callback: Callback, token: Token, cx: &mut Context) -> Option<Box<Ending>> {
        let started_at = cx.start_callback();
        let result = match callback {
            Callback::Add => self.handle_add(cx),
            Callback::Read => self.handle_read(cx),
            Callback::Write => self.handle_write(cx),
            Callback::UrgentData => self.handle_expt(cx),
            Callback::Hangup => self.handle_hangup(cx),
            Callback::Drain => self.handle_drain(cx),
            Callback::Timer(timer) => self.handle_timer(cx, timer),
            // It may have been postponed since it was armed.
            Callback::Deadline => match self.update_deadline(cx) {
                Some(at) if at <= cx.clock() => self.handle_deadline(cx),
                _ => Ok(()),
            },
        };
        if let Some(started_at) = started_at {
            cx.finish_callback(started_at, token, self.type_name());
        }
        match result {
            Ok(()) => self.settle(token, cx),
            Err(error) => Some(Box::new(Ending::from_error(error))),
        }
    }

    fn settle(&mut self, token: Token, cx: &mut Context) -> Option<Box<Ending>> {
        if let Some(cause) = self.poll_close(cx) {
            return Some(Box::new(Ending::Ended(cause)));
        }
        update_watched(self, token, cx)
    }
}

/// Watches what the channel wants now.
fn update_watched<T: Dispatcher>(
    channel: &mut T,
    token: Token,
    cx: &mut Context,
) -> Option<Box<Ending>> {
    let deadline = channel.update_deadline(cx);
    let (readable, writable) = (channel.readable(), channel.writable());
    if cx.is_watched(token, readable, writable, deadline) {
        return None;
    }
    let result = cx.watch(token, channel.source(), readable, writable, deadline);
    result.err().map(|error| Box::new(Ending::Ended(Cause::Error(error))))
}

impl dyn Channel {
    pub(super) fn downcast_mut<T: Dispatcher>(&mut self) -> Option<&mut T> {
        let dispatcher: &mut dyn Any = self;
        dispatcher.downcast_mut()
    }
}

impl Context {
    /// Calls `handle_read` of a channel that was taken out of its slot, with the rest of
    /// the reactor as its context, then settles it. An error or a panic closes this
    /// channel and no other. The channel remains the current one until
    /// [`leave_channels`](Self::leave_channels).
    #[inline(always)]
    pub(super) fn read(&mut self, token: Token, mut channel: Box<dyn Channel>) {
        self.current_token = token;
        let outcome = match catch_panic(|| channel.read(token, self)) {
            Ok(outcome) => outcome,
            Err(cause) => Outcome::Ended(Box::new(Ending::Failed(cause))),
        };
        match outcome {
            Outcome::WaitsForInput => {
                if !self.slots.put_back_waiting(token, channel) {
                    self.settle_channel(token);
                }
            }
            Outcome::Settled => self.slots.put_back(token, channel),
            Outcome::Ended(ending) => {
                self.end_channel(token, &mut *channel, *ending);
                self.slots.put_back(token, channel);
            }
        }
    }

    /// No channel is current from here on.
    pub(super) fn leave_channels(&mut self) {
        self.current_token = Token::NONE;
    }

    /// Makes another callback of a channel, likewise.
    pub(super) fn call(&mut self, token: Token, callback: Callback) {
        self.enter(token, |channel, cx| channel.call(callback, token, cx));
    }

    /// Like [`call`](Self::call), but with a function in place of a callback. It has no
    /// effect if `token` names no channel of type `T`.
    pub(crate) fn call_channel<T: Dispatcher>(
        &mut self,
        token: Token,
        f: impl FnOnce(&mut T, &mut Context) -> io::Result<()>,
    ) {
        self.enter(token, |channel, cx| {
            let result = channel.downcast_mut().map(|channel| f(channel, cx));
            match result {
                Some(Err(error)) => Some(Box::new(Ending::from_error(error))),
                Some(Ok(())) | None => channel.settle(token, cx),
            }
        });
    }

    /// Settles a channel that was touched outside its callbacks.
    pub(super) fn settle_channel(&mut self, token: Token) {
        self.enter(token, |channel, cx| channel.settle(token, cx));
    }

    /// Returns what `check` returns for a channel, or `false` if it is closing. A panic
    /// closes the channel.
    pub(super) fn check_channel(
        &mut self,
        token: Token,
        check: impl FnOnce(&dyn Channel) -> bool,
    ) -> bool {
        let mut result = false;
        self.enter(token, |channel, _| {
            result = check(channel);
            None
        });
        result
    }

    /// Takes a channel out of its slot for the duration of `f`. Has no effect if
    /// the channel is closed or closing, or is being called already.
    #[inline(always)]
    fn enter(
        &mut self,
        token: Token,
        f: impl FnOnce(&mut dyn Channel, &mut Context) -> Option<Box<Ending>>,
    ) {
        let Some(mut channel) = self.slots.take(token) else { return };
        let caller = mem::replace(&mut self.current_token, token);
        let ending = match catch_panic(|| f(&mut *channel, self)) {
            Ok(ending) => ending,
            Err(cause) => Some(Box::new(Ending::Failed(cause))),
        };
        if let Some(ending) = ending {
            self.end_channel(token, &mut *channel, *ending);
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
                log_panic("handle_error", || channel.handle_error(self, &cause));
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
        result.unwrap_or_else(|payload| resume_unwind(payload))
    }

    /// Runs a job that belongs to no channel.
    pub(super) fn run_job(&mut self, job: impl FnOnce(&mut Context)) {
        self.stats.jobs += 1;
        let caller = mem::replace(&mut self.current_token, Token::NONE);
        log_panic("job", || job(self));
        self.current_token = caller;
    }
}

impl Ending {
    /// Errors that are an ordinary end of a connection are not reported to
    /// `handle_error`: asyncore's `_DISCONNECTED`.
    #[cold]
    fn from_error(error: io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown,
            NetworkUnreachable, NotConnected, TimedOut,
        };
        match error.kind() {
            // From the kernel, the peer is out of reach; from anywhere else, an error of
            // the program.
            TimedOut | HostUnreachable | NetworkUnreachable | NetworkDown
                if error.raw_os_error().is_some() =>
            {
                Ending::Ended(Cause::Error(error))
            }
            ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected => {
                Ending::Ended(Cause::Error(error))
            }
            _ => Ending::Failed(Cause::Error(error)),
        }
    }
}
