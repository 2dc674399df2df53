//! [`Handle`]: a way into the loop from other threads.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::poll::Waker;
use crate::reactor::context::Context;

/// Work from another thread, to run on the loop's.
pub(crate) type Job = Box<dyn FnOnce(&mut Context) + Send>;

/// Reaches a reactor from any thread: cheap to clone, and to keep after the
/// reactor is gone.
///
/// ```
/// use std::thread;
/// use reactor::{Reactor, Listener, Protocol, Io};
///
/// # struct Quiet;
/// # impl Protocol for Quiet {
/// #     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> std::io::Result<()> { Ok(()) }
/// # }
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// reactor.add(Listener::bind("127.0.0.1:0", |_| Ok(Quiet))?)?;
/// let handle = reactor.handle();
/// let other = thread::spawn(move || handle.stop());
/// reactor.run()?; // ends because of the other thread
/// # other.join().unwrap().unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(crate) fn new(waker: Waker) -> Self {
        let queue = Queue { waker: Some(waker), jobs: VecDeque::new(), awake: false };
        Handle(Arc::new(Shared { queue: Mutex::new(queue) }))
    }

    /// Runs `job` on the loop's thread, in one of its next turns. Jobs of one
    /// thread run in the order in which they were posted. A panic in a job
    /// costs that job only.
    ///
    /// Fails where the reactor is gone; `job` is dropped then.
    pub fn post(
        &self,
        job: impl FnOnce(&mut Context) + Send + 'static,
    ) -> Result<(), ReactorClosed> {
        let mut queue = self.0.lock();
        let Some(waker) = queue.waker.clone() else { return Err(ReactorClosed) };
        queue.jobs.push_back(Box::new(job));
        // However many jobs come before the loop looks, one wake-up serves;
        // while the loop runs, none is needed.
        let wake = !mem::replace(&mut queue.awake, true);
        drop(queue);
        if wake && let Err(error) = waker.wake() {
            log::error!("cannot wake the reactor, a post waits for its next event: {error}");
        }
        Ok(())
    }

    /// [`Context::stop`] from any thread.
    pub fn stop(&self) -> Result<(), ReactorClosed> {
        self.post(Context::stop)
    }

    /// [`Context::drain`] from any thread.
    pub fn drain(&self, timeout: Duration) -> Result<(), ReactorClosed> {
        self.post(move |cx| cx.drain(timeout))
    }

    /// Moves what was posted to the end of `jobs`. Posts need not wake the
    /// loop from here until it says [`may_sleep`](Self::may_sleep).
    pub(crate) fn take(&self, jobs: &mut VecDeque<Job>) {
        let mut queue = self.0.lock();
        queue.awake = true;
        if jobs.is_empty() {
            mem::swap(jobs, &mut queue.jobs);
        } else {
            jobs.append(&mut queue.jobs);
        }
    }

    /// Whether the loop, done with its turn and with no job of its own left,
    /// may wait for as long as it likes: the next post will wake it. Not where
    /// one came in meanwhile.
    ///
    /// A wake-up that nobody needs is more than a wasted system call: a `wait`
    /// that begins with one may return without having looked at any source
    /// (`polling` on poll(2)), and posts that post would starve I/O.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut queue = self.0.lock();
        queue.awake = !queue.jobs.is_empty();
        !queue.awake
    }

    /// Whether a post waits.
    pub(crate) fn has_posts(&self) -> bool {
        !self.0.lock().jobs.is_empty()
    }

    /// Refuses posts from now on, and drops those that wait.
    pub(crate) fn close(&self) {
        let mut queue = self.0.lock();
        queue.waker = None;
        let jobs = mem::take(&mut queue.jobs);
        drop(queue);
        // Outside of the lock: what a job owns may post in its destructor.
        drop(jobs);
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing of the user's runs under the lock, so a poisoned one still
        // guards a whole queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Queue {
    /// `None` once the reactor is gone: a handle keeps nothing of it open.
    waker: Option<Waker>,
    jobs: VecDeque<Job>,
    /// The loop will look here of itself before it waits.
    awake: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("jobs", &self.jobs.len())
            .field("closed", &self.waker.is_none())
            .finish_non_exhaustive()
    }
}

/// The reactor that a [`Handle`] reached is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReactorClosed;

impl fmt::Display for ReactorClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor is gone")
    }
}

impl Error for ReactorClosed {}
