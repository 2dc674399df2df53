//! [`Stats`]: counters, and the detection of callbacks that spin or take too long.

use std::time::{Duration, Instant};

use crate::reactor::Context;
use crate::token::Token;

/// What a reactor has done since it was created: [`Reactor::stats`](crate::Reactor::stats).
///
/// # Examples
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
    /// Turns of the loop; each is one wait.
    pub turns: u64,
    /// Events reported by the kernel.
    pub events: u64,
    /// Calls of a dispatcher: for events, timers, deadlines, when it is added, and for
    /// a drain.
    pub callbacks: u64,
    /// Jobs that ran: posts from other threads, and [`Context::call_later`].
    pub jobs: u64,
    /// Bytes received by streams and datagram sockets.
    pub received: u64,
    /// Bytes of streams that the kernel accepted.
    pub sent: u64,
    /// Connections accepted, including those rejected afterwards.
    pub accepted: u64,
    /// Connections closed at once because of
    /// [`Listener::with_max_connections`](crate::Listener::with_max_connections).
    pub rejected_over_limit: u64,
    /// Connections closed at once because their handler failed or panicked.
    pub rejected_by_handler: u64,
    /// Connections that failed before they were accepted.
    pub accept_errors: u64,
    /// How often accepting paused because accept(2) failed, for example because no file
    /// descriptors or memory were available.
    pub accept_pauses: u64,
    /// ICMP messages about datagrams that were sent before, because no program received
    /// them or the network dropped them.
    pub icmp_errors: u64,
    /// Callbacks that exceeded
    /// [`ReactorBuilder::slow_callback_threshold`](crate::ReactorBuilder::slow_callback_threshold).
    pub slow_callbacks: u64,
    /// The duration of the longest callback; measured only with
    /// [`ReactorBuilder::slow_callback_threshold`](crate::ReactorBuilder::slow_callback_threshold).
    pub max_callback_time: Option<Duration>,
    /// How often a channel was found to spin; counted only with
    /// [`ReactorBuilder::spin_limit`](crate::ReactorBuilder::spin_limit).
    pub spins: u64,
}

/// What to detect. The default is nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct CallbackMonitor {
    pub(super) slow_callback_threshold: Option<Duration>,
    pub(super) spin_limit: Option<u16>,
}

impl CallbackMonitor {
    pub(super) fn is_off(&self) -> bool {
        self.slow_callback_threshold.is_none() && self.spin_limit.is_none()
    }
}

impl Context {
    pub(crate) fn count_received(&mut self, bytes: usize) {
        self.stats.received += bytes as u64;
        self.record_progress();
    }

    pub(crate) fn count_sent(&mut self, bytes: usize) {
        self.stats.sent += bytes as u64;
        self.record_progress();
    }

    pub(crate) fn count_accepted(&mut self) {
        self.stats.accepted += 1;
        self.record_progress();
    }

    pub(crate) fn count_rejected_over_limit(&mut self) {
        self.stats.rejected_over_limit += 1;
    }

    pub(crate) fn count_rejected_by_handler(&mut self) {
        self.stats.rejected_by_handler += 1;
    }

    pub(crate) fn count_accept_error(&mut self) {
        self.stats.accept_errors += 1;
    }

    pub(crate) fn count_icmp_errors(&mut self, count: u64) {
        self.stats.icmp_errors += count;
    }

    pub(crate) fn count_accept_pause(&mut self) {
        self.stats.accept_pauses += 1;
    }

    /// Records that the channel being called did something. From its first call on,
    /// the channel's events without progress are counted; channels that never call
    /// this are not checked for spinning.
    pub(crate) fn record_progress(&mut self) {
        if self.monitor.spin_limit.is_some() {
            self.reset_idle_events();
        }
    }

    #[cold]
    fn reset_idle_events(&mut self) {
        if let Some(slot) = self.slots.get_mut(self.current_token) {
            slot.record_progress();
        }
    }

    /// Counts an event that is about to be passed to `token`.
    pub(super) fn count_event(&mut self, token: Token) {
        self.stats.events += 1;
        if let Some(limit) = self.monitor.spin_limit {
            self.check_spinning(token, limit);
        }
    }

    #[cold]
    fn check_spinning(&mut self, token: Token, limit: u16) {
        let Some(slot) = self.slots.get_mut(token) else { return };
        if slot.count_idle_event(limit) {
            let kind = slot.type_name();
            self.stats.spins += 1;
            log::warn!("channel {token:?} ({kind}) spins: {limit} events without progress");
        }
    }

    pub(super) fn count_callback(&mut self) {
        self.stats.callbacks += 1;
    }

    /// Counts a callback that starts now. Returns the time if it is measured.
    pub(super) fn start_callback(&mut self) -> Option<Instant> {
        self.count_callback();
        self.monitor.slow_callback_threshold.map(|_| self.clock())
    }

    /// Measures the callback that started at `started_at`.
    #[cold]
    pub(super) fn finish_callback(&mut self, started_at: Instant, token: Token, kind: &str) {
        let Some(limit) = self.monitor.slow_callback_threshold else { return };
        let took = self.clock().saturating_duration_since(started_at);
        self.stats.max_callback_time = self.stats.max_callback_time.max(Some(took));
        if took > limit {
            self.stats.slow_callbacks += 1;
            log::warn!("channel {token:?} ({kind}): callback took {took:?}, limit {limit:?}");
        }
    }
}
