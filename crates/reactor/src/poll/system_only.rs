//! What replaces `either.rs` without the feature `sim`: the poller of the system.

pub(crate) use crate::poll::epoll::Waker;
pub(crate) use crate::poll::{Events, Poller};
