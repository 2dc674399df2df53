//! What replaces `service_manager.rs` on systems other than Unix: their service
//! managers pass no sockets.

use std::io;

use reactor::OwnedDescriptor;

/// Returns none.
#[expect(clippy::unnecessary_wraps, reason = "the signature of the file that this replaces")]
pub(crate) fn take_sockets() -> Result<Vec<OwnedDescriptor>, usize> {
    Ok(Vec::new())
}

/// Does nothing.
#[expect(clippy::unnecessary_wraps, reason = "the signature of the file that this replaces")]
pub(crate) fn notify_ready() -> io::Result<()> {
    Ok(())
}

/// Does nothing.
#[expect(clippy::unnecessary_wraps, reason = "the signature of the file that this replaces")]
pub(crate) fn notify_stopping() -> io::Result<()> {
    Ok(())
}
