//! [`Workers`]: further threads that serve the same address, with a reactor
//! each.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, anyhow};
use cli::error::without_errno;
use reactor::{Address, Handle, InboxSender, Reactor, inbox};

use crate::listen::{Shared, Target, listen};
use crate::options::Options;
use crate::thread_config::ThreadConfig;

/// The worker threads.
///
/// Threads share no state: the kernel distributes the connections among their
/// listening sockets, or they share inherited ones, and each has a handle
/// through which it is drained and stopped.
pub(crate) struct Workers(Vec<Worker>);

struct Worker {
    handle: Handle,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Workers {
    /// Starts a worker for each of `configs`, listening as the main thread does,
    /// which has bound `addrs`. Connections count in the limit of `shared`,
    /// whichever thread accepts them.
    ///
    /// Adds a channel to `main`, which closes when all workers have ended. So
    /// `main` runs at least as long as every worker.
    ///
    /// # Errors
    ///
    /// Returns an error if a thread cannot be started or cannot listen.
    pub(crate) fn start(
        main: &mut Reactor,
        configs: &[ThreadConfig],
        target: &Target,
        addrs: &[Address],
        shared: &Shared,
        options: &Options,
    ) -> anyhow::Result<Self> {
        // No message is ever sent: the channel closes when the last sender is dropped.
        let (liveness, workers_live) = inbox(0, |_cx, never: Infallible| match never {});
        main.add(workers_live)?;
        let workers = configs.iter().map(|&config| {
            let target = target.for_worker(addrs).map_err(start_error)?;
            Worker::start(liveness.clone(), target, config, shared.clone(), options)
        });
        workers.collect::<anyhow::Result<_>>().map(Workers)
    }

    /// Returns a handle for each worker's reactor.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.0.iter().map(|worker| worker.handle.clone()).collect()
    }

    /// Joins all threads. Call it after the main reactor's `run` has returned:
    /// then they have ended or are about to.
    ///
    /// # Errors
    ///
    /// Returns the first error of a thread. The further ones are logged.
    pub(crate) fn join(self) -> anyhow::Result<()> {
        let mut first = Ok(());
        for worker in self.0 {
            let panicked = |_| Err(anyhow!("a thread panicked; see the log"));
            match (worker.thread.join().unwrap_or_else(panicked), &first) {
                (Err(error), Ok(())) => first = Err(error),
                (Err(error), Err(_)) => log::error!("another thread: {error:#}"),
                (Ok(()), _) => {}
            }
        }
        first
    }
}

impl Worker {
    /// Starts a thread and waits until it listens. The thread keeps `liveness`
    /// while it runs.
    fn start(
        liveness: InboxSender<Infallible>,
        target: Target,
        config: ThreadConfig,
        shared: Shared,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let (ready_tx, ready_rx) = mpsc::channel();
        let options = options.clone();
        let thread = thread::Builder::new().name("worker".to_owned()).spawn(move || {
            config.pin_thread()?;
            let mut reactor =
                Reactor::builder().busy_poll(options.busy_poll).build().map_err(start_error)?;
            for listener in listen(&target, &shared, &options).map_err(start_error)? {
                reactor.add(listener)?;
            }
            drop(target);
            // The receiver exists until this arrives.
            let _ = ready_tx.send(reactor.handle());
            let result = reactor.run().context("the event loop failed");
            drop(liveness);
            result
        });
        let thread = thread.map_err(start_error)?;
        match ready_rx.recv() {
            Ok(handle) => Ok(Worker { handle, thread }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => Err(anyhow!("a thread ended before it listened; see the log")),
            },
        }
    }
}

/// The main thread has bound the same address, so the cause is a resource that
/// each thread needs, and not the address.
#[expect(clippy::needless_pass_by_value, reason = "the signature of `map_err`")]
fn start_error(error: io::Error) -> anyhow::Error {
    anyhow!(
        "cannot start a thread: {}; use fewer --threads, or raise the open file limit (ulimit -n)",
        without_errno(&error)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(end: fn() -> anyhow::Result<()>) -> Worker {
        Worker { handle: Reactor::new().unwrap().handle(), thread: thread::spawn(end) }
    }

    /// Also if another thread panics.
    #[test]
    fn first_error_of_the_threads_is_returned() {
        let panic = || panic!("a panic of this test");
        let ends = [|| Ok(()), || Err(anyhow!("the first")), panic, || Err(anyhow!("a third"))];
        let error = Workers(ends.map(worker).into()).join().unwrap_err();
        assert_eq!(error.to_string(), "the first");
        let error = Workers([panic, || Err(anyhow!("a second"))].map(worker).into()).join();
        assert_eq!(error.unwrap_err().to_string(), "a thread panicked; see the log");
    }
}
