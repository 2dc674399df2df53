//! [`Poller`]: the poller of the system, or of a simulated one (feature `sim`).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::poll::epoll;
use crate::poll::event::{Event, Interest, Ready};
use crate::sys::kernel::{self, Readiness};
use crate::sys::process::Owner;
use crate::sys::source::Source;
use crate::token::Token;

/// The events of one wait. Its methods are those of [`poll::Events`](crate::poll::Events).
pub(crate) enum Events {
    System(crate::poll::Events),
    Simulated { ready: Vec<(usize, Readiness)> },
}

impl Events {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        let (system, simulated) = match self {
            Events::System(events) => (Some(events.iter()), &[][..]),
            Events::Simulated { ready } => (None, &ready[..]),
        };
        let simulated = simulated.iter().map(|&(key, ready)| Event {
            key,
            // As epoll(7) reports a hang-up, whatever is wanted.
            ready: Ready::new(ready.readable || ready.hung_up, ready.writable || ready.hung_up),
        });
        system.into_iter().flatten().chain(simulated)
    }

    pub(crate) fn set_busy_poll(&mut self, limit: Duration) {
        if let Events::System(events) = self {
            events.set_busy_poll(limit);
        }
    }
}

/// A set of sources with the interest in each. Its methods are those of
/// [`poll::Poller`](crate::poll::Poller).
pub(crate) enum Poller {
    System(crate::poll::Poller),
    Simulated { queue: kernel::OwnedFd, woken: Arc<AtomicBool>, owner: Owner },
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let Some(kernel) = kernel::current() else {
            return crate::poll::Poller::new().map(Poller::System);
        };
        let (queue, woken) = kernel.open_queue()?;
        let queue = kernel::OwnedFd(queue);
        Ok(Poller::Simulated { queue, woken, owner: Owner::this_process() })
    }

    pub(crate) fn new_events(&self) -> io::Result<Events> {
        match self {
            Poller::System(poller) => poller.new_events().map(Events::System),
            Poller::Simulated { .. } => Ok(Events::Simulated { ready: Vec::new() }),
        }
    }

    #[cfg(test)]
    pub(crate) fn oneshot() -> io::Result<Self> {
        crate::poll::Poller::oneshot().map(Poller::System)
    }

    pub(crate) fn is_oneshot(&self) -> bool {
        match self {
            Poller::System(poller) => poller.is_oneshot(),
            Poller::Simulated { .. } => false,
        }
    }

    pub(crate) fn add(
        &self,
        source: Source<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<bool> {
        match self {
            Poller::System(poller) => poller.add(source, token, interest),
            Poller::Simulated { .. } => self.modify(source, token, interest).map(|()| true),
        }
    }

    pub(crate) fn modify(
        &self,
        source: Source<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Poller::System(poller) => poller.modify(source, token, interest),
            Poller::Simulated { queue, .. } => {
                let Some(fd) = watched(source)? else { return Ok(()) };
                let (readable, writable) = (interest.readable(), interest.writable());
                let wanted = Readiness { readable, writable, hung_up: true };
                kernel::with(|kernel| kernel.watch(queue.0, fd, token.key(), wanted))
            }
        }
    }

    pub(crate) fn delete(&self, source: Source<'_>) -> io::Result<()> {
        match self {
            Poller::System(poller) => poller.delete(source),
            Poller::Simulated { queue, .. } => match watched(source)? {
                Some(fd) => kernel::with(|kernel| kernel.forget(queue.0, fd)),
                None => Ok(()),
            },
        }
    }

    pub(crate) fn owner(&self) -> Owner {
        match self {
            Poller::System(poller) => poller.owner(),
            Poller::Simulated { owner, .. } => *owner,
        }
    }

    pub(crate) fn wait(&self, events: &mut Events, deadline: Option<Instant>) -> io::Result<()> {
        match (self, events) {
            (Poller::System(poller), Events::System(events)) => poller.wait(events, deadline),
            (Poller::Simulated { queue, woken, .. }, Events::Simulated { ready }) => {
                ready.clear();
                woken.store(false, Ordering::Release);
                kernel::with(|kernel| {
                    kernel.take_events(queue.0, ready);
                    Ok(())
                })
            }
            _ => Err(io::Error::other("these events belong to another poller")),
        }
    }

    pub(crate) fn source(&self) -> Source<'_> {
        match self {
            Poller::System(poller) => poller.source(),
            Poller::Simulated { .. } => Source::NONE,
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        match self {
            Poller::System(poller) => Waker::System(poller.waker()),
            Poller::Simulated { woken, .. } => Waker::Simulated(Arc::clone(woken)),
        }
    }
}

/// Returns the descriptor of a simulated source, or `None` for [`Source::NONE`].
fn watched(source: Source<'_>) -> io::Result<Option<kernel::Fd>> {
    if source.fd().is_some() {
        let message = "a descriptor of the system cannot be watched in a simulation";
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    Ok(source.simulated_fd())
}

/// Ends a [`Poller`]'s wait from any thread, or the next wait if none is in progress.
#[derive(Clone)]
pub(crate) enum Waker {
    System(epoll::Waker),
    Simulated(Arc<AtomicBool>),
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Waker::System(waker) => waker.wake(),
            Waker::Simulated(woken) => {
                woken.store(true, Ordering::Release);
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
