//! Standard streams, limits and errors, as Windows has them.

use std::io::{self, Read, Write};
use std::path::PathBuf;

/// How many bytes to write at once. A write to a pipe blocks until all are taken.
pub(crate) const PIPE_BUF: usize = 4096;

/// Advice for a port that may not be bound.
pub(crate) const PORT_DENIED_HINT: &str = "another program may hold it, or the system may \
     reserve it: choose another with --port (0 selects a free one)";

/// Standard output or standard error.
#[derive(Clone, Copy)]
pub(crate) enum StandardStream {
    Output,
    Error,
}

impl StandardStream {
    /// Writes `data`. Returns the number of bytes written, and the error if they
    /// are not all; 0 then, as the system does not tell.
    pub(crate) fn write(self, data: &[u8]) -> (usize, io::Result<()>) {
        let result = match self {
            StandardStream::Output => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(data).and_then(|()| stdout.flush())
            }
            StandardStream::Error => io::stderr().lock().write_all(data),
        };
        (if result.is_ok() { data.len() } else { 0 }, result)
    }

    /// Returns `true`: the system does not tell whether a write would block.
    #[expect(clippy::unused_self, reason = "as on Unix")]
    pub(crate) fn is_writable(self) -> bool {
        true
    }
}

/// Reads standard input once. Returns the number of bytes, 0 at the end.
pub(crate) fn read_stdin(buffer: &mut [u8]) -> io::Result<usize> {
    io::stdin().lock().read(buffer)
}

/// Returns an error.
#[expect(clippy::needless_pass_by_value, reason = "as on Unix")]
pub(crate) fn unix_path(_path: PathBuf) -> Result<PathBuf, String> {
    Err("Unix sockets are not available on Windows".to_owned())
}

/// Returns `None`: only memory limits the number of sockets.
pub(crate) fn raise_open_files() -> Option<u64> {
    None
}

/// Returns `None`: there is no limit to raise.
pub(crate) fn fd_hint(_error: &io::Error) -> Option<&'static str> {
    None
}
