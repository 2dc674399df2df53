//! [`Coordinator`]: starts all threads at the same time, and stops them at a
//! signal or after an error.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::Sender;

use anyhow::anyhow;
use cli::error::with_fd_hint;
use reactor::signal::Signals;
use reactor::{Handle, InboxSender, Reactor, inbox};
use serde_json::Value;

use crate::interval::Interval;
use crate::options::Options;
use crate::progress::Progress;
use crate::timeline::{self, Timeline};

/// What a thread reports to the main thread.
pub(crate) enum Event {
    /// It has a reactor and opens its connections.
    Opening(Handle),
    /// All its connections are ready.
    Ready,
    /// What it measured in an interval, which has this number.
    Interval(usize, Interval),
    /// It has ended. After an error the others must end too.
    Ended { is_success: bool },
}

/// The state of the main thread.
pub(crate) struct Coordinator {
    /// Number of threads that are not yet ready.
    pending: usize,
    handles: Vec<Handle>,
    /// Starts the threads. Dropped to stop those that wait for it.
    start_txs: Vec<Sender<()>>,
    progress: Progress,
    is_quiet: bool,
    timeline: Timeline,
    /// Whether a line is printed for each interval.
    prints_lines: bool,
    state: State,
}

/// State machine for the threads: they are stopped at most once.
enum State {
    Running,
    Stopped,
    /// Stopped by the user.
    Interrupted,
}

impl Coordinator {
    /// Creates the reactor of the main thread. It runs until all clones of the
    /// sender are dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if the reactor or the signal handler is not available, or
    /// the file of `--hdr` cannot be created.
    pub(crate) fn new(
        options: &Options,
    ) -> anyhow::Result<(Reactor, InboxSender<Event>, Rc<RefCell<Self>>)> {
        let coordinator = Rc::new(RefCell::new(Coordinator {
            pending: options.threads(),
            handles: Vec::new(),
            start_txs: Vec::new(),
            progress: Progress::new(options),
            is_quiet: options.quiet,
            timeline: Timeline::new(options.threads(), options)?,
            prints_lines: options.reports_intervals() && !options.json,
            state: State::Running,
        }));
        let mut reactor = Reactor::new()
            .map_err(|error| anyhow!("cannot create the event loop: {}", with_fd_hint(&error)))?;
        let state = Rc::clone(&coordinator);
        let (sender, inbox) = inbox(usize::MAX, move |_cx, event| {
            state.borrow_mut().on_event(event);
            Ok(())
        });
        reactor.add(inbox)?;
        let state = Rc::clone(&coordinator);
        let signals = Signals::termination(move |_cx| state.borrow_mut().stop(State::Interrupted));
        let signals =
            signals.map_err(|error| anyhow!("cannot catch signals: {}", with_fd_hint(&error)))?;
        reactor.add(signals)?;
        Ok((reactor, sender, coordinator))
    }

    /// Adds a thread, which waits for the start.
    pub(crate) fn add_thread(&mut self, start_tx: Sender<()>) {
        self.start_txs.push(start_tx);
    }

    /// Stops all threads.
    pub(crate) fn abort(&mut self) {
        self.stop(State::Stopped);
    }

    /// Returns `true` if the user ended the run.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self.state, State::Interrupted)
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opening(handle) if matches!(self.state, State::Running) => {
                self.handles.push(handle);
            }
            // A thread that has ended returns an error.
            Event::Opening(handle) => drop(handle.stop()),
            Event::Ready => {
                self.pending -= 1;
                if self.pending == 0 {
                    self.start();
                }
            }
            Event::Interval(number, interval) => {
                for interval in self.timeline.add(number, interval) {
                    self.report(&interval);
                }
            }
            Event::Ended { is_success: true } => {}
            Event::Ended { is_success: false } => self.stop(State::Stopped),
        }
    }

    fn start(&mut self) {
        if !self.is_quiet {
            self.progress.start();
        }
        for start_tx in self.start_txs.drain(..) {
            // A thread that has ended reports that separately.
            let _ = start_tx.send(());
        }
    }

    fn report(&mut self, interval: &Interval) {
        self.progress.set_status(timeline::status(interval));
        if self.prints_lines {
            let line = self.timeline.line(interval);
            self.progress.print_line(line);
        }
    }

    /// Reports the last intervals, and returns all if they are part of the
    /// result. Call it when all threads have ended.
    ///
    /// # Errors
    ///
    /// Returns an error if the file of `--hdr` could not be written.
    pub(crate) fn finish(&mut self) -> anyhow::Result<Option<Vec<Value>>> {
        for interval in self.timeline.take_rest() {
            self.report(&interval);
        }
        self.timeline.finish()
    }

    fn stop(&mut self, state: State) {
        if matches!(self.state, State::Running) {
            self.state = state;
        }
        self.start_txs.clear();
        for handle in self.handles.drain(..) {
            let _ = handle.stop();
        }
    }
}
