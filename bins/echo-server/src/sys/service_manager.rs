//! Sockets and messages that a service manager and a process exchange.

use std::io;

use listenfd::ListenFd;
use reactor::OwnedDescriptor;
use sd_notify::NotifyState;

/// Takes the inherited sockets, and removes the variables that announced them.
///
/// # Errors
///
/// Returns the index of the first one that is not a TCP or Unix stream socket.
pub(crate) fn take_sockets() -> Result<Vec<OwnedDescriptor>, usize> {
    let mut inherited = ListenFd::from_env();
    (0..inherited.len()).map(|index| take(&mut inherited, index).ok_or(index)).collect()
}

fn take(inherited: &mut ListenFd, index: usize) -> Option<OwnedDescriptor> {
    if let Ok(socket) = inherited.take_tcp_listener(index) {
        return socket.map(OwnedDescriptor::from);
    }
    // It is still there, and may be for Unix.
    inherited.take_unix_listener(index).ok()?.map(OwnedDescriptor::from)
}

pub(crate) fn notify_ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

pub(crate) fn notify_stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}
