//! Standard output. The loop writes it directly and may block: while its reader
//! is slow, nothing more need be received.

use crate::failure::Failure;

/// Writes one reply and a line feed.
pub(crate) fn write_line(reply: &[u8]) -> Result<(), Failure> {
    write(&[reply, b"\n"].concat())
}

/// Writes `data` unchanged.
pub(crate) fn write(data: &[u8]) -> Result<(), Failure> {
    cli::stdio::write(data).map_err(|error| Failure::output(&error))
}
