//! The readiness queue, on `polling`. On Unix, this folder alone contains `unsafe`.
//!
//! Sources are registered level-triggered, so that one registration serves all
//! events until the interest changes. Some systems lack that mode (illumos event
//! ports): an event disarms its source there, and the reactor registers it again
//! (see [`Poller::is_oneshot`]).
#![allow(unsafe_code, reason = "`polling::Poller::add_with_mode` is an unsafe function")]

#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
mod busy_poll;
#[cfg_attr(not(all(unix, feature = "sim")), path = "system_only.rs")]
pub(crate) mod either;
#[cfg_attr(any(not(target_os = "linux"), polling_test_poll_backend), path = "fallback.rs")]
mod epoll;
mod event;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polling::PollMode;

use crate::poll::epoll::{EpollFastPath, WaitOutcome, Waker};
use crate::sys::clock;
use crate::sys::process::Owner;
use crate::sys::source::{Source, is_always_ready};
use crate::token::Token;

pub(crate) use crate::poll::event::{Event, Interest, Ready};

/// The longest wait: systems have different limits, most of them beyond 24 days.
/// A later deadline costs one more turn a day.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The events of one wait: those of the fast path, or else those of `polling`.
pub(crate) struct Events {
    fast_path: Option<EpollFastPath>,
    portable: polling::Events,
}

impl Events {
    #[inline(always)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        EpollFastPath::events(self.fast_path.as_ref()).chain(self.portable.iter().map(|event| {
            Event {
                key: event.key,
                ready: Ready::new(event.readable, event.writable).with_urgent(event.is_priority()),
            }
        }))
    }

    /// Sets how long to poll without blocking before a wait that blocks. It has no
    /// effect on systems without epoll.
    pub(crate) fn set_busy_poll(&mut self, limit: Duration) {
        if let Some(fast_path) = &mut self.fast_path {
            fast_path.set_busy_poll(limit);
        }
    }
}

/// A set of sources with the interest in each.
pub(crate) struct Poller {
    inner: Arc<polling::Poller>,
    mode: PollMode,
    waker: Waker,
    /// A child of fork(2) shares the sources: it must not change them.
    owner: Owner,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let inner = Arc::new(polling::Poller::new()?);
        let mode = if inner.supports_level() { PollMode::Level } else { PollMode::Oneshot };
        let waker = Waker::new(&inner)?;
        Ok(Poller { inner, mode, waker, owner: Owner::this_process() })
    }

    /// Creates a list for the events of this poller.
    pub(crate) fn new_events(&self) -> io::Result<Events> {
        Ok(Events { fast_path: EpollFastPath::new(&self.inner)?, portable: polling::Events::new() })
    }

    /// Creates a poller in the mode of systems without level triggering.
    #[cfg(test)]
    pub(crate) fn oneshot() -> io::Result<Self> {
        let mut poller = Poller::new()?;
        poller.mode = PollMode::Oneshot;
        Ok(poller)
    }

    /// Returns `true` if an event disarms its source.
    pub(crate) fn is_oneshot(&self) -> bool {
        self.mode == PollMode::Oneshot
    }

    /// Registers `source`. Returns `false` if the system does not watch it because
    /// it never blocks.
    pub(crate) fn add(
        &self,
        source: Source<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<bool> {
        self.owner.check()?;
        let Some(source) = source.inner() else { return Ok(true) };
        // SAFETY: `add_with_mode` requires an open source, which the borrow proves,
        // and `delete` before it is closed. The reactor owns the dispatcher that owns
        // the source, and calls `delete` before it gives up either: `finish_close` on
        // every way out of the loop, `Context::deregister` before a dispatcher
        // exchanges its source. A `Dispatcher` that closes its source without that
        // violates its contract, but no memory: epoll and kqueue forget a closed
        // descriptor, poll(2) reports it as invalid, and Windows that it was closed.
        let added =
            unsafe { self.inner.add_with_mode(&source, to_event(token, interest), self.mode) };
        match added {
            Ok(()) => Ok(true),
            Err(error) if is_always_ready(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Replaces the interest in a registered source.
    pub(crate) fn modify(
        &self,
        source: Source<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.owner.check()?;
        let Some(source) = source.inner() else { return Ok(()) };
        self.inner.modify_with_mode(source, to_event(token, interest), self.mode)
    }

    /// Removes a registered source.
    pub(crate) fn delete(&self, source: Source<'_>) -> io::Result<()> {
        self.owner.check()?;
        let Some(source) = source.inner() else { return Ok(()) };
        self.inner.delete(source)
    }

    /// Returns the process that created it.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Waits until a source is ready, until `deadline`, or until a [`Waker`] wakes
    /// it, and replaces the content of `events`.
    pub(crate) fn wait(&self, events: &mut Events, deadline: Option<Instant>) -> io::Result<()> {
        // `polling` appends, and a full list is an error.
        events.portable.clear();
        let mut deadline = deadline;
        if let Some(at) = &mut deadline {
            *at = (*at).min(clock::now() + MAX_WAIT);
        }
        if let Some(fast_path) = &mut events.fast_path {
            match fast_path.wait(&self.inner, deadline)? {
                WaitOutcome::Done => return Ok(()),
                WaitOutcome::Delegate(until) => deadline = until,
            }
        }
        let waited = match deadline {
            Some(deadline) => self.inner.wait_deadline(&mut events.portable, deadline),
            None => self.inner.wait(&mut events.portable, None),
        };
        match waited {
            Ok(_) => {}
            // On poll(2), `polling` 3.11 can read the byte of a notification before the
            // other thread has written it. That is a wake-up, but it ignores later ones
            // until a wait succeeds.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.inner.wait(&mut events.portable, Some(Duration::ZERO))?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns a source that is readable if a watched source is ready or a post is pending;
    /// none on Windows, and on systems that only have poll(2).
    pub(crate) fn source(&self) -> Source<'_> {
        #[cfg(all(unix, not(polling_test_poll_backend)))]
        return Source::from(&*self.inner);
        #[cfg(any(windows, polling_test_poll_backend))]
        return Source::NONE;
    }

    /// Returns a handle that ends [`wait`](Self::wait) from any thread.
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        if self.owner.is_this_process() {
            self.waker.deregister(&self.inner);
        } else {
            // `polling` would remove its own sources, and the parent would lose them.
            std::mem::forget(Arc::clone(&self.inner));
        }
    }
}

fn to_event(token: Token, interest: Interest) -> polling::Event {
    polling::Event::new(token.key(), interest.readable(), interest.writable())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// One wake-up for each wait, at any moment of it.
    #[test]
    fn invariant_11_wake_up_at_any_moment_ends_the_wait() {
        let poller = Poller::new().unwrap();
        let mut events = poller.new_events().unwrap();
        let waker = poller.waker();
        let (waiting_tx, waiting_rx) = mpsc::channel();
        let waking = thread::spawn(move || waiting_rx.iter().for_each(|()| waker.wake().unwrap()));
        for _ in 0..20_000 {
            waiting_tx.send(()).unwrap();
            poller.wait(&mut events, None).unwrap();
        }
        drop(waiting_tx);
        waking.join().unwrap();
    }
}
