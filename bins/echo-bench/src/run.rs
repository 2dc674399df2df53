//! A run: a generator on each thread, started at the same time, and the report.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context as _, anyhow, bail};
use cli::error::without_errno;
use cli::output::STDOUT;
use reactor::{Address, InboxSender};

use crate::coordinator::{Coordinator, Event};
use crate::failure::FailureKind;
use crate::generator::Generator;
use crate::options::{Goal, Options};
use crate::pattern::Pattern;
use crate::record::Record;
use crate::report::{Measured, Report};
use crate::search::Search;
use crate::share::Share;
use crate::target;

/// How a run ended that was not a failure.
pub(crate) enum Ending {
    /// All replies were correct.
    Complete,
    /// The user ended it. The report covers the time before.
    Interrupted,
}

/// Measures the server and prints the report.
///
/// # Errors
///
/// Returns an error if the server cannot be measured, and, after the report, if
/// replies were missing or wrong.
pub(crate) fn run(options: &Options) -> anyhow::Result<Ending> {
    let addr = target::select(options)?;
    check_open_file_limit(options)?;
    log::info!("measuring {addr}");
    let measured = match &options.find_rate {
        None => measure(&addr, options)?,
        Some(goal) => find_rate(&addr, goal, options)?,
    };
    print_report(&Report::new(options, &addr, &measured), options)?;
    if measured.interrupted {
        return Ok(Ending::Interrupted);
    }
    if !measured.record.is_success() {
        bail!("{addr}: {}; see the report", reason(&measured.record));
    }
    Ok(Ending::Complete)
}

/// Returns in a few words what the errors mean.
fn reason(record: &Record) -> &'static str {
    let has = |kind| record.errors().contains_key(&kind);
    if has(FailureKind::WrongReply) || has(FailureKind::UnexpectedData) {
        "not an echo server: it sent other data than it received"
    } else if has(FailureKind::NoReply) && record.latency().is_empty() {
        "no replies; is it an echo server?"
    } else {
        "replies missing or wrong"
    }
}

/// Measures one rate after another, and returns the measurement of the highest
/// rate within the goal.
fn find_rate(addr: &Address, goal: &Goal, options: &Options) -> anyhow::Result<Measured> {
    let mut search = Search::new(goal.clone());
    let mut best = None;
    let mut interrupted = false;
    while let Some(rate) = search.next_rate() {
        let options = options.with_rate(rate);
        let measured = measure(addr, &options)?;
        interrupted = measured.interrupted;
        if interrupted {
            break;
        }
        let probe = search.record(rate, &measured.record);
        if !options.json {
            STDOUT.write_line(&probe.to_string());
        }
        if probe.is_success() {
            best = Some((rate, measured));
        }
    }
    cli::output::flush();
    match best {
        Some((rate, measured)) => {
            Ok(Measured { rate: Some(rate), search: Some(search), interrupted, ..measured })
        }
        None if interrupted => bail!("interrupted before a rate was found"),
        None => {
            let Goal { name, max, .. } = goal;
            bail!("{addr}: {name} is not within {max:?} even at 1 message per second")
        }
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
/// what they measured, and whether the user ended it.
fn measure(addr: &Address, options: &Options) -> anyhow::Result<Measured> {
    let security = options.security()?;
    let pattern = Arc::new(Pattern::new(options.size));
    let (mut reactor, sender, coordinator) = Coordinator::new(options)?;
    let results = thread::scope(|scope| {
        let mut threads = Vec::new();
        for share in Share::for_threads(options) {
            let (start_tx, start_rx) = mpsc::channel();
            let (sender, pattern) = (EndGuard::new(sender.clone()), Arc::clone(&pattern));
            let security = security.clone();
            let generator = move || Generator::new(addr.clone(), share, pattern, security, options);
            let generate = move || generate(generator()?, sender, &start_rx);
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
    let mut coordinator = coordinator.borrow_mut();
    let (interrupted, intervals) = (coordinator.is_interrupted(), coordinator.finish());
    let (record, intervals) = (merge(results)?, intervals?);
    let rate = options.rate.map(usize::from);
    Ok(Measured { record, intervals, rate, search: None, interrupted })
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
    mut generator: Generator<'_>,
    mut end: EndGuard,
    start_rx: &mpsc::Receiver<()>,
) -> anyhow::Result<Record> {
    end.send(Event::Opening(generator.handle()));
    let is_stopped = || matches!(start_rx.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    let intervals_count = Rc::new(Cell::new(0));
    if generator.open(is_stopped)? {
        end.send(Event::Ready);
        // An error if all threads must end.
        if start_rx.recv().is_ok() {
            let (sender, count) = (end.sender.clone(), Rc::clone(&intervals_count));
            generator.measure(move |number, interval| {
                count.set(number + 1);
                let _ = sender.send(Event::Interval(number, interval));
            })?;
        }
    }
    let mut record = generator.finish()?;
    if let Some(interval) = record.end_last_interval() {
        end.send(Event::Interval(intervals_count.get(), interval));
    }
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
