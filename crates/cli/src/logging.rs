//! Log set-up and verbosity flags.

use env_logger::Builder;
use log::LevelFilter;

/// Starts logging to standard error.
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
    builder.init();
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
