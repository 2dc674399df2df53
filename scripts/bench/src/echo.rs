//! One step of an echo.

use std::io::{self, ErrorKind, Read, Write};

use crate::Unsent;

/// Reads once and sends it back; what the kernel does not take at once is kept
/// as `unsent`, which must be empty before. Returns how much was read.
pub fn echo(
    stream: &mut (impl Read + Write),
    buffer: &mut [u8],
    unsent: &mut Unsent,
) -> io::Result<usize> {
    let read = stream.read(buffer)?;
    if read == 0 {
        return Ok(0);
    }
    let sent = match stream.write(&buffer[..read]) {
        Ok(sent) => sent,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    unsent.keep(&buffer[sent..read]);
    Ok(read)
}
