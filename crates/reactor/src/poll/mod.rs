//! The readiness queue: the file that knows `polling` (`epoll.rs` knows how to
//! do without it for a moment), and the only one with `unsafe` in it.
//!
//! Sources are registered level-triggered, so that one registration serves
//! every event until the interest changes. Where the system has no such mode
//! (illumos event ports) each event disarms its source, and the reactor
//! registers it anew: see [`Poller::disarms`].
#![allow(unsafe_code, reason = "`polling::Poller::add_with_mode` is an unsafe function")]

#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
mod busy_poll;
#[cfg_attr(any(not(target_os = "linux"), polling_test_poll_backend), path = "fallback.rs")]
mod epoll;

use std::fmt;
use std::io;
#[cfg(not(polling_test_poll_backend))]
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use polling::PollMode;
use rustix::io::Errno;

use crate::poll::epoll::{Direct, Waited};
use crate::reactor::slots::Token;

/// What a channel wants to be told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Interest {
    pub(crate) fn is_empty(self) -> bool {
        !self.readable && !self.writable
    }

    fn event(self, token: Token) -> polling::Event {
        polling::Event::new(token.key(), self.readable, self.writable)
    }
}

/// What the kernel said about one source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// [`Token::key`] of the channel that was registered.
    pub(crate) key: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Urgent data waits, where the system reports it.
    pub(crate) urgent: bool,
}

/// The events of one wait.
pub(crate) struct Events {
    polled: polling::Events,
    direct: Option<Direct>,
}

impl Events {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        let polled = self.polled.iter().map(|event| Event {
            key: event.key,
            readable: event.readable,
            writable: event.writable,
            urgent: event.is_priority(),
        });
        // One of the two is empty.
        polled.chain(self.direct.iter().flat_map(Direct::iter))
    }

    /// Polls for so long without blocking before a wait that blocks. Of no
    /// effect where the system has no epoll.
    pub(crate) fn set_busy_poll(&mut self, limit: Duration) {
        if let Some(direct) = &mut self.direct {
            direct.set_busy_poll(limit);
        }
    }
}

/// A set of sources with the interest in each.
pub(crate) struct Poller {
    inner: Arc<polling::Poller>,
    mode: PollMode,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let inner = Arc::new(polling::Poller::new()?);
        let mode = if inner.supports_level() { PollMode::Level } else { PollMode::Oneshot };
        Ok(Poller { inner, mode })
    }

    /// Room for the events of this poller.
    pub(crate) fn events(&self) -> io::Result<Events> {
        Ok(Events { polled: polling::Events::new(), direct: Direct::new(&self.inner)? })
    }

    /// A poller in the mode of systems without level triggering, for tests.
    #[cfg(test)]
    pub(crate) fn oneshot() -> io::Result<Self> {
        Ok(Poller { mode: PollMode::Oneshot, ..Poller::new()? })
    }

    /// Whether an event ends its source's registration, so that the interest
    /// must be stated again.
    pub(crate) fn disarms(&self) -> bool {
        self.mode == PollMode::Oneshot
    }

    /// Watches `source`; `false` where the system refuses to as it never
    /// blocks (`EPERM` from `epoll_ctl`).
    pub(crate) fn add(
        &self,
        source: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<bool> {
        // SAFETY: `add_with_mode` asks that the source is open now, which the
        // borrow proves, and that it is deleted before it is closed. The
        // reactor owns the dispatcher that owns the source, and gives up
        // neither without `delete`: `Context::finish` on every way out of the
        // loop, `Context::deregister` before a dispatcher exchanges its source.
        // A `Dispatcher` that closes its source behind the reactor's back, or
        // is replaced as a whole through `get_mut`, breaks its contract; what
        // follows is no memory error: epoll and kqueue forget a closed
        // descriptor, poll(2) reports it as invalid.
        let added = unsafe {
            self.inner.add_with_mode(source.as_raw_fd(), interest.event(token), self.mode)
        };
        match added {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn modify(
        &self,
        source: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.inner.modify_with_mode(source, interest.event(token), self.mode)
    }

    pub(crate) fn delete(&self, source: BorrowedFd<'_>) -> io::Result<()> {
        self.inner.delete(source)
    }

    /// Replaces `events` by those that are ready; blocks until there is one,
    /// until `deadline`, or until a [`Waker`] wakes it.
    pub(crate) fn wait(&self, events: &mut Events, deadline: Option<Instant>) -> io::Result<()> {
        // `polling` appends, and a list that is full is an error.
        events.polled.clear();
        let deadline = match &mut events.direct {
            None => deadline,
            Some(direct) => match direct.wait(&self.inner, deadline)? {
                Waited::Events => return Ok(()),
                Waited::Until(deadline) => deadline,
            },
        };
        let waited = match deadline {
            Some(deadline) => self.inner.wait_deadline(&mut events.polled, deadline),
            None => self.inner.wait(&mut events.polled, None),
        };
        match waited {
            // `polling` 3.11 on poll(2) looks for the byte of a notification that
            // another thread is just sending: it is woken all the same.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.inner))
    }
}

/// Ends a [`Poller::wait`] from any thread; the next one where none runs.
#[derive(Clone)]
pub(crate) struct Waker(Arc<polling::Poller>);

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self.0.notify() {
            // A pipe full of notifications wakes as well.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            outcome => outcome,
        }
    }
}

#[cfg(not(polling_test_poll_backend))]
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// One wake-up for each wait, as a handle makes them, at any moment of it.
    #[test]
    fn invariant_11_a_wake_up_at_any_moment_is_no_error() {
        let poller = Poller::new().unwrap();
        let mut events = poller.events().unwrap();
        let waker = poller.waker();
        let (asleep, sleeps) = mpsc::channel();
        let waking = thread::spawn(move || sleeps.iter().for_each(|()| waker.wake().unwrap()));
        for _ in 0..20_000 {
            asleep.send(()).unwrap();
            poller.wait(&mut events, None).unwrap();
        }
        drop(asleep);
        waking.join().unwrap();
    }
}
