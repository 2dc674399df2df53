//! Standard output that may be closed.
//!
//! `print!` panics if standard output is closed, as in `program | head -1`.
//! These functions return the error, so that each program can decide what it
//! means. They block while the reader of a pipe is slow.

use std::io::{self, Write};

/// Writes `data` and flushes it.
///
/// # Errors
///
/// Returns an error if standard output cannot be written;
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe) if its reader has closed it.
pub fn write(data: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(data)?;
    stdout.flush()
}

/// Writes `line` and a line feed, and flushes them.
///
/// # Errors
///
/// As [`write()`].
pub fn write_line(line: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line)?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}
