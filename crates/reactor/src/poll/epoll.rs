//! [`Direct`]: one system call for a wait, in place of five.
//!
//! `polling` 3.11 sets a timer and renews two registrations with each wait. Where
//! few connections are busy, each message pays for that. But its poller *is* an
//! epoll instance, which it shows ([`AsFd`]); so most waits are made on that
//! without going through it. Waits that must be precise, and those that a
//! notification ended, are left to it.
//!
//! That needs to know how `polling` names sources in epoll: by their key. As it
//! does not promise to, a poller is tried out before this is used on it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use polling::Poller;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;

use crate::poll::Event;
use crate::poll::busy_poll::BusyPoll;

/// The key of `polling`'s own sources: its notification, and its timer.
const NOTIFY_KEY: u64 = u64::MAX;

/// The most events of one wait, as with `polling`.
const CAPACITY: usize = 1024;

/// How long before a deadline a wait in whole milliseconds ends, and a precise
/// one begins.
const PRECISE: Duration = Duration::from_millis(5);

/// What a wait came to.
pub(crate) enum Waited {
    /// These are the events; none, where it is time.
    Events,
    /// It is for `polling` to wait, until then.
    Until(Option<Instant>),
}

pub(crate) struct Direct {
    events: Vec<epoll::Event>,
    busy: BusyPoll,
}

impl Direct {
    /// `None` where `polling` does not name its sources as expected.
    pub(crate) fn new(poller: &Poller) -> io::Result<Option<Self>> {
        let events = Vec::with_capacity(CAPACITY);
        let mut direct = Direct { events, busy: BusyPoll::default() };
        // Its own notification is a source as well, and its key is documented.
        poller.notify()?;
        direct.wait_once(poller.as_fd(), Some(Duration::ZERO))?;
        let named = direct.events.iter().map(|event| event.data.u64()).eq([NOTIFY_KEY]);
        poller.wait(&mut polling::Events::new(), Some(Duration::ZERO))?;
        direct.events.clear();
        Ok(named.then_some(direct))
    }

    pub(crate) fn set_busy_poll(&mut self, limit: Duration) {
        self.busy = BusyPoll::new(limit);
    }

    /// Waits for events, until `deadline` or for ever.
    pub(crate) fn wait(
        &mut self,
        poller: &Poller,
        deadline: Option<Instant>,
    ) -> io::Result<Waited> {
        let source = poller.as_fd();
        self.events.clear();
        if deadline.is_none() && self.busy.is_off() {
            self.wait_once(source, None)?;
            return Ok(self.waited());
        }
        let began = Instant::now();
        let left = deadline.map(|at| at.saturating_duration_since(began));
        if left == Some(Duration::ZERO) {
            self.wait_once(source, left)?;
            return Ok(self.waited());
        }
        if self.busy.begins() && self.look_for_a_while(source, began, left)? {
            return Ok(self.waited());
        }
        let rough = match left {
            // What is left after that is for the precise timer.
            Some(left) if left > 2 * PRECISE => Some(left.saturating_sub(PRECISE)),
            Some(_) => return Ok(Waited::Until(deadline)),
            None => None,
        };
        self.wait_once(source, rough)?;
        if self.events.is_empty() && deadline.is_some() {
            return Ok(Waited::Until(deadline));
        }
        self.busy.slept(began);
        Ok(self.waited())
    }

    /// Polls without blocking; whether an event came.
    fn look_for_a_while(
        &mut self,
        source: BorrowedFd<'_>,
        began: Instant,
        left: Option<Duration>,
    ) -> io::Result<bool> {
        let most = left.map_or(self.busy.limit(), |left| left.min(self.busy.limit()));
        while began.elapsed() < most {
            self.wait_once(source, Some(Duration::ZERO))?;
            if !self.events.is_empty() {
                self.busy.paid();
                return Ok(true);
            }
        }
        self.busy.wasted();
        Ok(false)
    }

    /// Anything of `polling`'s own among the events is for it to see to; it
    /// reports the others as well, as their sources stay ready.
    fn waited(&mut self) -> Waited {
        if self.events.iter().any(|event| event.data.u64() == NOTIFY_KEY) {
            self.events.clear();
            return Waited::Until(Some(Instant::now()));
        }
        Waited::Events
    }

    fn wait_once(&mut self, source: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
        // One that is longer than can be said is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match epoll::wait(source, spare_capacity(&mut self.events), timeout.as_ref()) {
            // Interrupted, by a debugger say: as if nothing had happened yet.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The events of the last wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        const READABLE: EventFlags =
            EventFlags::IN.union(EventFlags::PRI).union(EventFlags::HUP).union(EventFlags::ERR);
        const WRITABLE: EventFlags = EventFlags::OUT.union(EventFlags::HUP).union(EventFlags::ERR);
        self.events.iter().map(|event| {
            let flags = event.flags;
            Event {
                key: usize::try_from(event.data.u64()).unwrap_or(usize::MAX),
                readable: flags.intersects(READABLE.union(EventFlags::RDHUP)),
                writable: flags.intersects(WRITABLE),
                urgent: flags.contains(EventFlags::PRI),
            }
        })
    }
}
