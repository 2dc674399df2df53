//! [`Context`]: the reactor, as its callbacks see it.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::poll::Poller;
use crate::reactor::dispatcher::{Cause, Dispatcher, panicked};
use crate::reactor::drain::Drain;
use crate::reactor::handle::{Handle, Job};
use crate::reactor::slots::{Channels, Token};
use crate::reactor::stats::{Stats, Watch};
use crate::reactor::timers::{Timer, TimerId, Timers};

/// The most that one read takes, and so the longest that one peer keeps the
/// others waiting: 64 KiB.
pub(crate) const READ_BUFFER: usize = 64 * 1024;

/// Everything in the reactor but the channel that is being called: what a
/// callback may add, reach, time, and end.
pub struct Context {
    pub(crate) poller: Poller,
    pub(crate) channels: Channels,
    /// Channels that want something of a source which never blocks: they are
    /// called each turn.
    pub(crate) always_ready: Vec<Token>,
    pub(crate) timers: Timers,
    /// When this turn's events were collected.
    pub(crate) now: Instant,
    /// The channel that is being called.
    pub(crate) current: Token,
    /// What step 4 of the turn has to look at: a channel to settle, or one to
    /// close for this cause.
    pub(crate) touched: VecDeque<(Token, Option<Cause>)>,
    pub(crate) stats: Stats,
    pub(crate) watch: Watch,
    pub(crate) handle: Handle,
    /// Posts taken from the handle's queue and not run yet.
    pub(crate) posts: VecDeque<Job>,
    pub(crate) stopping: bool,
    pub(crate) drain: Drain,
    /// The reactor is being dropped: nothing can be added any more.
    pub(crate) ended: bool,
    read_buffer: Box<[u8]>,
}

impl Context {
    pub(crate) fn new(poller: Poller) -> Self {
        Context {
            handle: Handle::new(poller.waker()),
            poller,
            channels: Channels::default(),
            always_ready: Vec::new(),
            timers: Timers::default(),
            now: Instant::now(),
            current: Token::NONE,
            touched: VecDeque::new(),
            stats: Stats::default(),
            watch: Watch::default(),
            posts: VecDeque::new(),
            stopping: false,
            drain: Drain::default(),
            ended: false,
            read_buffer: Box::default(),
        }
    }

    /// The channel that is being called. In a post or a
    /// [`call_later`](Self::call_later), a token that names no channel.
    pub fn token(&self) -> Token {
        self.current
    }

    /// The time at which this turn's events were collected.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Adds a channel: registers its source and returns its name. Its first
    /// callback comes from the loop, never from within this call.
    ///
    /// A source that the system refuses to watch as it never blocks (`EPERM`
    /// from epoll: a regular file, `/dev/null`) counts as ready in each turn.
    ///
    /// Fails where the system refuses to watch the source for another reason
    /// (`ENOSPC` at the user's limit of watches), while the reactor is being
    /// dropped, and after a [`drain`](Self::drain) has cut off what was left.
    /// The dispatcher is dropped then, without a `handle_close`: it never was a
    /// channel.
    pub fn add(&mut self, dispatcher: impl Dispatcher) -> io::Result<Token> {
        if self.ended || self.drain.over {
            return Err(io::Error::other("the reactor ends, nothing can be added any more"));
        }
        let Some(token) = self.channels.insert(Box::new(dispatcher)) else {
            return Err(io::Error::other("the reactor is full"));
        };
        let error = match catch_unwind(AssertUnwindSafe(|| self.register(token))) {
            Ok(Ok(())) => {
                self.touch(token);
                return Ok(token);
            }
            Ok(Err(error)) => error,
            Err(payload) => io::Error::other(panicked(&*payload).to_string()),
        };
        self.channels.remove(token);
        Err(error)
    }

    /// Reaches another channel, as the type that was added. `None` once that
    /// channel is closed or about to close, where it is of another type, and
    /// for the channel that is being called itself.
    ///
    /// The channel settles at the end of the turn: what was changed here
    /// takes effect then. Its source must stay the same; so do not put another
    /// dispatcher in its place as a whole.
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
        let slot = self.channels.get_mut(token).filter(|slot| !slot.doomed)?;
        let dispatcher = slot.dispatcher.as_deref_mut()?;
        let dispatcher = (dispatcher as &mut dyn Any).downcast_mut()?;
        if !mem::replace(&mut slot.touched, true) {
            self.touched.push_back((token, None));
        }
        Some(dispatcher)
    }

    /// Closes a channel of any kind, at the end of this turn and without
    /// flushing; it gets no callback but `handle_close` from here on. To end
    /// a [`Stream`](crate::Stream) in good order use its own `close`.
    pub fn close(&mut self, token: Token) {
        self.doom(token, Cause::Local);
    }

    /// Closes the channel that is being called, giving this cause.
    pub fn close_with(&mut self, cause: Cause) {
        self.doom(self.current, cause);
    }

    /// Takes the current channel's source out of the poller. A dispatcher
    /// that exchanges its source from within a callback calls this first; the
    /// new one is registered at the end of the turn.
    pub fn deregister(&mut self, source: BorrowedFd<'_>) {
        let Some(slot) = self.channels.get_mut(self.current) else { return };
        let always_ready = mem::take(&mut slot.always_ready);
        if slot.registered.take().is_some() {
            self.forget(self.current, source, always_ready);
        }
    }

    /// Ends [`Reactor::run`](crate::Reactor::run) after this turn; channels
    /// stay open.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Calls this channel's `handle_timer` after `after`, once: never early,
    /// and never at all for a time beyond the clock's range. The timer goes
    /// with the channel.
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        self.timers.set_after(Instant::now(), after, Timer::Channel(self.current))
    }

    /// As [`set_timer`](Self::set_timer), for the instant `at`: for what is to
    /// happen at even intervals, however long it takes.
    pub fn set_timer_at(&mut self, at: Instant) -> TimerId {
        self.timers.set(at, Timer::Channel(self.current))
    }

    /// Calls `job` after `after`, once: never early, and never at all for a
    /// time beyond the clock's range. A panic in it costs that call only. The
    /// loop runs on for as long as such a call waits.
    pub fn call_later(
        &mut self,
        after: Duration,
        job: impl FnOnce(&mut Context) + 'static,
    ) -> TimerId {
        self.timers.set_after(Instant::now(), after, Timer::Call(Box::new(job)))
    }

    /// As [`call_later`](Self::call_later), at the instant `at`: for what is to
    /// happen at even intervals, however long it takes.
    pub fn call_at(&mut self, at: Instant, job: impl FnOnce(&mut Context) + 'static) -> TimerId {
        self.timers.set(at, Timer::Call(Box::new(job)))
    }

    /// Cancels a timer and frees it; `false` where it is gone already.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        self.timers.cancel(timer)
    }

    /// A way into this reactor from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Notes that a channel may have changed what it waits for.
    pub(crate) fn touch(&mut self, token: Token) {
        if let Some(slot) = self.channels.get_mut(token)
            && !mem::replace(&mut slot.touched, true)
        {
            self.touched.push_back((token, None));
        }
    }

    /// Whether the channel that is being called has been closed by its token:
    /// no callback may follow, though its dispatcher still runs.
    pub(crate) fn is_doomed(&self) -> bool {
        self.channels.is_doomed(self.current)
    }

    /// Decides a channel's end. The first cause stands.
    pub(crate) fn doom(&mut self, token: Token, cause: Cause) {
        if let Some(slot) = self.channels.get_mut(token)
            && !mem::replace(&mut slot.doomed, true)
        {
            self.touched.push_back((token, Some(cause)));
        }
    }

    /// Waits no more for what `token` was registered for.
    pub(crate) fn forget(&mut self, token: Token, source: BorrowedFd<'_>, always_ready: bool) {
        if always_ready {
            self.always_ready.retain(|&other| other != token);
        } else if let Err(error) = self.poller.delete(source) {
            // Only a source that was closed or exchanged behind our back.
            log::error!("channel {token:?}: its source was not registered: {error}");
        }
    }

    /// Whether anything is left that could call back.
    pub(crate) fn is_alive(&self) -> bool {
        self.channels.foreground() > 0
            || self.timers.calls() > 0
            || !self.posts.is_empty()
            || self.handle.has_posts()
    }

    pub(crate) fn close_all(&mut self) {
        for index in 0..self.channels.slots() {
            if let Some(token) = self.channels.at(index) {
                self.doom(token, Cause::Shutdown);
            }
        }
    }

    /// Lends the reactor's read buffer, which every stream reads into.
    pub(crate) fn take_read_buffer(&mut self) -> Box<[u8]> {
        if self.read_buffer.is_empty() {
            // The first use, or a callback panicked with the buffer in hand.
            self.read_buffer = vec![0; READ_BUFFER].into_boxed_slice();
        }
        mem::take(&mut self.read_buffer)
    }

    pub(crate) fn put_back_read_buffer(&mut self, buffer: Box<[u8]>) {
        self.read_buffer = buffer;
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("channels", &self.channels.foreground())
            .field("stopping", &self.stopping)
            .field("draining", &self.is_draining())
            .finish_non_exhaustive()
    }
}
