//! [`Output`]: lines for standard output and standard error that never block
//! the caller.
//!
//! A pipe that is not read, a stopped terminal (Ctrl-S) and a full disk must not
//! stop a server. A thread writes the lines of each stream. Lines that do not
//! fit in its queue are dropped whole and counted.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::line_queue::LineQueue;
use crate::sys::{PIPE_BUF, StandardStream};

/// How long the end of a program waits for pending output.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Standard output, line by line.
pub static STDOUT: Output = Output::new(StandardStream::Output);

/// Standard error, line by line: the log and errors.
pub static STDERR: Output = Output::new(StandardStream::Error);

/// A standard stream that is written by a thread.
pub struct Output {
    stream: StandardStream,
    state: Mutex<State>,
    /// Notified when lines are queued, and when all are written.
    changed: Condvar,
    first_failure: Once,
}

struct State {
    queue: LineQueue,
    writer: Writer,
}

/// State machine for the thread: `NotStarted` → `Idle` ⇄ `Writing`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    NotStarted,
    Idle,
    Writing,
}

impl Output {
    const fn new(stream: StandardStream) -> Self {
        Output {
            stream,
            state: Mutex::new(State { queue: LineQueue::new(), writer: Writer::NotStarted }),
            changed: Condvar::new(),
            first_failure: Once::new(),
        }
    }

    /// Starts the thread, unless it runs. Otherwise the first line starts it.
    /// Returns `false` if no thread can be started.
    pub fn start(&'static self) -> bool {
        self.start_locked(&mut self.lock())
    }

    /// Writes `text` and a line feed, soon. Never blocks.
    pub fn write_line(&'static self, text: &str) {
        self.push(format!("{text}\n").into_bytes().into());
    }

    /// Writes `text`, which ends with a line feed, soon, and as a whole.
    pub(crate) fn push(&'static self, text: Box<[u8]>) {
        let mut state = self.lock();
        state.queue.push(text);
        if self.start_locked(&mut state) {
            self.changed.notify_all();
        } else if self.stream.is_writable() {
            // Without a thread, writing blocks at most the second half of a
            // line that is longer than the buffer of the pipe.
            drop(self.write_batch(state));
        }
    }

    /// Waits until all lines are written, until `deadline`.
    fn flush(&self, deadline: Instant) {
        let state = self.lock();
        if state.writer == Writer::NotStarted {
            return;
        }
        let timeout = deadline.saturating_duration_since(Instant::now());
        let is_busy =
            |state: &mut State| !state.queue.is_empty() || state.writer == Writer::Writing;
        // What was not written by then is lost.
        drop(self.changed.wait_timeout_while(state, timeout, is_busy));
    }

    fn start_locked(&'static self, state: &mut State) -> bool {
        if state.writer == Writer::NotStarted {
            let thread = thread::Builder::new().name("output".to_owned());
            if thread.spawn(|| self.write_all()).is_err() {
                return false;
            }
            state.writer = Writer::Idle;
        }
        true
    }

    /// Writes lines until the program ends.
    fn write_all(&self) {
        let mut state = self.lock();
        loop {
            if state.queue.is_empty() {
                state.writer = Writer::Idle;
                self.changed.notify_all();
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state.writer = Writer::Writing;
                state = self.write_batch(state);
            }
        }
    }

    /// Writes some lines, and meanwhile releases the lock.
    fn write_batch<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        // A pipe takes this many bytes at once or not at all, so that a line is
        // whole even if the program ends while the pipe is full.
        let batch = state.queue.take_batch(PIPE_BUF);
        drop(state);
        let (written, result) = self.stream.write(&batch.bytes);
        if let Err(error) = &result {
            self.report_failure(error);
        }
        let mut state = self.lock();
        if result.is_err() {
            state.queue.record_failure(&batch, written);
        }
        state
    }

    fn report_failure(&self, error: &io::Error) {
        // A log that cannot be written cannot contain the reason.
        if std::ptr::eq(self, &raw const STDOUT) {
            self.first_failure.call_once(|| log::debug!("cannot write standard output: {error}"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until all lines of both streams are written, but not for long: a
/// program must end although its output is blocked.
pub fn flush() {
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    STDOUT.flush(deadline);
    STDERR.flush(deadline);
}
