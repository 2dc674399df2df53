//! [`Context`]: the reactor, as its callbacks see it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::time::Instant;

use crate::output_buffer::OutputBuffer;
use crate::poll::Interest;
use crate::poll::either::Poller;
use crate::reactor::drain::Drain;
use crate::reactor::handle::{Handle, Job};
use crate::reactor::panic::{catch_panic, log_panic};
use crate::reactor::registration::Registration;
use crate::reactor::settle::Pending;
use crate::reactor::slots::Slots;
use crate::reactor::stats::{CallbackMonitor, Stats};
use crate::reactor::timers::Timers;
use crate::reactor::{Cause, CloseReason, Dispatcher};
use crate::sys::clock;
use crate::sys::resolver::Resolver;
use crate::sys::source::Source;
use crate::token::Token;

/// The largest read, and so how long one peer can delay the others: 64 KiB.
pub(crate) const READ_BUFFER_SIZE: usize = 64 * 1024;

/// The largest read for a filter: the same in four records of TLS 1.3, each of which has
/// 22 bytes more (RFC 8446, section 5.2).
const RAW_BUFFER_SIZE: usize = READ_BUFFER_SIZE + 4 * 22;

pub(crate) type ReadBuffer = [u8; RAW_BUFFER_SIZE];

/// Access to the reactor during a callback. Use it to add, find and close channels and to
/// set timers. The channel being called is not accessible through it.
pub struct Context {
    pub(super) poller: Poller,
    pub(super) slots: Slots,
    /// Channels with interest in a source that never blocks: they are called in each
    /// turn.
    pub(super) always_ready: Vec<Token>,
    pub(super) timers: Timers,
    /// When this turn's events were collected.
    pub(super) now: Instant,
    /// The channel being called.
    pub(super) current_token: Token,
    /// A source was deregistered since an event was dispatched.
    pub(super) source_exchanged: bool,
    /// The queue of step 4.
    pub(super) pending: VecDeque<Pending>,
    pub(super) stats: Stats,
    pub(super) monitor: CallbackMonitor,
    pub(super) handle: Handle,
    /// Posted jobs that were taken from the handle and have not run yet.
    pub(super) jobs: VecDeque<Job>,
    pub(super) stopping: bool,
    pub(super) drain: Drain,
    /// The reactor is being dropped: no channel can be added.
    dropping: bool,
    awaited_close: AwaitedClose,
    resolver: Resolver,
    read_buffer: Option<Box<ReadBuffer>>,
    spare_output: Option<Box<OutputBuffer>>,
    spare_input: Vec<u8>,
}

/// What [`Reactor::run_until_closed`](crate::Reactor::run_until_closed) waits for.
enum AwaitedClose {
    Nothing,
    Channel(Token),
    Closed(CloseReason),
}

/// A line of [`Context::channels`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// The channel's name.
    pub token: Token,
    /// [`Dispatcher::type_name`].
    pub type_name: &'static str,
    /// [`Dispatcher::unsent`], in bytes.
    pub unsent: usize,
}

impl Context {
    pub(super) fn new(poller: Poller) -> Self {
        let now = clock::now();
        Context {
            handle: Handle::new(poller.waker(), poller.owner()),
            poller,
            slots: Slots::default(),
            always_ready: Vec::new(),
            timers: Timers::new(now),
            now,
            current_token: Token::NONE,
            source_exchanged: false,
            pending: VecDeque::new(),
            stats: Stats::default(),
            monitor: CallbackMonitor::default(),
            jobs: VecDeque::new(),
            stopping: false,
            drain: Drain::default(),
            dropping: false,
            awaited_close: AwaitedClose::Nothing,
            resolver: Resolver::default(),
            read_buffer: None,
            spare_output: None,
            spare_input: Vec::new(),
        }
    }

    /// Returns the token of the channel being called; in a job, a token that names no
    /// channel.
    pub fn token(&self) -> Token {
        self.current_token
    }

    /// Returns the time at which this turn's events were collected.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Reads the clock. During a long callback, the result is later than
    /// [`now`](Self::now).
    pub fn clock(&self) -> Instant {
        clock::now()
    }

    /// Adds a channel, registers its source and returns its token. The loop makes the
    /// first callback later, never during this call.
    ///
    /// A source that the system does not watch because it never blocks (EPERM from
    /// `epoll_ctl(2)`: a regular file, `/dev/null`) is ready in each turn.
    ///
    /// # Errors
    ///
    /// Returns an error, and drops the dispatcher without a `handle_close`,
    /// * if the system cannot watch the source (for example `ENOSPC` at the user's
    ///   limit of watches),
    /// * while the reactor is being dropped, or
    /// * after the deadline of a [`drain`](Self::drain).
    pub fn add(&mut self, dispatcher: impl Dispatcher) -> io::Result<Token> {
        if self.dropping || self.drain.is_expired() {
            return Err(io::Error::other("cannot add a channel: the reactor is shutting down"));
        }
        let background = catch_panic(|| dispatcher.is_background()).map_err(io::Error::other)?;
        let Some(token) = self.slots.insert(Box::new(dispatcher), background) else {
            return Err(io::Error::other("cannot add a channel: the reactor is full"));
        };
        if let Err(error) = self.register(token) {
            self.slots.remove(token);
            return Err(error);
        }
        self.mark_dirty(token);
        Ok(token)
    }

    fn register(&mut self, token: Token) -> io::Result<()> {
        let Some(channel) = self.slots.take(token) else { return Ok(()) };
        let result = catch_panic(|| {
            let interest = Interest::new(channel.readable(), channel.writable());
            self.update_registration(token, channel.source(), interest)
        });
        self.slots.put_back(token, channel);
        result.unwrap_or_else(|cause| Err(io::Error::other(cause)))
    }

    /// Returns another channel, as the type that was added, or `None` if that channel
    /// is closed or closing, has another type, or is the one being called.
    ///
    /// Changes take effect at the end of the turn. Do not replace the dispatcher (for
    /// example with `mem::replace`), because its registered source must not change.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::{io, os::unix::net::UnixStream};
    /// # use reactor::{Io, Protocol, Reactor, Stream};
    /// # struct Quiet;
    /// # impl Protocol for Quiet {
    /// #     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> { Ok(()) }
    /// # }
    /// # fn main() -> io::Result<()> {
    /// # let (ours, theirs) = UnixStream::pair()?;
    /// # let mut reactor = Reactor::new()?;
    /// let token = reactor.add(Stream::new(ours, Quiet)?)?;
    /// if let Some(stream) = reactor.context().get_mut::<Stream<Quiet>>(token) {
    ///     stream.send(b"bye")?;
    ///     stream.close();
    /// }
    /// reactor.run()?;
    /// assert!(reactor.context().get_mut::<Stream<Quiet>>(token).is_none());
    /// # assert_eq!(io::read_to_string(theirs)?, "bye");
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_mut<T: Dispatcher>(&mut self, token: Token) -> Option<&mut T> {
        if self.slots.is_closing(token) {
            return None;
        }
        let slot = self.slots.get_mut(token)?;
        let added = slot.type_name();
        slot.channel_mut()?;
        self.mark_dirty(token);
        let channel = self.slots.get_mut(token)?.channel_mut()?.downcast_mut();
        if channel.is_none() {
            let wanted = std::any::type_name::<T>();
            log::debug!("channel {token:?} is a {added}, not a {wanted}");
        }
        channel
    }

    /// Lists the open channels.
    pub fn channels(&mut self) -> Vec<ChannelInfo> {
        let tokens: Vec<_> = self.tokens().collect();
        let info = |token| {
            let slot = self.slots.get_mut(token)?;
            Some(ChannelInfo { token, type_name: slot.type_name(), unsent: slot.unsent() })
        };
        tokens.into_iter().filter_map(info).collect()
    }

    /// Closes any channel at the end of this turn, without flushing. The only callback
    /// that follows is `handle_close`. To close a [`Stream`](crate::Stream) gracefully,
    /// use its own `close`.
    pub fn close(&mut self, token: Token) {
        self.begin_close(token, Cause::Local);
    }

    /// Closes the channel being called, with this cause.
    pub fn close_with(&mut self, cause: Cause) {
        self.begin_close(self.current_token, cause);
    }

    /// Stops watching the current channel's source. A dispatcher must call this before it
    /// replaces its source in a callback. The new source is registered after the
    /// callback.
    pub fn deregister(&mut self, source: Source<'_>) {
        self.source_exchanged = true;
        self.replace_registration(self.current_token, source, Registration::Detached);
    }

    /// Makes [`Reactor::run`](crate::Reactor::run) return after this turn. Channels stay
    /// open.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Returns a handle for posting work to this reactor from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Resolves a host name on another thread, then calls `job` on this one with its
    /// addresses, in the system's order.
    ///
    /// # Errors
    ///
    /// Returns an error if no thread can be started. Other failures are passed to
    /// `job`.
    pub fn resolve(
        &mut self,
        host: &str,
        port: u16,
        job: impl FnOnce(&mut Context, io::Result<Vec<SocketAddr>>) + Send + 'static,
    ) -> io::Result<()> {
        let handle = self.handle();
        self.resolver.lookup(host, port, move |result| {
            // The result is not needed once the reactor is dropped.
            let _ = handle.post(move |cx| job(cx, result));
        })
    }

    /// Returns `true` if the channel being called is closing: no callback follows,
    /// although its dispatcher still runs.
    pub(crate) fn is_closing(&self) -> bool {
        self.slots.is_closing(self.current_token)
    }

    /// Returns `true` if anything remains that could call back.
    fn has_work(&self) -> bool {
        let foreground = self.slots.foreground_count() > 0;
        if self.drain.is_expired() {
            return foreground;
        }
        foreground
            || self.timers.pending_calls() > 0
            || !self.jobs.is_empty()
            || self.handle.has_jobs()
    }

    /// Returns `true` if the loop continues. If not, ends the run: the next one starts
    /// without a stop or a drain.
    pub(super) fn continue_run(&mut self) -> bool {
        if !self.stopping && self.has_work() {
            return true;
        }
        self.stopping = false;
        self.reset_drain();
        false
    }

    /// Returns the tokens of all channels.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        (0..self.slots.capacity()).filter_map(|index| self.slots.token_at(index))
    }

    pub(super) fn close_all(&mut self) {
        for index in 0..self.slots.capacity() {
            if let Some(token) = self.slots.token_at(index) {
                self.begin_close(token, Cause::Shutdown);
            }
        }
    }

    /// Closes everything, as the reactor is being dropped. In a child of fork(2), the
    /// channels are dropped without a callback: they belong to the parent.
    pub(super) fn shut_down(&mut self) {
        self.dropping = true;
        log_panic("dropping jobs", || self.handle.close());
        if !self.poller.owner().is_this_process() {
            return;
        }
        self.close_all();
        while !self.pending.is_empty() {
            self.settle_pending();
        }
    }

    pub(super) fn await_close(&mut self, token: Token) -> io::Result<()> {
        if self.slots.get_mut(token).is_none() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such channel"));
        }
        self.awaited_close = AwaitedClose::Channel(token);
        Ok(())
    }

    /// Records the end of a channel, if it is the one awaited.
    pub(super) fn record_close(&mut self, token: Token, reason: CloseReason) {
        if matches!(self.awaited_close, AwaitedClose::Channel(awaited) if awaited == token) {
            self.awaited_close = AwaitedClose::Closed(reason);
        }
    }

    pub(super) fn take_awaited_close(&mut self) -> Option<CloseReason> {
        match mem::replace(&mut self.awaited_close, AwaitedClose::Nothing) {
            AwaitedClose::Closed(reason) => Some(reason),
            other => {
                self.awaited_close = other;
                None
            }
        }
    }

    pub(super) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Lends the buffer that every channel reads into.
    pub(crate) fn lend_read_buffer(&mut self) -> Box<ReadBuffer> {
        // There is none at the first use, or if a callback panicked while it had it.
        self.read_buffer.take().unwrap_or_else(new_read_buffer)
    }

    pub(crate) fn return_read_buffer(&mut self, buffer: Box<ReadBuffer>) {
        self.read_buffer = Some(buffer);
    }

    /// Lends an output buffer, in which a stream gathers the output of a callback.
    pub(crate) fn lend_output_buffer(&mut self) -> Option<Box<OutputBuffer>> {
        self.spare_output.take()
    }

    /// Lends an empty buffer for input that passes a filter.
    pub(crate) fn lend_input_buffer(&mut self) -> Vec<u8> {
        mem::take(&mut self.spare_input)
    }

    pub(crate) fn return_input_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= 2 * READ_BUFFER_SIZE {
            buffer.clear();
            self.spare_input = buffer;
        }
    }

    /// Takes back an empty output buffer, to lend it to the next callback.
    #[inline(always)]
    pub(crate) fn return_output_buffer(&mut self, buffer: Box<OutputBuffer>) {
        if self.spare_output.is_none() && buffer.is_reusable() {
            self.spare_output = Some(buffer);
        } else {
            drop_output_buffer(buffer);
        }
    }
}

/// Keeps this out of the path of an echo, for which a buffer is kept.
#[cold]
fn drop_output_buffer(buffer: Box<OutputBuffer>) {
    drop(buffer);
}

#[cold]
#[expect(clippy::large_stack_arrays, reason = "optimized builds create it on the heap")]
fn new_read_buffer() -> Box<ReadBuffer> {
    Box::new([0; RAW_BUFFER_SIZE])
}

impl Context {
    pub(super) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("channels", &self.slots.foreground_count())
            .field("stopping", &self.stopping)
            .field("draining", &self.is_draining())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as("Context", f)
    }
}
