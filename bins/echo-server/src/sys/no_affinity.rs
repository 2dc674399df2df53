//! What replaces `affinity.rs` on systems other than Linux and Android: not
//! implemented for them.

use std::io;

/// Returns `Unsupported`.
pub(crate) fn available() -> io::Result<Vec<usize>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns `Unsupported`.
pub(crate) fn pin_thread(_number: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
