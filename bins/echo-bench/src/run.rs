//! A run: a generator on each thread, started at the same time, and the report.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::{Context as _, anyhow, bail};
use cli::error::without_errno;

use crate::generator::Generator;
use crate::options::Options;
use crate::pattern::Pattern;
use crate::progress::Progress;
use crate::record::Record;
use crate::report::Report;
use crate::share::Share;

/// Measures the server and prints the report.
///
/// # Errors
///
/// Returns an error if the server cannot be measured, and, after the report, if
/// replies were missing or wrong.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let addr = resolve(&options.addr)?;
    check_open_file_limit(options)?;

    let record = measure(addr, options)?;
    let report = Report::new(options, addr, &record);
    let text = if options.json { format!("{}\n", report.to_json()) } else { report.to_string() };
    cli::stdio::write(text.as_bytes())
        .map_err(|error| anyhow!("cannot write standard output: {}", without_errno(&error)))?;
    if !record.is_success() {
        bail!("{addr}: replies missing or wrong; see the report");
    }
    Ok(())
}

/// Returns the first address of `addr`.
fn resolve(addr: &str) -> anyhow::Result<SocketAddr> {
    let mut addrs = addr.to_socket_addrs().map_err(|error| {
        anyhow!("cannot resolve {addr:?}: {}; specify HOST:PORT with --addr", without_errno(&error))
    })?;
    addrs.next().with_context(|| format!("cannot resolve {addr:?}: it has no address"))
}

/// Raises the open file limit, and compares it with the number of descriptors
/// that the options require.
fn check_open_file_limit(options: &Options) -> anyhow::Result<()> {
    /// For the program itself and for connections that are being closed.
    const RESERVED_FDS: usize = 64;
    /// The same for each further thread and its reactor.
    const RESERVED_FDS_PER_THREAD: usize = 8;
    let reserved = RESERVED_FDS + RESERVED_FDS_PER_THREAD * (options.threads() - 1);
    let required = (options.connections.get() + options.idle + reserved) as u64;
    match cli::limits::raise_open_files() {
        Some(limit) if limit < required => bail!(
            "{required} open files are required, and the limit is {limit}: \
             use fewer connections, or raise the limit (as root: ulimit -Hn {required})"
        ),
        _ => Ok(()),
    }
}

/// Opens all connections, then starts the measurement on all threads.
fn measure(addr: SocketAddr, options: &Options) -> anyhow::Result<Record> {
    let pattern = Arc::new(Pattern::new(options.size));
    thread::scope(|scope| {
        let (ready_tx, ready_rx) = mpsc::channel();
        let (mut start_txs, mut threads) = (Vec::new(), Vec::new());
        for share in Share::for_threads(options) {
            let (start_tx, start_rx) = mpsc::channel::<Arc<Progress>>();
            let (ready_tx, pattern) = (ready_tx.clone(), Arc::clone(&pattern));
            let generate = move || {
                let generator = Generator::open(addr, share, pattern, options)?;
                let _ = ready_tx.send(());
                drop(ready_tx);
                match start_rx.recv() {
                    Ok(progress) => generator.measure(progress),
                    // Another thread has failed, and returns the error.
                    Err(_) => Record::new(),
                }
            };
            let thread = thread::Builder::new().spawn_scoped(scope, generate);
            threads.push(thread.context("cannot start a thread; use fewer --threads")?);
            start_txs.push(start_tx);
        }
        drop(ready_tx);
        // Ends when each thread is ready or has failed.
        if ready_rx.iter().count() == start_txs.len() {
            let progress = Arc::new(Progress::new(options.warm_up + options.duration));
            for start_tx in &start_txs {
                let _ = start_tx.send(Arc::clone(&progress));
            }
        }
        drop(start_txs);

        let mut merged = Record::new()?;
        for thread in threads {
            merged.merge(thread.join().map_err(|_| anyhow!("a thread panicked"))??)?;
        }
        Ok(merged)
    })
}
