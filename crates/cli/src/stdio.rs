//! Blocking reads and writes on the standard streams.

use std::io;

use crate::sys::{self, StandardStream};

/// Reads standard input into `buffer`. Returns the number of bytes, 0 at the
/// end.
///
/// # Errors
///
/// Returns the system's error.
pub fn read(buffer: &mut [u8]) -> io::Result<usize> {
    sys::read_stdin(buffer)
}

/// Writes `data` to standard output. Blocks while its reader is slow.
///
/// # Errors
///
/// Returns an error if standard output cannot be written;
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe) if its reader has closed it.
pub fn write(data: &[u8]) -> io::Result<()> {
    StandardStream::Output.write(data).1
}
