//! What stands in for `epoll.rs` where there is no epoll: nothing.

use std::io;
use std::iter;
use std::time::{Duration, Instant};

use polling::Poller;

use crate::poll::Event;

pub(crate) enum Waited {
    #[expect(dead_code, reason = "nobody waits here")]
    Events,
    #[expect(dead_code, reason = "nobody waits here")]
    Until(Option<Instant>),
}

pub(crate) enum Direct {}

impl Direct {
    #[expect(clippy::unnecessary_wraps, reason = "as in `epoll.rs`")]
    pub(crate) fn new(_poller: &Poller) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn set_busy_poll(&mut self, _limit: Duration) {
        match *self {}
    }

    pub(crate) fn wait(
        &mut self,
        _poller: &Poller,
        _deadline: Option<Instant>,
    ) -> io::Result<Waited> {
        match *self {}
    }

    pub(crate) fn iter(&self) -> iter::Empty<Event> {
        match *self {}
    }
}
