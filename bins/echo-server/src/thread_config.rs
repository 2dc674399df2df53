//! [`ThreadConfig`]: one thread's part of the processors.

use std::io;

use anyhow::anyhow;
use cli::error::without_errno;

use crate::cpu::Cpu;
use crate::options::Options;

/// The part of the options that differs between threads.
#[derive(Clone, Copy)]
pub(crate) struct ThreadConfig {
    cpu: Option<Cpu>,
}

impl ThreadConfig {
    /// Returns the configuration of each thread, for the main thread first.
    pub(crate) fn for_threads(options: &Options) -> anyhow::Result<Vec<Self>> {
        let cpus = if options.pin {
            Cpu::available().map_err(|error| pin_error(&error))?
        } else {
            Vec::new()
        };
        let config = |thread| ThreadConfig { cpu: cpus.get(thread % cpus.len().max(1)).copied() };
        Ok((0..options.threads.get()).map(config).collect())
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
