//! [`Coordinator`]: starts all threads at the same time, and stops them at a
//! signal or after an error.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::anyhow;
use cli::error::with_fd_hint;
use reactor::signal::{SIGINT, Signals};
use reactor::{Handle, InboxSender, Reactor, inbox};

use crate::progress::{MessageCount, Progress};

/// What a thread reports to the main thread.
pub(crate) enum Event {
    /// It has a reactor and opens its connections.
    Opening(Handle),
    /// All its connections are ready.
    Ready,
    /// It has ended. After an error the others must end too.
    Ended { is_success: bool },
}

/// The state of the main thread.
pub(crate) struct Coordinator {
    /// Total duration, for the progress bar.
    total: Duration,
    /// Number of threads that are not yet ready.
    pending: usize,
    handles: Vec<Handle>,
    /// Starts the threads. Dropped to stop those that wait for it.
    start_txs: Vec<Sender<Arc<MessageCount>>>,
    progress: Option<Progress>,
    state: State,
}

/// State machine for the threads: they are stopped at most once.
enum State {
    Running,
    Stopped,
    /// Stopped by a signal with this number.
    Interrupted(i32),
}

impl Coordinator {
    /// Creates the reactor of the main thread. It runs until all clones of the
    /// sender are dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if the reactor or the signal handler is not available.
    pub(crate) fn new(
        total: Duration,
        threads: usize,
    ) -> anyhow::Result<(Reactor, InboxSender<Event>, Rc<RefCell<Self>>)> {
        let coordinator = Rc::new(RefCell::new(Coordinator {
            total,
            pending: threads,
            handles: Vec::new(),
            start_txs: Vec::new(),
            progress: None,
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
        let signals = Signals::new(&[SIGINT], move |_cx, signal| {
            state.borrow_mut().stop(State::Interrupted(signal));
        });
        let signals =
            signals.map_err(|error| anyhow!("cannot catch signals: {}", with_fd_hint(&error)))?;
        reactor.add(signals)?;
        Ok((reactor, sender, coordinator))
    }

    /// Adds a thread, which waits for the start.
    pub(crate) fn add_thread(&mut self, start_tx: Sender<Arc<MessageCount>>) {
        self.start_txs.push(start_tx);
    }

    /// Stops all threads.
    pub(crate) fn abort(&mut self) {
        self.stop(State::Stopped);
    }

    /// Returns the signal that ended the run, if any.
    pub(crate) fn signal(&self) -> Option<i32> {
        match self.state {
            State::Interrupted(signal) => Some(signal),
            State::Running | State::Stopped => None,
        }
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
            Event::Ended { is_success: true } => {}
            Event::Ended { is_success: false } => self.stop(State::Stopped),
        }
    }

    fn start(&mut self) {
        let progress = self.progress.insert(Progress::new(self.total));
        for start_tx in self.start_txs.drain(..) {
            // A thread that has ended reports that separately.
            let _ = start_tx.send(Arc::clone(progress.count()));
        }
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
