//! [`EpollFastPath`]: waits with one system call instead of five; [`Waker`]: wakes
//! without discarding a batch of events.
//!
//! `polling` 3.11 sets a timer and renews two registrations with each wait, which is
//! noticeable while few connections are busy. Its poller is an epoll instance that it
//! exposes ([`AsFd`]), so most waits use that instance directly. Precise timeouts are
//! left to `polling`.
//!
//! This depends on how `polling` identifies sources in epoll: by their key. It does
//! not promise that, so the assumption is tested on each new poller.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use polling::{PollMode, Poller};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::io::Errno;

use crate::poll::busy_poll::BusyPoll;
use crate::poll::event::{Event, Ready};
use crate::sys::clock;
use crate::sys::eventfd::EventFd;

/// The key of `polling`'s own sources: its notification and its timer.
const NOTIFY_KEY: u64 = u64::MAX;

/// The key of the [`Waker`]. It contains the index of no slot.
const WAKER_KEY: usize = usize::MAX - 1;

/// The largest number of events of one wait, as in `polling`.
const MAX_EVENTS: usize = 1024;

/// How long before a deadline a wait in whole milliseconds ends, and a precise one
/// starts.
const PRECISE_WINDOW: Duration = Duration::from_millis(5);

/// The result of [`EpollFastPath::wait`].
pub(super) enum WaitOutcome {
    /// It has [`events`](EpollFastPath::events); none if the time is over.
    Done,
    /// `polling` must wait, until this instant.
    Delegate(Option<Instant>),
}

pub(super) struct EpollFastPath {
    raw: Vec<epoll::Event>,
    busy_poll: BusyPoll,
}

impl EpollFastPath {
    /// Returns `None` if `polling` does not identify its sources as expected.
    pub(super) fn new(poller: &Poller) -> io::Result<Option<Self>> {
        let mut fast_path =
            EpollFastPath { raw: Vec::with_capacity(MAX_EVENTS), busy_poll: BusyPoll::default() };
        // Its own notification is a source too, and has a documented key.
        poller.notify()?;
        fast_path.wait_once(poller.as_fd(), Some(Duration::ZERO))?;
        let is_expected = fast_path.raw.iter().map(|event| event.data.u64()).eq([NOTIFY_KEY]);
        poller.wait(&mut polling::Events::new(), Some(Duration::ZERO))?;
        Ok(is_expected.then_some(fast_path))
    }

    pub(super) fn set_busy_poll(&mut self, limit: Duration) {
        self.busy_poll = BusyPoll::new(limit);
    }

    /// Returns the events of the last wait; none if it was delegated.
    #[inline(always)]
    pub(super) fn events(fast_path: Option<&Self>) -> impl Iterator<Item = Event> + '_ {
        fast_path.map_or(&[][..], |fast_path| &fast_path.raw).iter().map(decode)
    }

    /// Waits for events until `deadline`, or without limit.
    pub(super) fn wait(
        &mut self,
        poller: &Poller,
        deadline: Option<Instant>,
    ) -> io::Result<WaitOutcome> {
        let epoll = poller.as_fd();
        if deadline.is_some() || !self.busy_poll.is_off() {
            return self.wait_timed(epoll, deadline);
        }
        self.wait_once(epoll, None)?;
        Ok(WaitOutcome::Done)
    }

    /// Waits with a deadline, or polls before it blocks.
    fn wait_timed(
        &mut self,
        epoll: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> io::Result<WaitOutcome> {
        let start = clock::now();
        let remaining = deadline.map(|at| at.saturating_duration_since(start));
        if remaining == Some(Duration::ZERO) {
            self.wait_once(epoll, remaining)?;
            return Ok(WaitOutcome::Done);
        }
        if self.busy_poll.should_poll() && self.busy_poll(epoll, start, remaining)? {
            return Ok(WaitOutcome::Done);
        }
        let coarse_timeout = match remaining {
            Some(remaining) if remaining > 2 * PRECISE_WINDOW => {
                Some(remaining.saturating_sub(PRECISE_WINDOW))
            }
            Some(_) => {
                self.raw.clear();
                return Ok(WaitOutcome::Delegate(deadline));
            }
            None => None,
        };
        self.wait_once(epoll, coarse_timeout)?;
        if self.raw.is_empty() && deadline.is_some() {
            return Ok(WaitOutcome::Delegate(deadline));
        }
        self.busy_poll.record_sleep(clock::now().saturating_duration_since(start));
        Ok(WaitOutcome::Done)
    }

    /// Polls without blocking, up to the limit. Returns `true` if there was an event.
    fn busy_poll(
        &mut self,
        epoll: BorrowedFd<'_>,
        start: Instant,
        remaining: Option<Duration>,
    ) -> io::Result<bool> {
        let limit = self.busy_poll.limit();
        let limit = remaining.map_or(limit, |remaining| remaining.min(limit));
        while clock::now().saturating_duration_since(start) < limit {
            self.wait_once(epoll, Some(Duration::ZERO))?;
            if !self.raw.is_empty() {
                self.busy_poll.record_hit();
                return Ok(true);
            }
        }
        self.busy_poll.record_miss();
        Ok(false)
    }

    fn wait_once(&mut self, epoll: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
        self.raw.clear();
        // A timeout beyond the range of a timespec is treated as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match epoll::wait(epoll, spare_capacity(&mut self.raw), timeout.as_ref()) {
            // Interrupted, for example by a debugger: no event yet.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn decode(event: &epoll::Event) -> Event {
    let flags = event.flags;
    Event {
        key: usize::try_from(event.data.u64()).unwrap_or(usize::MAX),
        ready: Ready(flags.bits()),
    }
}

/// Ends a [`Poller`]'s wait from any thread, or the next wait if none is in progress.
///
/// It is an eventfd(2) registered edge-triggered: each write is one event, and the
/// counter never needs to be read.
#[derive(Clone)]
pub(crate) struct Waker(Arc<EventFd>);

impl Waker {
    pub(super) fn new(poller: &Poller) -> io::Result<Self> {
        let eventfd = EventFd::new()?;
        let interest = polling::Event::readable(WAKER_KEY);
        // SAFETY: the descriptor is open, and `deregister` deletes it when the poller
        // is dropped, before the last clone of this value can close it.
        unsafe { poller.add_with_mode(eventfd.as_fd().as_raw_fd(), interest, PollMode::Edge)? };
        Ok(Waker(Arc::new(eventfd)))
    }

    pub(super) fn deregister(&self, poller: &Poller) {
        if let Err(error) = poller.delete(&*self.0) {
            log::error!("cannot remove the waker from the poller: {error}");
        }
    }

    pub(crate) fn wake(&self) -> io::Result<()> {
        self.0.notify()
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
