//! What replaces `unix.rs` on other systems, which lack both.

use std::io::{self, ErrorKind};
use std::path::Path;

use reactor::signal::Signals;
use reactor::{Address, Listener, Protocol};

/// Not available: the command line accepts no path.
///
/// # Errors
///
/// Returns `Unsupported`.
pub(crate) fn bind_unix<P: Protocol>(
    _path: &Path,
    _handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
) -> io::Result<Listener> {
    Err(ErrorKind::Unsupported.into())
}

/// Returns `None`: there is no such signal.
#[expect(clippy::unnecessary_wraps, reason = "the signature of the file that this replaces")]
pub(crate) fn on_hangup(_action: impl Fn() + 'static) -> io::Result<Option<Signals>> {
    Ok(None)
}
