//! [`Reactor`]: the loop, one turn after another. This is the file to read.
//!
//! ```text
//!            +-------------------------------------------------+
//!            v                                                 |
//!   1 wait --> 2 deliver events --> 3 timers, posts --> 4 settle
//! ```

pub(crate) mod builder;
pub(crate) mod context;
pub(crate) mod dispatcher;
mod drain;
pub(crate) mod handle;
pub(crate) mod slots;
pub(crate) mod stats;
pub(crate) mod timers;

use std::fmt;
use std::io;
use std::mem;
#[cfg(not(polling_test_poll_backend))]
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::compact_instant::Moment;
use crate::poll::{Event, Events, Poller};
use crate::reactor::context::Context;
use crate::reactor::dispatcher::{Cause, CloseReason, Dispatcher, is_disconnect, panicked};
use crate::reactor::handle::Handle;
use crate::reactor::slots::Token;
use crate::reactor::stats::Stats;
use crate::reactor::timers::{Due, Timer};
use crate::sys::ready::is_ready;

/// How many posts run in one turn: many enough to make the wait's cost
/// disappear, few enough for I/O to come round in between.
const POSTS_PER_TURN: usize = 1024;

/// How many timers run in one turn, likewise.
const TIMERS_PER_TURN: usize = 1024;

/// How many channels are settled in one turn, beyond those that it touched
/// itself.
const SETTLES_PER_TURN: usize = 1024;

/// An event loop and the channels that it serves, all on one thread.
///
/// ```
/// use std::io;
/// use reactor::{Io, Protocol, Reactor, Stream};
/// use std::net::TcpListener;
///
/// struct Hello;
///
/// impl Protocol for Hello {
///     fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
///         io.send(b"hello")?;
///         io.close();
///         Ok(())
///     }
///     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
///         Ok(())
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let mut reactor = Reactor::new()?;
/// reactor.add(Stream::connect(server.local_addr()?, Hello)?)?;
/// reactor.run()?; // returns once the stream is closed
/// assert_eq!(io::read_to_string(server.accept()?.0)?, "hello");
/// # Ok(())
/// # }
/// ```
pub struct Reactor {
    cx: Context,
    events: Events,
}

impl Reactor {
    /// A reactor without channels. Fails where no more descriptors are to be
    /// had: it needs three on Linux.
    pub fn new() -> io::Result<Self> {
        Self::on(Poller::new()?)
    }

    fn on(poller: Poller) -> io::Result<Self> {
        let events = poller.events()?;
        Ok(Reactor { cx: Context::new(poller), events })
    }

    pub(crate) fn set_busy_poll(&mut self, limit: Duration) {
        self.events.set_busy_poll(limit);
    }

    /// Adds a channel. See [`Context::add`].
    pub fn add(&mut self, dispatcher: impl Dispatcher) -> io::Result<Token> {
        self.cx.add(dispatcher)
    }

    /// Reaches a channel from outside of the loop. See [`Context::get_mut`].
    pub fn get_mut<T: Dispatcher>(&mut self, token: Token) -> Option<&mut T> {
        self.cx.get_mut(token)
    }

    /// A way into this reactor from other threads.
    pub fn handle(&self) -> Handle {
        self.cx.handle()
    }

    /// What callbacks get: to add channels, set timers, or stop from outside
    /// of a callback.
    pub fn context(&mut self) -> &mut Context {
        &mut self.cx
    }

    /// Turns until there is nothing left that could call back (no channel but
    /// background ones, no [`Context::call_later`], no post), or until
    /// [`Context::stop`]. Channels that are open at a stop stay open: run
    /// again, or drop the reactor.
    ///
    /// Fails only where the system's poller does.
    pub fn run(&mut self) -> io::Result<()> {
        self.run_turns(usize::MAX).map(drop)
    }

    /// As [`run`](Self::run), for so many turns at the most: asyncore's
    /// `count`. Whether there is more to do, as with [`turn`](Self::turn).
    pub fn run_turns(&mut self, count: usize) -> io::Result<bool> {
        self.cx.settle();
        let mut goes_on = self.cx.goes_on();
        for _ in 0..count {
            if !goes_on {
                break;
            }
            goes_on = self.turn(None)?;
        }
        Ok(goes_on)
    }

    /// One turn: waits until something is ready, at most for `limit` (`None`:
    /// for ever), and serves it. Whether there is more to do: not after
    /// [`Context::stop`], nor where nothing is left that could call back.
    ///
    /// To embed the reactor in another loop, let that watch the reactor's own
    /// descriptor ([`AsFd`]) for reading, wait until
    /// [`next_deadline`](Self::next_deadline) at the longest, and call
    /// `turn(Some(Duration::ZERO))` then.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        // What was added or touched since the last turn, from outside.
        self.cx.settle();

        self.cx.poller.wait(&mut self.events, self.cx.wake_at(limit))?;
        self.cx.now = Instant::now();
        self.cx.stats.turns += 1;
        // Before any callback: from here on posts need not wake the loop.
        self.cx.take_posts();

        for event in self.events.iter() {
            self.cx.deliver(event);
        }
        self.cx.deliver_always_ready();
        self.cx.run_timers();
        self.cx.run_posts();
        self.cx.settle();
        self.cx.look_for_posts();
        Ok(self.cx.goes_on())
    }

    /// When the next [`turn`](Self::turn) has something to do although no
    /// source is ready; `None` for never. In the past where it has already.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.cx.wake_at(None)
    }

    /// What this reactor has done so far.
    pub fn stats(&self) -> &Stats {
        &self.cx.stats
    }

    /// Closes every channel, with [`Cause::Shutdown`]. Output that waits is
    /// lost, and counted in the close reason: to end in good order call
    /// [`Context::drain`].
    pub fn close_all(&mut self) {
        self.cx.close_all();
        self.cx.settle();
    }
}

impl Drop for Reactor {
    /// Closes every channel, as [`Reactor::close_all`] does; posts fail from
    /// here on.
    fn drop(&mut self) {
        self.cx.ended = true;
        isolated("dropping posts", || self.cx.handle.close());
        self.close_all();
        while !self.cx.touched.is_empty() {
            self.cx.settle();
        }
    }
}

/// The poller's descriptor, which is readable when a source is ready or a
/// post waits. (There is none on systems that have only poll(2).)
#[cfg(not(polling_test_poll_backend))]
impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.cx.poller.as_fd()
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cx.fmt(f)
    }
}

/// The turn, step by step. What callbacks may do stands in `context.rs`.
impl Context {
    /// Until when to wait: the next timer, or the turn's limit; not at all
    /// where work waits already. `None`, and so no system timer, where there
    /// is neither.
    fn wake_at(&self, limit: Option<Duration>) -> Option<Instant> {
        let is_busy = self.stopping
            || self.drain.requested.is_some()
            || !self.posts.is_empty()
            || !self.always_ready.is_empty()
            || !self.touched.is_empty();
        if is_busy {
            return Some(self.now);
        }
        let limit = limit.and_then(|limit| Instant::now().checked_add(limit));
        [self.timers.next_due(), limit].into_iter().flatten().min()
    }

    /// Hands one event to its channel. A channel that an earlier callback of
    /// the same batch closed is not found, or not called, any more.
    fn deliver(&mut self, event: Event) {
        let Some(token) = self.channels.by_key(event.key) else { return };
        let Some(slot) = self.channels.get_mut(token) else { return };
        let Some(interest) = slot.registered else { return };
        if self.poller.disarms() {
            // Stated again when the channel settles.
            slot.disarmed = true;
            self.touch(token);
        }
        self.watch_event(token);
        if interest.is_empty() || !(event.readable || event.writable || event.urgent) {
            return self.hang_up(token);
        }
        let mut readable = event.readable;
        if event.urgent && interest.readable {
            self.call(token, |dispatcher, cx| {
                let outcome = dispatcher.handle_expt(cx);
                // `polling` counts urgent data as something to read: whether
                // there is anything else only the source can tell.
                readable = is_ready(dispatcher.source(), PollFlags::IN);
                outcome
            });
        }
        // What the peer said comes before what it does not hear any more.
        if readable && interest.readable && self.is_watched(token) {
            self.call(token, Dispatcher::handle_read);
        }
        if event.writable && interest.writable && self.is_watched(token) {
            self.call(token, Dispatcher::handle_write);
        }
    }

    /// Whether the source that an event is about is still the channel's.
    fn is_watched(&mut self, token: Token) -> bool {
        self.channels.get_mut(token).is_some_and(|slot| slot.registered.is_some())
    }

    /// Sources that never block have their turn like all the others.
    fn deliver_always_ready(&mut self) {
        // A callback may take a channel off the list; none gets onto it here.
        for index in (0..self.always_ready.len()).rev() {
            if let Some(token) = self.always_ready.get(index) {
                let key = token.key();
                self.deliver(Event { key, readable: true, writable: true, urgent: false });
            }
        }
    }

    /// A source reports that it hung up or failed, though nobody waits for
    /// it: level-triggered, it would report so for ever. It leaves the poller
    /// until the channel wants something again.
    fn hang_up(&mut self, token: Token) {
        self.call(token, |dispatcher, cx| {
            let outcome = dispatcher.handle_hangup(cx);
            cx.deregister(dispatcher.source());
            if let Some(slot) = cx.channels.get_mut(token) {
                slot.hung_up = true;
            }
            outcome
        });
    }

    fn run_timers(&mut self) {
        let fence = self.timers.fence();
        for _ in 0..TIMERS_PER_TURN {
            let Some(due) = self.timers.pop_due(self.now, fence) else { break };
            match due {
                Due::Timer(id, Timer::Channel(token)) => {
                    self.call(token, |dispatcher, cx| dispatcher.handle_timer(cx, id));
                }
                Due::Timer(_, Timer::Call(job)) => self.call_job(job),
                Due::Timer(_, Timer::Drain) => self.cut_off(),
                Due::Deadline(token) => self.deadline_has_come(token),
            }
        }
    }

    fn deadline_has_come(&mut self, token: Token) {
        if let Some(slot) = self.channels.get_mut(token) {
            slot.armed = None;
        }
        // It may have moved off since it was set, in this turn even: so not the
        // turn's time.
        let now = Instant::now();
        self.call(token, |dispatcher, cx| match dispatcher.update_deadline(now) {
            Some(at) if at <= now => dispatcher.handle_deadline(cx),
            _ => Ok(()),
        });
    }

    fn take_posts(&mut self) {
        self.handle.take(&mut self.posts);
    }

    fn run_posts(&mut self) {
        // Those that this turn's callbacks posted run in it, too.
        self.take_posts();
        for _ in 0..POSTS_PER_TURN {
            let Some(job) = self.posts.pop_front() else { break };
            self.call_job(job);
        }
    }

    /// Where no post is left to run: either one came in during the turn, or
    /// the next one wakes the loop.
    fn look_for_posts(&mut self) {
        if self.posts.is_empty() && !self.handle.may_sleep() {
            self.take_posts();
        }
    }

    /// Whether there is more to do, after this turn.
    fn goes_on(&mut self) -> bool {
        if !self.stopping && self.is_alive() {
            return true;
        }
        self.stopping = false;
        self.end_drain();
        false
    }

    /// Deals with each channel that was touched, and with those that are
    /// touched by that. The next turn goes on where they are too many: what
    /// closes and adds channels without end must not keep it from its timers.
    pub(crate) fn settle(&mut self) {
        let mut left = SETTLES_PER_TURN + 4 * self.touched.len();
        // Read once for all, and again after a callback, which may take long.
        let mut now = None;
        loop {
            self.drain_if_requested();
            if left == 0 {
                break;
            }
            left -= 1;
            let Some((token, end)) = self.touched.pop_front() else { break };
            match end {
                Some(cause) => {
                    self.finish(token, cause);
                    now = None;
                }
                None => self.settle_one(token, &mut now),
            }
        }
    }

    /// Closes the channel if it has ended; else sees to it that the poller
    /// and the timers know what it waits for.
    fn settle_one(&mut self, token: Token, now: &mut Option<Instant>) {
        let Some(slot) = self.channels.get_mut(token) else { return };
        slot.touched = false;
        if slot.fresh {
            slot.fresh = false;
            *now = None;
            self.call(token, Dispatcher::handle_add);
            if self.has_told_of_drain() {
                self.call(token, Dispatcher::handle_drain);
            }
            return;
        }
        let now = *now.get_or_insert_with(Instant::now);
        let asked = catch_unwind(AssertUnwindSafe(|| self.ask(token, now)));
        if let Some(cause) = asked.unwrap_or_else(|payload| Some(panicked(&*payload))) {
            self.doom(token, cause);
        }
    }

    /// What the channel wants from here on; why it ends, if it does.
    fn ask(&mut self, token: Token, now: Instant) -> Option<Cause> {
        let slot = self.channels.get_mut(token).filter(|slot| !slot.doomed)?;
        let dispatcher = slot.dispatcher.as_deref_mut()?;
        if let Some(cause) = dispatcher.poll_close() {
            return Some(cause);
        }
        // Not the turn's time: what a channel waits for begins now, however
        // long the callbacks took, or the pause before this turn.
        let deadline = dispatcher.update_deadline(now);
        self.arm(token, deadline, now);
        self.register(token).err().map(Cause::Error)
    }

    /// Tells the poller what the channel waits for, if that has changed.
    pub(crate) fn register(&mut self, token: Token) -> io::Result<()> {
        let Some(slot) = self.channels.get_mut(token) else { return Ok(()) };
        let Some(dispatcher) = slot.dispatcher.as_deref() else { return Ok(()) };
        let wanted = dispatcher.interest();
        match slot.registered {
            Some(registered) if registered == wanted && !slot.disarmed => return Ok(()),
            // Else it is watched also where nothing is wanted: it may fail.
            None if wanted.is_empty() && slot.hung_up => return Ok(()),
            Some(_) if slot.always_ready => self.always_ready.retain(|&other| other != token),
            Some(_) => self.poller.modify(dispatcher.source(), token, wanted)?,
            None => {
                slot.always_ready = !self.poller.add(dispatcher.source(), token, wanted)?;
            }
        }
        slot.registered = Some(wanted);
        slot.disarmed = false;
        slot.hung_up = false;
        if slot.always_ready && !wanted.is_empty() {
            self.always_ready.push(token);
        }
        Ok(())
    }

    /// Sees to it that a timer is set for `deadline`, or for an earlier one:
    /// when that falls due the channel is asked again. So a deadline that
    /// moves off with each message costs nothing.
    fn arm(&mut self, token: Token, deadline: Option<Instant>, now: Instant) {
        let Some(slot) = self.channels.get_mut(token) else { return };
        // One that has passed already takes its place behind the others that have.
        let deadline = deadline.map(|at| Moment::from(at.max(now)));
        match (slot.armed, deadline) {
            (None, None) => {}
            (Some(armed), Some(deadline)) if armed <= deadline => {}
            (armed, deadline) => {
                if let Some(armed) = armed {
                    self.timers.cancel_deadline(token, armed);
                }
                if let Some(deadline) = deadline {
                    self.timers.set_deadline(token, deadline);
                }
                slot.armed = deadline;
            }
        }
    }

    /// Calls one channel back, with the rest of the reactor in its hands. An
    /// error or a panic dooms that channel and nothing else.
    pub(crate) fn call(
        &mut self,
        token: Token,
        callback: impl FnOnce(&mut dyn Dispatcher, &mut Context) -> io::Result<()>,
    ) {
        let Some(mut dispatcher) = self.channels.take(token) else { return };
        let caller = mem::replace(&mut self.current, token);
        let began = self.watch_begin();
        let outcome = catch_unwind(AssertUnwindSafe(|| callback(&mut *dispatcher, self)));
        self.watch_end(began, token, &*dispatcher);
        let (end, is_fault) = match outcome {
            Ok(Ok(())) => (None, false),
            Ok(Err(error)) => {
                let is_fault = !is_disconnect(&error);
                (Some(Cause::Error(error)), is_fault)
            }
            Err(payload) => (Some(panicked(&*payload)), true),
        };
        // Decided before `handle_error` may ask for another end.
        let is_first = end.is_some()
            && self
                .channels
                .get_mut(token)
                .is_some_and(|slot| !mem::replace(&mut slot.doomed, true));
        if let Some(cause) = &end
            && is_fault
        {
            isolated("handle_error", || dispatcher.handle_error(self, cause));
        }
        self.current = caller;
        self.channels.put_back(token, dispatcher);
        match end {
            Some(cause) if is_first => self.touched.push_back((token, Some(cause))),
            Some(_) => {}
            None => self.touch(token),
        }
    }

    /// Runs what belongs to no channel: a post, or a `call_later`.
    fn call_job(&mut self, job: impl FnOnce(&mut Context)) {
        self.stats.jobs += 1;
        let caller = mem::replace(&mut self.current, Token::NONE);
        isolated("a posted or timed call", || job(self));
        self.current = caller;
    }

    /// Ends a channel. Its token names nothing from here on, so that no
    /// callback can follow `handle_close`, and its source has left the poller
    /// before it is closed.
    fn finish(&mut self, token: Token, cause: Cause) {
        let Some(removed) = self.channels.remove(token) else { return };
        if let Some(armed) = removed.armed {
            self.timers.cancel_deadline(token, armed);
        }
        let mut dispatcher = removed.dispatcher;
        let mut reason = CloseReason { cause, unsent: 0 };
        let caller = mem::replace(&mut self.current, token);
        isolated("closing", || {
            if removed.registered {
                self.forget(token, dispatcher.source(), removed.always_ready);
            }
            reason.unsent = dispatcher.unsent();
        });
        isolated("handle_close", || dispatcher.handle_close(self, &reason));
        // With those that it set just now.
        self.timers.cancel_channel(token);
        isolated("drop", || drop(dispatcher));
        self.current = caller;
    }
}

/// Runs what must not end the loop, whatever it does: the last callbacks of a
/// channel that is closing anyway, and calls that belong to none.
fn isolated(what: &str, callback: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(callback)) {
        log::error!("{what}: {}", panicked(&*payload));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::num::NonZeroU64;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;

    use super::*;
    use crate::{Io, Limits, Listener, Protocol, Stream};

    /// Sends back what it gets, and closes at the end.
    struct Echo;

    impl Protocol for Echo {
        fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            io.send(data)
        }
    }

    fn turn(reactor: &mut Reactor) {
        for _ in 0..10 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
    }

    /// The mode of systems without level triggering: each event disarms its
    /// source, and the reactor must state its interest again.
    #[test]
    fn events_that_disarm_their_source_are_armed_again() {
        let mut reactor = Reactor::on(Poller::oneshot().unwrap()).unwrap();
        let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
        let addr = listener.local_addr().as_inet().unwrap();
        reactor.add(listener).unwrap();
        let mut peers: Vec<_> =
            (0..3).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        for round in 0..100_u8 {
            for peer in &mut peers {
                peer.write_all(&[round]).unwrap();
            }
            turn(&mut reactor);
            for peer in &mut peers {
                let mut byte = [0];
                peer.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [round]);
            }
        }

        // A flood that no kernel buffer takes at once, read late.
        let data = vec![7; 4_000_000];
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let limits = Limits { stall_timeout: None, ..Limits::default() };
        let mut stream = Stream::new(ours, Echo).unwrap().with_limits(limits);
        stream.send(&data).unwrap();
        stream.close();
        reactor.add(stream).unwrap();
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).unwrap();
            got.len()
        });
        drop(peers);
        let handle = reactor.handle();
        let joined = std::thread::spawn(move || {
            let got = reader.join().unwrap();
            handle.stop().unwrap();
            got
        });
        reactor.run().unwrap();
        assert_eq!(joined.join().unwrap(), data.len());
    }

    /// A channel whose deadline has passed and stays so, and the order in which
    /// such channels were told.
    struct Overdue(UnixStream, Instant, Rc<RefCell<Vec<Token>>>);

    impl Dispatcher for Overdue {
        fn source(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
        fn update_deadline(&mut self, _: Instant) -> Option<Instant> {
            Some(self.1)
        }
        fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
            self.2.borrow_mut().push(cx.token());
            Ok(())
        }
    }

    #[test]
    fn invariant_7_deadlines_that_have_passed_take_turns() {
        let mut reactor = Reactor::new().unwrap();
        let told = Rc::default();
        let past = Instant::now();
        let mut add = || {
            let source = UnixStream::pair().unwrap().0;
            reactor.add(Overdue(source, past, Rc::clone(&told))).unwrap()
        };
        let (first, second) = (add(), add());
        reactor.cx.settle();
        reactor.cx.settle();
        for _ in 0..3 {
            // As where there is no time for more than one in a turn.
            let now = Instant::now();
            let Some(Due::Deadline(token)) = reactor.cx.timers.pop_due(now, NonZeroU64::MAX) else {
                panic!("a deadline has passed");
            };
            reactor.cx.deadline_has_come(token);
            reactor.cx.settle();
        }
        assert_eq!(*told.borrow(), [first, second, first]);
    }

    #[test]
    fn a_connection_in_oneshot_mode_comes_about() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reactor = Reactor::on(Poller::oneshot().unwrap()).unwrap();
        let mut stream = Stream::connect(server.local_addr().unwrap(), Echo).unwrap();
        stream.send(b"hello").unwrap();
        stream.close();
        reactor.add(stream).unwrap();
        reactor.run().unwrap();
        assert_eq!(io::read_to_string(server.accept().unwrap().0).unwrap(), "hello");
    }
}
