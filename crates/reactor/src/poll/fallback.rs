//! What replaces `epoll.rs` on systems without epoll: waits and wake-ups of
//! `polling`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polling::Poller;

use crate::poll::event::Event;

pub(super) enum WaitOutcome {
    #[expect(dead_code, reason = "there is no fast path")]
    Done,
    #[expect(dead_code, reason = "there is no fast path")]
    Delegate(Option<Instant>),
}

/// Has no values.
pub(super) enum EpollFastPath {}

impl EpollFastPath {
    #[expect(clippy::unnecessary_wraps, reason = "as in `epoll.rs`")]
    pub(super) fn new(_poller: &Poller) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn set_busy_poll(&mut self, _limit: Duration) {
        match *self {}
    }

    pub(super) fn wait(
        &mut self,
        _poller: &Poller,
        _deadline: Option<Instant>,
    ) -> io::Result<WaitOutcome> {
        match *self {}
    }

    pub(super) fn events(_fast_path: Option<&Self>) -> std::iter::Empty<Event> {
        std::iter::empty()
    }
}

/// Ends a [`Poller`]'s wait from any thread, or the next wait if none is in progress.
#[derive(Clone)]
pub(crate) struct Waker(Arc<Poller>);

impl Waker {
    #[expect(clippy::unnecessary_wraps, reason = "as in `epoll.rs`")]
    pub(super) fn new(poller: &Arc<Poller>) -> io::Result<Self> {
        Ok(Waker(Arc::clone(poller)))
    }

    #[expect(clippy::unused_self, reason = "as in `epoll.rs`")]
    pub(super) fn deregister(&self, _poller: &Poller) {}

    pub(crate) fn wake(&self) -> io::Result<()> {
        match self.0.notify() {
            // A full pipe of notifications wakes as well.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
