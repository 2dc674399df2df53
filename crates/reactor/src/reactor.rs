//! [`Reactor`]: the loop, one turn after another. This is the file to read.
//!
//! ```text
//!            +-------------------------------------------------+
//!            v                                                 |
//!   1 wait --> 2 deliver events --> 3 timers, posts --> 4 settle
//! ```

use std::fmt;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::channels::Token;
use crate::context::Context;
use crate::dispatcher::{Cause, CloseReason, Dispatcher, is_disconnect, panicked};
use crate::handle::Handle;
use crate::poller::{Event, Events, Interest, Poller};
use crate::timer::Due;

/// How many posts run in one turn: many enough to make the wait's cost
/// disappear, few enough for I/O to come round in between.
const POSTS_PER_TURN: usize = 1024;

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
        Ok(Self::on(Poller::new()?))
    }

    fn on(poller: Poller) -> Self {
        Reactor { cx: Context::new(poller), events: Events::new() }
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
        self.cx.settle();
        while !self.cx.stopping && self.cx.is_alive() {
            self.turn(None)?;
        }
        self.cx.stopping = false;
        self.cx.end_drain();
        Ok(())
    }

    /// One turn: waits until something is ready, at most for `limit` (`None`:
    /// for ever), and serves it. To embed the reactor in another loop.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<()> {
        // What was added or touched since the last turn, from outside.
        self.cx.settle();

        self.cx.poller.wait(&mut self.events, self.cx.wake_at(limit))?;
        self.cx.now = Instant::now();

        for event in self.events.iter() {
            self.cx.deliver(event);
        }
        self.cx.run_timers();
        self.cx.run_posts();
        self.cx.settle();
        self.cx.look_for_posts();
        Ok(())
    }

    /// Closes every channel, with [`Cause::ShutDown`]. Output that waits is
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
        self.cx.handle().close();
        self.close_all();
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
        if self.stopping || !self.posts.is_empty() {
            return Some(self.now);
        }
        let limit = limit.and_then(|limit| Instant::now().checked_add(limit));
        [self.timers.next_deadline(), limit].into_iter().flatten().min()
    }

    /// Hands one event to its channel. A channel that an earlier callback of
    /// the same batch closed is not found, or not called, any more.
    fn deliver(&mut self, event: Event) {
        let Some(token) = self.channels.by_key(event.key) else { return };
        let Some(slot) = self.channels.get_mut(token) else { return };
        let Some(interest) = slot.registered else { return };
        if self.poller.disarms() {
            // Stated again when the channel settles.
            slot.registered = Some(Interest { readable: false, writable: false });
            self.touch(token);
        }
        if interest.is_empty() {
            return self.hang_up(token);
        }
        if event.urgent && interest.readable {
            self.call(token, Dispatcher::handle_expt);
        }
        if event.writable && interest.writable {
            self.call(token, Dispatcher::handle_write);
        }
        if event.readable && interest.readable {
            self.call(token, Dispatcher::handle_read);
        }
    }

    /// A source reports that it hung up or failed, though nobody waits for
    /// it: level-triggered, it would report so for ever. It leaves the poller
    /// until the channel wants something again.
    fn hang_up(&mut self, token: Token) {
        self.call(token, |dispatcher, cx| {
            let outcome = dispatcher.handle_hangup(cx);
            cx.detach(dispatcher.source());
            outcome
        });
    }

    fn run_timers(&mut self) {
        let fence = self.timers.fence();
        while let Some((id, due)) = self.timers.pop_due(self.now, fence) {
            match due {
                Due::Timer(token) => {
                    self.call(token, |dispatcher, cx| dispatcher.handle_timer(cx, id));
                }
                Due::Call(job) => self.call_job(job),
                Due::Drain => self.cut_off(),
                Due::Deadline(token) => {
                    if let Some(slot) = self.channels.get_mut(token) {
                        slot.armed = None;
                    }
                    // It may have moved off since the timer was set.
                    self.call(token, |dispatcher, cx| match dispatcher.deadline(cx.now) {
                        Some(at) if at <= cx.now => dispatcher.handle_deadline(cx),
                        _ => Ok(()),
                    });
                }
            }
        }
    }

    fn run_posts(&mut self) {
        self.handle.take(&mut self.posts);
        for _ in 0..POSTS_PER_TURN {
            let Some(job) = self.posts.pop_front() else { break };
            self.call_job(job);
        }
    }

    /// Where no post is left to run: either one came in during the turn, or
    /// the next one wakes the loop.
    fn look_for_posts(&mut self) {
        if self.posts.is_empty() && !self.handle.may_sleep() {
            self.handle.take(&mut self.posts);
        }
    }

    /// Deals with each channel that was touched, until none is left.
    pub(crate) fn settle(&mut self) {
        loop {
            self.drain_if_requested();
            let Some((token, end)) = self.touched.pop_front() else { break };
            match end {
                Some(cause) => self.finish(token, cause),
                None => self.settle_one(token),
            }
        }
    }

    /// Closes the channel if it has ended; else sees to it that the poller
    /// and the timers know what it waits for.
    fn settle_one(&mut self, token: Token) {
        let Some(slot) = self.channels.get_mut(token) else { return };
        slot.touched = false;
        if slot.fresh {
            slot.fresh = false;
            self.call(token, Dispatcher::handle_add);
            if self.is_draining() {
                self.call(token, Dispatcher::handle_drain);
            }
            return;
        }
        let Some(mut dispatcher) = self.channels.take(token) else { return };
        let wishes = catch_unwind(AssertUnwindSafe(|| Wishes::of(&mut *dispatcher, self.now)));
        let end = match wishes {
            Ok(Wishes { closed: Some(cause), .. }) => Some(cause),
            Ok(wishes) => {
                self.arm(token, wishes.deadline);
                self.register(token, &*dispatcher, wishes.interest).err().map(Cause::Error)
            }
            Err(payload) => Some(panicked(&*payload)),
        };
        self.channels.put_back(token, dispatcher);
        if let Some(cause) = end {
            self.doom(token, cause);
        }
    }

    /// Tells the poller what the channel waits for, if that has changed.
    pub(crate) fn register(
        &mut self,
        token: Token,
        dispatcher: &dyn Dispatcher,
        wanted: Interest,
    ) -> io::Result<()> {
        let Some(slot) = self.channels.get_mut(token) else { return Ok(()) };
        match slot.registered {
            Some(registered) if registered == wanted => return Ok(()),
            Some(_) => self.poller.modify(dispatcher.source(), token, wanted)?,
            None if wanted.is_empty() => return Ok(()),
            None => self.poller.add(dispatcher.source(), token, wanted)?,
        }
        slot.registered = Some(wanted);
        Ok(())
    }

    /// Sees to it that a timer is set for `deadline`, or for an earlier one:
    /// when that falls due the channel is asked again. So a deadline that
    /// moves off with each message costs nothing.
    fn arm(&mut self, token: Token, deadline: Option<Instant>) {
        let Some(slot) = self.channels.get_mut(token) else { return };
        match (slot.armed, deadline) {
            (None, None) => {}
            (Some(armed), Some(deadline)) if armed.at() <= deadline => {}
            (armed, deadline) => {
                if let Some(armed) = armed {
                    self.timers.cancel(armed);
                }
                slot.armed = deadline.map(|at| self.timers.set(at, Due::Deadline(token)));
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
        let outcome = catch_unwind(AssertUnwindSafe(|| callback(&mut *dispatcher, self)));
        let end = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) if is_disconnect(&error) => Some(Cause::Error(error)),
            Ok(Err(error)) => Some(self.report(&mut *dispatcher, Cause::Error(error))),
            Err(payload) => Some(self.report(&mut *dispatcher, panicked(&*payload))),
        };
        self.current = caller;
        self.channels.put_back(token, dispatcher);
        match end {
            Some(cause) => self.doom(token, cause),
            None => self.touch(token),
        }
    }

    fn report(&mut self, dispatcher: &mut dyn Dispatcher, cause: Cause) -> Cause {
        isolated("handle_error", || dispatcher.handle_error(self, &cause));
        cause
    }

    /// Runs what belongs to no channel: a post, or a `call_later`.
    fn call_job(&mut self, job: impl FnOnce(&mut Context)) {
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
            self.timers.cancel(armed);
        }
        self.timers.cancel_channel(token);
        let mut dispatcher = removed.dispatcher;
        let mut reason = CloseReason { cause, unsent: 0 };
        let caller = mem::replace(&mut self.current, token);
        isolated("closing", || {
            if removed.registered {
                self.forget(dispatcher.source());
            }
            reason.unsent = dispatcher.unsent();
        });
        isolated("handle_close", || dispatcher.handle_close(self, &reason));
        isolated("drop", || drop(dispatcher));
        self.current = caller;
    }
}

/// What a dispatcher answers when it settles.
struct Wishes {
    closed: Option<Cause>,
    interest: Interest,
    deadline: Option<Instant>,
}

impl Wishes {
    fn of(dispatcher: &mut dyn Dispatcher, now: Instant) -> Self {
        Wishes {
            closed: dispatcher.closed(),
            interest: Interest { readable: dispatcher.readable(), writable: dispatcher.writable() },
            deadline: dispatcher.deadline(now),
        }
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
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

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
        let mut reactor = Reactor::on(Poller::oneshot().unwrap());
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
        let mut stream = Stream::new(ours, Echo).unwrap().limits(limits);
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

    #[test]
    fn a_connection_in_oneshot_mode_comes_about() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reactor = Reactor::on(Poller::oneshot().unwrap());
        let mut stream = Stream::connect(server.local_addr().unwrap(), Echo).unwrap();
        stream.send(b"hello").unwrap();
        stream.close();
        reactor.add(stream).unwrap();
        reactor.run().unwrap();
        assert_eq!(io::read_to_string(server.accept().unwrap().0).unwrap(), "hello");
    }
}
