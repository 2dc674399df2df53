//! Standard output, with its errors told apart. It is written to from the
//! loop and may block there: while nobody takes what came back, there is no
//! use in fetching more.

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes one reply, on a line of its own.
pub(crate) fn print_line(reply: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(reply).and_then(|()| stdout.write_all(b"\n"));
    written.and_then(|()| stdout.flush()).map_err(|error| Failure::output(&error))
}

/// Writes `data` as it is.
pub(crate) fn write(data: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(data).and_then(|()| stdout.flush()).map_err(|error| Failure::output(&error))
}
