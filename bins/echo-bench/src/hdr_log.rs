//! [`HdrLog`]: latencies in a file, in the format of `HdrHistogram`'s tools.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use cli::error::without_errno;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};

/// A log file that is written interval by interval.
pub(crate) struct HdrLog {
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
}

impl HdrLog {
    /// Creates the file, or empties it, and writes the header.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub(crate) fn create(path: &Path, comment: &str) -> anyhow::Result<Self> {
        let create = || {
            let mut log = HdrLog {
                file: BufWriter::new(File::create(path)?),
                serializer: V2DeflateSerializer::new(),
            };
            let now = SystemTime::now();
            IntervalLogWriterBuilder::new()
                .add_comment("[Histogram log format version 1.3]")
                .add_comment(comment)
                .add_comment("Values are latencies in nanoseconds")
                .with_start_time(now)
                .with_base_time(now)
                .begin_log_with(&mut log.file, &mut log.serializer)?;
            log.file.flush()?;
            Ok(log)
        };
        create().map_err(|error: io::Error| {
            anyhow!("cannot write {}: {}; see --hdr", path.display(), without_errno(&error))
        })
    }

    /// Adds the interval of length `duration` that began `start` after the
    /// measurement.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub(crate) fn write(
        &mut self,
        latency: &Histogram<u64>,
        start: Duration,
        duration: Duration,
    ) -> io::Result<()> {
        // Without a header, as the file has one.
        let mut log =
            IntervalLogWriterBuilder::new().begin_log_with(&mut self.file, &mut self.serializer)?;
        match log.write_histogram(latency, start, duration, None) {
            Ok(()) => self.file.flush(),
            Err(IntervalLogWriterError::IoError(error)) => Err(error),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }
}
