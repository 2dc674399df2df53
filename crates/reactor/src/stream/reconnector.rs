//! [`Reconnector`]: a client that stays connected.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::backoff::{Pauses, shorten};
use crate::reactor::{Cause, CloseReason, Context, Dispatcher};
use crate::stream::Stream;
use crate::stream::connection::Connection;
use crate::stream::protocol::Protocol;
use crate::sys::random::random_fraction;
use crate::sys::source::Source;
use crate::token::Token;

/// A client that stays connected: a channel that adds a stream, and when that has ended,
/// pauses and adds the next one.
///
/// # Attempts
///
/// Each stream is a new one, with a new protocol: its
/// [`handle_connect`](Protocol::handle_connect) and
/// [`handle_close`](Protocol::handle_close) are called as for any stream. If the closure
/// that creates it connects by name, the name is resolved anew, and all addresses are
/// tried. The first attempt is made when the channel is added. If it fails, this is
/// reported like any other failure, by `handle_close` and the
/// [handler](Self::with_handler).
///
/// Another attempt follows, whatever ended the stream: the peer, an error, a timeout, an
/// `Err` or a panic of a callback. It does not follow if this end closed the stream before
/// the peer did; [`shutdown`](crate::Connection::shutdown) alone does not close it.
///
/// The first pause is about a second; each further one is twice as long, up to a minute
/// ([`with_pauses`](Self::with_pauses)). Once a connection has been open for
/// [ten seconds](Self::with_stable_after) since `handle_connect`, the next pause is a short
/// one again. So a server that accepts connections and closes them at once, or fails each
/// handshake of a [filter](crate::Filter), is not flooded with them.
///
/// # Output
///
/// There is no stream during a pause, so nothing can be sent: [`stream`](Self::stream)
/// returns `None`. While a stream is connecting, it accepts output. What could not be
/// written is counted in its [`CloseReason`]. Nothing is sent again by itself.
///
/// # The end
///
/// [`Context::close`] with the token of this channel ends it at any time, also during a
/// pause or while a name is resolved. In a [`drain`](Context::drain) it ends as soon as
/// there is no stream. In both cases an attempt for which no output waits is given up; other
/// streams stay open until they are closed, as usual.
///
/// The channel keeps the reactor running until it ends.
/// [`Reactor::run_until_closed`](crate::Reactor::run_until_closed) returns the reason:
/// [`Cause::Local`], or an error if a limit was reached.
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use reactor::{Connector, Io, Protocol, Reactor, Reconnector};
///
/// struct Subscriber;
///
/// impl Protocol for Subscriber {
///     fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
///         io.send(b"subscribe\n")
///     }
///
///     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
///         println!("{}", String::from_utf8_lossy(data));
/// #       io.close();
///         Ok(())
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = listener.local_addr()?.port();
/// # let peer = std::thread::spawn(move || {
/// #     drop(listener.accept());
/// #     io::Write::write_all(&mut listener.accept().unwrap().0, b"news").unwrap();
/// # });
/// let server = Connector::to_host("localhost", port);
/// let client = Reconnector::new(move || Ok(server.connect(Subscriber)))
/// #   .with_pauses(Duration::from_millis(1), Duration::from_millis(1))
///     .with_handler(|_cx, reason, pause| match pause {
///         Some(pause) => println!("{reason}; connecting again in {pause:.1?}"),
///         None => println!("{reason}"),
///     });
/// let mut reactor = Reactor::new()?;
/// reactor.add(client)?;
/// reactor.run()
/// # ?; peer.join().unwrap(); Ok(())
/// # }
/// ```
#[must_use]
pub struct Reconnector {
    /// Adds the next stream.
    connect: Box<Connect>,
    handler: Box<Handler>,
    pauses: Pauses,
    max_failures: Option<u32>,
    max_downtime: Option<Duration>,
    stable_after: Duration,
    state: State,
    /// How many attempts in a row have failed.
    failures: u32,
    /// When the last stable connection was lost, or the first attempt was made.
    down_since: Option<Instant>,
}

type Connect = dyn FnMut(&mut Context) -> io::Result<Token>;

type Handler = dyn FnMut(&mut Context, &CloseReason, Option<Duration>);

/// State machine for a client that stays connected.
///
/// | from | event | to |
/// | --- | --- | --- |
/// | `Waiting` | the channel was added, or the pause has ended: a stream is added | `Connecting` |
/// | `Connecting` | the connection is established | `Connected` |
/// | `Waiting`, `Connecting`, `Connected` | no stream could be added, or it has ended | `Waiting` |
/// | any | this end closed the stream, a limit is reached, a drain, the channel closes | `Ended` |
///
/// Other events have no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `None`: not yet added, or for longer than the clock's range.
    Waiting {
        until: Option<Instant>,
    },
    Connecting {
        stream: Token,
    },
    Connected {
        stream: Token,
        since: Instant,
    },
    Ended,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Added { stream: Token },
    Connected { at: Instant },
    Lost { wait_until: Option<Instant> },
    End,
}

impl State {
    fn after(self, event: Event) -> Self {
        match (self, event) {
            (State::Waiting { .. }, Event::Added { stream }) => State::Connecting { stream },
            (State::Connecting { stream }, Event::Connected { at }) => {
                State::Connected { stream, since: at }
            }
            (
                State::Waiting { .. } | State::Connecting { .. } | State::Connected { .. },
                Event::Lost { wait_until },
            ) => State::Waiting { until: wait_until },
            (_, Event::End) => State::Ended,
            (state, _) => state,
        }
    }
}

impl Reconnector {
    /// Creates a client whose streams `connect` creates, for example by
    /// [`Connector::connect`](crate::Connector::connect). An `Err` from it counts as a
    /// failed attempt.
    pub fn new<P: Protocol>(mut connect: impl FnMut() -> io::Result<Stream<P>> + 'static) -> Self {
        let connect = move |cx: &mut Context| {
            let mut stream = connect()?;
            stream.set_reconnector(cx.token());
            cx.add(stream)
        };
        Reconnector {
            connect: Box::new(connect),
            handler: Box::new(|_, _, _| {}),
            pauses: Pauses::new(Duration::from_secs(1), Duration::from_secs(60)),
            max_failures: None,
            max_downtime: None,
            stable_after: Duration::from_secs(10),
            state: State::Waiting { until: None },
            failures: 0,
            down_since: None,
        }
    }

    /// Sets the first and the longest pause. Each pause is shortened by a random part of up
    /// to half of it, so that the clients of a server that restarts do not all return at
    /// once. Default: one second and one minute.
    pub fn with_pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.pauses = Pauses::new(first, longest);
        self
    }

    /// Sets how long a connection must have been open to be a success, after which the next
    /// pause is the first one again, and failures are counted from zero. An attempt has
    /// failed if its connection was not established, or lost before that time. Default: ten
    /// seconds.
    pub fn with_stable_after(mut self, time: Duration) -> Self {
        self.stable_after = time;
        self
    }

    /// Gives up when this many attempts in a row have failed. Default: never.
    pub fn with_max_failures(mut self, max: u32) -> Self {
        self.max_failures = Some(max);
        self
    }

    /// Gives up when the next attempt would be made more than `max` after the first one, or
    /// after the end of the last connection that was a
    /// [success](Self::with_stable_after). Default: never.
    pub fn with_max_downtime(mut self, max: Duration) -> Self {
        self.max_downtime = Some(max);
        self
    }

    /// Calls `handler` each time a stream has ended or could not be created, with the reason
    /// and the pause before the next attempt, or `None` if this channel ends instead. That
    /// is before the [`handle_close`](Protocol::handle_close) of the stream. It is not
    /// called once this channel is closed.
    pub fn with_handler(
        mut self,
        handler: impl FnMut(&mut Context, &CloseReason, Option<Duration>) + 'static,
    ) -> Self {
        self.handler = Box::new(handler);
        self
    }

    /// Returns the token of the stream, for [`Context::with_stream`] and its like. The
    /// stream may still be connecting. Returns `None` if there is none, that is, during a
    /// pause.
    #[must_use]
    pub fn stream(&self) -> Option<Token> {
        match self.state {
            State::Connecting { stream } | State::Connected { stream, .. } => Some(stream),
            State::Waiting { .. } | State::Ended => None,
        }
    }

    fn attempt(&mut self, cx: &mut Context) {
        if cx.is_draining() {
            return self.end(cx, Cause::Local);
        }
        match (self.connect)(cx) {
            Ok(stream) => self.state = self.state.after(Event::Added { stream }),
            Err(error) => self.on_lost(cx, &CloseReason::new(Cause::Error(error), 0), false),
        }
    }

    /// The stream has ended; `is_closed` if this end closed it.
    fn on_lost(&mut self, cx: &mut Context, reason: &CloseReason, is_closed: bool) {
        let now = cx.clock();
        match self.state {
            State::Connected { since, .. } if now.duration_since(since) >= self.stable_after => {
                self.failures = 0;
                self.down_since = Some(now);
                self.pauses.reset();
            }
            _ => self.failures = self.failures.saturating_add(1),
        }
        if is_closed || cx.is_draining() {
            self.end(cx, Cause::Local);
            return (self.handler)(cx, reason, None);
        }
        let pause = shorten(self.pauses.advance(), random_fraction());
        let wait_until = now.checked_add(pause);
        if self.has_reached_limit(wait_until) {
            let error = self.limit_error(reason);
            log::warn!("reconnector {:?}: {error}", cx.token());
            self.end(cx, Cause::Error(error));
            return (self.handler)(cx, reason, None);
        }
        self.state = self.state.after(Event::Lost { wait_until });
        log::info!("reconnector {:?}: {reason}; next attempt in {pause:.1?}", cx.token());
        (self.handler)(cx, reason, Some(pause));
    }

    fn has_reached_limit(&self, next_at: Option<Instant>) -> bool {
        let is_too_late = |max| {
            let latest = self.down_since.and_then(|since| since.checked_add(max));
            latest.is_some_and(|latest| next_at.is_none_or(|at| at > latest))
        };
        self.max_failures.is_some_and(|max| self.failures >= max)
            || self.max_downtime.is_some_and(is_too_late)
    }

    fn limit_error(&self, last: &CloseReason) -> io::Error {
        let kind = match &last.cause {
            Cause::Error(error) => error.kind(),
            Cause::TimedOut(_) => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::NotConnected,
        };
        let attempts = match self.failures {
            1 => "1 failed attempt".to_owned(),
            n => format!("{n} failed attempts"),
        };
        io::Error::new(kind, format!("gave up after {attempts}: {last}"))
    }

    fn end(&mut self, cx: &mut Context, cause: Cause) {
        self.state = self.state.after(Event::End);
        cx.close_with(cause);
    }

    /// Closes the stream if it is connecting and has no output.
    fn give_up_attempt(&self, cx: &mut Context) {
        let State::Connecting { stream } = self.state else { return };
        let channels = cx.channels();
        let info = channels.iter().find(|info| info.token == stream);
        if info.is_some_and(|info| info.unsent == 0) {
            cx.close(stream);
        }
    }
}

impl Dispatcher for Reconnector {
    fn source(&self) -> Source<'_> {
        Source::NONE
    }

    fn readable(&self) -> bool {
        false
    }

    fn update_deadline(&mut self, _cx: &Context) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => until,
            State::Connecting { .. } | State::Connected { .. } | State::Ended => None,
        }
    }

    fn handle_add(&mut self, cx: &mut Context) -> io::Result<()> {
        self.down_since = Some(cx.clock());
        self.attempt(cx);
        Ok(())
    }

    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        self.attempt(cx);
        Ok(())
    }

    fn handle_drain(&mut self, cx: &mut Context) -> io::Result<()> {
        match self.state {
            State::Waiting { .. } => self.end(cx, Cause::Local),
            State::Connecting { .. } => self.give_up_attempt(cx),
            State::Connected { .. } | State::Ended => {}
        }
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context, _reason: &CloseReason) {
        self.give_up_attempt(cx);
        self.state = self.state.after(Event::End);
    }
}

impl Connection {
    fn set_reconnector(&mut self, reconnector: Token) {
        Rc::make_mut(&mut self.config).reconnector = Some(reconnector);
    }

    /// Notifies the reconnector, if the stream has one, before `handle_connect`. Further
    /// calls have no effect.
    pub(super) fn report_connected(&self, cx: &mut Context) {
        if let Some(reconnector) = self.config.reconnector {
            cx.call_channel(reconnector, |reconnector: &mut Reconnector, cx| {
                let at = cx.clock();
                reconnector.state = reconnector.state.after(Event::Connected { at });
                Ok(())
            });
        }
    }

    /// Notifies the reconnector, if the stream has one, before `handle_close`.
    pub(super) fn report_end(&self, cx: &mut Context, reason: &CloseReason) {
        let Some(reconnector) = self.config.reconnector else { return };
        let is_closed = matches!(reason.cause, Cause::Local | Cause::Shutdown) || self.was_closed();
        cx.call_channel(reconnector, |reconnector: &mut Reconnector, cx| {
            reconnector.on_lost(cx, reason, is_closed);
            Ok(())
        });
    }
}

impl fmt::Debug for Reconnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnector")
            .field("state", &self.state)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_follows_its_table() {
        let now = Instant::now();
        let (stream, other) = (Token::new(1, 0), Token::new(2, 0));
        let later = now.checked_add(Duration::from_secs(1));
        let waiting = State::Waiting { until: None };
        let connecting = State::Connecting { stream };
        let connected = State::Connected { stream, since: now };
        let paused = State::Waiting { until: later };
        let added = State::Connecting { stream: other };

        let events = [
            Event::Added { stream: other },
            Event::Connected { at: now },
            Event::Lost { wait_until: later },
            Event::End,
        ];
        let table = [
            (waiting, [added, waiting, paused, State::Ended]),
            (connecting, [connecting, connected, paused, State::Ended]),
            (connected, [connected, connected, paused, State::Ended]),
            (State::Ended, [State::Ended; 4]),
        ];
        for (from, row) in table {
            assert_eq!(events.map(|event| from.after(event)), row, "from {from:?}");
        }
    }
}
