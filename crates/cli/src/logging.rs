//! Log set-up and verbosity flags.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::thread;

use env_logger::{Builder, Target};
use log::LevelFilter;

use crate::output::STDERR;

/// Starts logging to standard error, through [`STDERR`], so that logging never
/// blocks. The messages of panics take the same way.
///
/// `level` is the level that the command line requests. Without one, the
/// environment variable `RUST_LOG` applies; without that, `default`.
///
/// # Panics
///
/// Panics if a logger is already installed.
pub fn init(level: Option<LevelFilter>, default: LevelFilter) {
    let mut builder = Builder::new();
    builder.filter_level(level.unwrap_or(default));
    if level.is_none() {
        builder.parse_default_env();
    }
    builder.target(Target::Pipe(Box::new(Stderr))).init();
    panic::set_hook(Box::new(print_panic));
}

/// The target of the log.
struct Stderr;

impl Write for Stderr {
    /// Receives a whole record at a time.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        STDERR.push(record.into());
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints what the default hook prints, which may block.
fn print_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let mut text = format!("thread '{}' {info}", thread.name().unwrap_or("<unnamed>"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text = format!("{text}\n{backtrace}");
    }
    STDERR.write_line(&text);
}

/// Returns the level for a `--verbose` flag that was given `count` times, or
/// `None` if it was not given.
pub fn level_for_verbose(count: u8) -> Option<LevelFilter> {
    match count {
        0 => None,
        1 => Some(LevelFilter::Info),
        2 => Some(LevelFilter::Debug),
        _ => Some(LevelFilter::Trace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verbose_flag_raises_the_level_up_to_trace() {
        let levels = [0, 1, 2, 3, u8::MAX].map(level_for_verbose);
        let [info, debug, trace] = [LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace];
        assert_eq!(levels, [None, Some(info), Some(debug), Some(trace), Some(trace)]);
    }
}
