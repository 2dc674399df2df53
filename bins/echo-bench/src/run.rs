//! A run: a generator on each thread, started at the same time, and the report.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context as _, anyhow, bail};
use cli::error::without_errno;
use reactor::InboxSender;

use crate::coordinator::{Coordinator, Event};
use crate::generator::Generator;
use crate::options::Options;
use crate::pattern::Pattern;
use crate::progress::MessageCount;
use crate::record::Record;
use crate::report::Report;
use crate::share::Share;
use crate::target;

/// How a run ended that was not a failure.
pub(crate) enum Ending {
    /// All replies were correct.
    Complete,
    /// A signal with this number ended it. The report covers the time before.
    Interrupted(i32),
}

/// Measures the server and prints the report.
///
/// # Errors
///
/// Returns an error if the server cannot be measured, and, after the report, if
/// replies were missing or wrong.
pub(crate) fn run(options: &Options) -> anyhow::Result<Ending> {
    let (host, port) = &options.addr;
    let addr = target::select(host, *port)?;
    check_open_file_limit(options)?;

    let (record, signal) = measure(addr, options)?;
    print_report(&Report::new(options, addr, &record), options)?;
    match signal {
        Some(signal) => Ok(Ending::Interrupted(signal)),
        None if record.is_success() => Ok(Ending::Complete),
        None => bail!("{addr}: replies missing or wrong; see the report"),
    }
}

fn print_report(report: &Report<'_>, options: &Options) -> anyhow::Result<()> {
    let text = if options.json { format!("{}\n", report.to_json()) } else { report.to_string() };
    match cli::stdio::write(text.as_bytes()) {
        // The reader has seen enough, as in `| head -1`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => bail!("cannot write standard output: {}", without_errno(&error)),
        Ok(()) => Ok(()),
    }
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

/// Opens all connections, then starts the measurement on all threads. Returns
/// what they measured, and the signal that ended it, if any.
fn measure(addr: SocketAddr, options: &Options) -> anyhow::Result<(Record, Option<i32>)> {
    let pattern = Arc::new(Pattern::new(options.size));
    let shares = Share::for_threads(options);
    let total = options.warm_up.saturating_add(options.duration);
    let (mut reactor, sender, coordinator) = Coordinator::new(total, shares.len())?;
    let results = thread::scope(|scope| {
        let mut threads = Vec::new();
        for share in shares {
            let (start_tx, start_rx) = mpsc::channel();
            let (sender, pattern) = (EndGuard::new(sender.clone()), Arc::clone(&pattern));
            let generate = move || generate(addr, share, pattern, options, sender, &start_rx);
            match thread::Builder::new().spawn_scoped(scope, generate) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    coordinator.borrow_mut().abort();
                    threads.clear();
                    bail!("cannot start a thread: {error}; use fewer --threads");
                }
            }
            coordinator.borrow_mut().add_thread(start_tx);
        }
        drop(sender);
        // Returns when all threads have ended.
        let result = reactor.run().context("the event loop failed");
        coordinator.borrow_mut().abort();
        // All of them, so that a second panic does not replace the first error.
        let results: Vec<_> = threads.into_iter().map(join).collect();
        result.map(|()| results)
    })?;
    let signal = coordinator.borrow().signal();
    Ok((merge(results)?, signal))
}

/// Returns what all threads measured, or the first error. The further ones are
/// logged.
fn merge(results: Vec<anyhow::Result<Record>>) -> anyhow::Result<Record> {
    let mut merged = Record::new()?;
    let mut first = Ok(());
    for result in results {
        match (result, &first) {
            (Ok(record), _) => merged.merge(record)?,
            (Err(error), Ok(())) => first = Err(error),
            // Often the same: the server refuses all threads.
            (Err(error), Err(_)) => log::info!("another thread: {error:#}"),
        }
    }
    first.map(|()| merged)
}

fn join(thread: ScopedJoinHandle<'_, anyhow::Result<Record>>) -> anyhow::Result<Record> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

/// The work of one thread.
fn generate(
    addr: SocketAddr,
    share: Share,
    pattern: Arc<Pattern>,
    options: &Options,
    mut end: EndGuard,
    start_rx: &mpsc::Receiver<Arc<MessageCount>>,
) -> anyhow::Result<Record> {
    let mut generator = Generator::new(addr, share, pattern, options)?;
    end.send(Event::Opening(generator.handle()));
    let is_stopped = || matches!(start_rx.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    if generator.open(is_stopped)? {
        end.send(Event::Ready);
        // An error if all threads must end.
        if let Ok(progress) = start_rx.recv() {
            generator.measure(&progress)?;
        }
    }
    let record = generator.finish()?;
    end.is_success = record.errors().is_empty();
    Ok(record)
}

/// Reports the end of a thread, also if it panics.
struct EndGuard {
    sender: InboxSender<Event>,
    is_success: bool,
}

impl EndGuard {
    fn new(sender: InboxSender<Event>) -> Self {
        EndGuard { sender, is_success: false }
    }

    fn send(&self, event: Event) {
        // The main thread receives until all threads have ended.
        let _ = self.sender.send(event);
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.send(Event::Ended { is_success: self.is_success });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that panics must not end the program before the others are
    /// joined.
    #[test]
    fn first_error_of_the_threads_is_returned() {
        let results = thread::scope(|scope| {
            let failing = scope.spawn(|| Err(anyhow!("the first")));
            let panicking = scope.spawn(|| panic!("a panic of this test"));
            vec![Record::new(), join(failing), join(panicking)]
        });
        assert_eq!(merge(results).err().unwrap().to_string(), "the first");
    }
}
