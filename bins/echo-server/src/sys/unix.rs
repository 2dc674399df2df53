//! Unix sockets, and the signal that loads files again.

use std::io;
use std::path::Path;

use reactor::signal::{SIGHUP, Signals};
use reactor::{Address, Listener, Protocol};

/// Listens on a Unix socket.
///
/// # Errors
///
/// Returns an error if `path` cannot be bound.
pub(crate) fn bind_unix<P: Protocol>(
    path: &Path,
    handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
) -> io::Result<Listener> {
    Listener::bind_unix(path, handle_accepted)
}

/// Returns a channel that calls `action` for each SIGHUP.
///
/// # Errors
///
/// Returns an error if the signal cannot be caught.
pub(crate) fn on_hangup(action: impl Fn() + 'static) -> io::Result<Option<Signals>> {
    Signals::new(&[SIGHUP], move |_, _| action()).map(Some)
}
