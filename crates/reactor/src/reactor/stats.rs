//! [`Stats`]: what a reactor has done; and the watch over callbacks that spin
//! or take too long.

use std::time::{Duration, Instant};

use crate::reactor::context::Context;
use crate::reactor::dispatcher::Dispatcher;
use crate::reactor::slots::Token;

/// What a reactor has done since it was made: [`Reactor::stats`](crate::Reactor::stats).
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = reactor::Reactor::new()?;
/// reactor.turn(Some(Duration::ZERO))?;
/// assert_eq!(reactor.stats().turns, 1);
/// assert_eq!(reactor.stats().events, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop: each is one wait.
    pub turns: u64,
    /// Events that the kernel reported.
    pub events: u64,
    /// Calls of a dispatcher: events, timers and deadlines, the first call and
    /// those of a drain.
    pub callbacks: u64,
    /// Posts from other threads, and [`Context::call_later`]s, that ran.
    pub jobs: u64,
    /// Bytes that streams and datagram sockets received.
    pub received: u64,
    /// Bytes that the kernel took from streams. What was sent through a token
    /// counts at the stream's next callback.
    pub sent: u64,
    /// Connections accepted, those that were refused then included.
    pub accepted: u64,
    /// Connections closed at once over [`Listener::with_max_connections`](crate::Listener::with_max_connections).
    pub rejected_over_limit: u64,
    /// Connections closed at once as their handler failed or panicked.
    pub rejected_by_handler: u64,
    /// Connections that failed before they were accepted.
    pub accept_errors: u64,
    /// How often accepting had to pause for a lack of descriptors or memory.
    pub accept_pauses: u64,
    /// Callbacks that took longer than [`Builder::slow_callback`](crate::ReactorBuilder::slow_callback).
    pub slow_callbacks: u64,
    /// The longest callback; measured only with
    /// [`Builder::slow_callback`](crate::ReactorBuilder::slow_callback).
    pub max_callback_time: Option<Duration>,
    /// How often a channel was found to spin; with
    /// [`Builder::spin_limit`](crate::ReactorBuilder::spin_limit) only.
    pub spins: u64,
}

/// What to watch for. Nothing, unless it was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    pub(crate) slow_callback: Option<Duration>,
    pub(crate) spin_limit: Option<u16>,
}

impl Context {
    /// Says that the channel being called got something done. Only of use
    /// with [`Builder::spin_limit`](crate::ReactorBuilder::spin_limit), and to a
    /// [`Dispatcher`] of one's own: the library's own say it by themselves.
    pub fn progress(&mut self) {
        if self.watch.spin_limit.is_some()
            && let Some(slot) = self.channels.get_mut(self.current)
        {
            slot.fruitless = 0;
        }
    }

    /// An event is about to be delivered to `token`.
    pub(crate) fn watch_event(&mut self, token: Token) {
        self.stats.events += 1;
        let Some(limit) = self.watch.spin_limit else { return };
        let Some(slot) = self.channels.get_mut(token) else { return };
        slot.fruitless += 1;
        if slot.fruitless >= limit {
            slot.fruitless = 0;
            self.stats.spins += 1;
            let kind = slot.dispatcher.as_deref().map_or("", Dispatcher::type_name);
            log::warn!("channel {token:?} ({kind}) spins: {limit} events in a row did nothing");
        }
    }

    /// When the callback begins that is about to be made, if anybody wants to
    /// know.
    pub(crate) fn watch_begin(&mut self) -> Option<Instant> {
        self.stats.callbacks += 1;
        self.watch.slow_callback.map(|_| Instant::now())
    }

    /// The callback of `token` that began then has returned.
    pub(crate) fn watch_end(
        &mut self,
        began: Option<Instant>,
        token: Token,
        dispatcher: &dyn Dispatcher,
    ) {
        let (Some(began), Some(most)) = (began, self.watch.slow_callback) else { return };
        let took = began.elapsed();
        self.stats.max_callback_time = self.stats.max_callback_time.max(Some(took));
        if took > most {
            self.stats.slow_callbacks += 1;
            let kind = dispatcher.type_name();
            log::warn!("channel {token:?} ({kind}): a callback took {took:?}, others waited");
        }
    }
}
