//! [`ThreadConfig`]: one thread's part of the limits and of the processors.

use std::io;
use std::num::NonZeroUsize;

use anyhow::anyhow;
use cli::error::without_errno;

use crate::cpu::Cpu;
use crate::options::Options;

/// The part of the options that differs between threads.
#[derive(Clone, Copy)]
pub(crate) struct ThreadConfig {
    max_connections: usize,
    cpu: Option<Cpu>,
}

impl ThreadConfig {
    /// Returns the configuration of each thread, for the main thread first.
    ///
    /// `--max-connections` is divided among the threads. If it is smaller than
    /// `--threads`, there are fewer threads, so that each accepts at least one
    /// connection.
    pub(crate) fn for_threads(options: &Options) -> anyhow::Result<Vec<Self>> {
        let max_connections = options.max_connections.map_or(usize::MAX, NonZeroUsize::get);
        let threads = options.threads.get().min(max_connections);
        let cpus = if options.pin {
            Cpu::available().map_err(|error| pin_error(&error))?
        } else {
            Vec::new()
        };
        let config = |thread| ThreadConfig {
            max_connections: max_connections / threads
                + usize::from(thread < max_connections % threads),
            cpu: cpus.get(thread % cpus.len().max(1)).copied(),
        };
        Ok((0..threads).map(config).collect())
    }

    /// Returns the number of connections that the thread may have open.
    pub(crate) fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Pins the calling thread to its processor if `--pin` was given.
    pub(crate) fn pin_thread(&self) -> anyhow::Result<()> {
        let Some(cpu) = self.cpu else { return Ok(()) };
        cpu.pin_thread().map_err(|error| pin_error(&error))?;
        log::info!("pinned a thread to {cpu}");
        Ok(())
    }
}

fn pin_error(error: &io::Error) -> anyhow::Error {
    anyhow!("cannot pin threads: {}; omit --pin", without_errno(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn max_connections(options: &[&str]) -> Vec<usize> {
        let options = Options::parse_from([&["echo-server"], options].concat());
        let configs = ThreadConfig::for_threads(&options).unwrap();
        configs.iter().map(ThreadConfig::max_connections).collect()
    }

    #[test]
    fn max_connections_is_divided_among_threads() {
        assert_eq!(max_connections(&["--threads", "3", "--max-connections", "8"]), [3, 3, 2]);
        assert_eq!(max_connections(&["--threads", "2"]).len(), 2);
    }

    #[test]
    fn each_thread_accepts_at_least_one_connection() {
        assert_eq!(max_connections(&["--threads", "3", "--max-connections", "2"]), [1, 1]);
    }
}
