//! Error texts for people, and the exit code of a program.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::output::{self, STDERR};

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
        Some((description, _)) => description.to_owned(),
        None => text,
    }
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

    #[test]
    fn without_errno_removes_only_the_number() {
        let refused = io::Error::from_raw_os_error(111);
        assert!(refused.to_string().contains("(os error 111)"));
        assert!(!without_errno(&refused).contains("os error"));
        assert_eq!(without_errno(&io::Error::other("no number")), "no number");
    }
}
