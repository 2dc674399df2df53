//! Error texts for people, and the exit code of a program.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::output::{self, STDERR};
use crate::sys;

/// Returns the text of `error` without the error number that `io::Error`
/// appends.
///
/// # Examples
///
/// ```
/// let error = std::io::Error::from_raw_os_error(2);
/// assert_eq!(cli::error::without_errno(&error), "No such file or directory");
/// ```
pub fn without_errno(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        // Windows ends its descriptions with a full stop.
        Some((description, _)) => description.trim_end_matches('.').to_owned(),
        None => text,
    }
}

/// Returns the text of `error` as [`without_errno`], and advice if descriptors
/// are missing.
///
/// # Examples
///
/// ```
/// let error = std::io::Error::from_raw_os_error(24);
/// let text = "Too many open files; raise the open file limit (ulimit -n)";
/// assert_eq!(cli::error::with_fd_hint(&error), text);
/// ```
pub fn with_fd_hint(error: &io::Error) -> String {
    let text = without_errno(error);
    match sys::fd_hint(error) {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

/// Returns advice for a port that may not be bound.
pub fn port_denied_hint() -> &'static str {
    sys::PORT_DENIED_HINT
}

/// Converts the result of a program to its exit code, 0 or 1, and waits for
/// pending output, a second at most.
///
/// An error is printed to standard error as one line, `program: error`, with
/// its causes.
pub fn exit_code(program: &str, result: Result<(), impl Display>) -> ExitCode {
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            STDERR.write_line(&format!("{program}: {error:#}"));
            ExitCode::FAILURE
        }
    };
    output::flush();
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)] // hints about descriptors
    #[test]
    fn only_missing_descriptors_have_a_hint() {
        let text = |code| with_fd_hint(&io::Error::from_raw_os_error(code));
        assert_eq!(text(12), "Cannot allocate memory");
        assert!(text(23).contains("fs.file-max"));
        // The text alone does not count.
        let other = io::Error::other("Too many open files");
        assert_eq!(with_fd_hint(&other), "Too many open files");
    }

    #[test]
    fn without_errno_removes_only_the_number() {
        let refused = io::Error::from_raw_os_error(if cfg!(windows) { 10_061 } else { 111 });
        assert!(refused.to_string().contains("(os error 1"));
        assert!(!without_errno(&refused).contains("os error"));
        assert_eq!(without_errno(&io::Error::other("no number")), "no number");
    }
}
