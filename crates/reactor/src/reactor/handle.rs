//! [`Handle`]: posting work to the loop from other threads.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use crate::poll::either::Waker;
use crate::reactor::Context;
use crate::sys::process::Owner;

/// Work from another thread, to run on the loop's.
pub(super) type Job = Box<dyn FnOnce(&mut Context) + Send>;

/// Reaches a reactor from any thread. It is cheap to clone, and may outlive the
/// reactor.
///
/// # Examples
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
    pub(super) fn new(waker: Waker, owner: Owner) -> Self {
        let queue = Queue { waker: Some(waker), jobs: VecDeque::new(), owner };
        Handle(Arc::new(Shared {
            queue: Mutex::new(queue),
            attention: AtomicU8::new(Attention::Asleep as u8),
        }))
    }

    /// Runs `job` on the loop's thread, in one of its next turns. Jobs of one thread run
    /// in the order in which they were posted. A panic in a job affects that job only.
    /// The queue has no limit; the queue of an [`inbox`](crate::inbox) has one.
    ///
    /// # Errors
    ///
    /// Returns [`ReactorClosed`] and drops `job` if the reactor no longer exists.
    pub fn post(
        &self,
        job: impl FnOnce(&mut Context) + Send + 'static,
    ) -> Result<(), ReactorClosed> {
        let mut queue = self.0.lock();
        if queue.waker.is_none() {
            return Err(ReactorClosed);
        }
        // A child of fork(2) would wake the parent's loop. Checked only if it would, as the
        // check is a system call.
        if self.0.is_asleep() && !queue.owner.is_this_process() {
            queue.waker = None;
            return Err(ReactorClosed);
        }
        queue.jobs.push_back(Box::new(job));
        // One wake-up serves all jobs until the loop takes them; while the loop runs,
        // none is needed.
        if self.0.replace_attention(Attention::Posted) == Attention::Asleep
            && let Some(waker) = queue.waker.clone()
        {
            drop(queue);
            if let Err(error) = waker.wake() {
                log::error!("cannot wake the reactor; the job waits for its next event: {error}");
            }
        }
        Ok(())
    }

    /// Runs `f` on the loop's thread, waits for it, and returns its result. Do not call
    /// it on the loop's own thread, where it would wait forever.
    ///
    /// # Errors
    ///
    /// Returns [`ReactorClosed`] if the reactor no longer exists, is dropped before
    /// `f` has run, or `f` panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::new()?;
    /// let handle = reactor.handle();
    /// reactor.context().call_later(std::time::Duration::from_secs(60), |_| {});
    /// let other = thread::spawn(move || {
    ///     let count = handle.call(|cx| cx.channels().len());
    ///     handle.stop().map(|()| count)
    /// });
    /// reactor.run()?;
    /// assert_eq!(other.join().unwrap(), Ok(Ok(0)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Context) -> R + Send + 'static,
    ) -> Result<R, ReactorClosed> {
        let (result_tx, result_rx) = mpsc::channel();
        self.post(move |cx| {
            // The caller waits for it.
            let _ = result_tx.send(f(cx));
        })?;
        result_rx.recv().map_err(|_| ReactorClosed)
    }

    /// Like [`Context::stop`], but from any thread.
    ///
    /// # Errors
    ///
    /// The same as for [`post`](Self::post).
    pub fn stop(&self) -> Result<(), ReactorClosed> {
        self.post(Context::stop)
    }

    /// Like [`Context::drain`], but from any thread.
    ///
    /// # Errors
    ///
    /// The same as for [`post`](Self::post).
    pub fn drain(&self, timeout: Duration) -> Result<(), ReactorClosed> {
        self.post(move |cx| cx.drain(timeout))
    }

    /// Moves the posted jobs to the end of `jobs`. Until [`try_sleep`](Self::try_sleep)
    /// succeeds, posts do not wake the loop.
    pub(super) fn take_jobs(&self, jobs: &mut VecDeque<Job>) {
        // If this does not find `Posted`, a later post finds `Awake`: it does not wake the
        // loop, but `try_sleep` fails, and its job is taken then.
        if self.0.replace_attention(Attention::Awake) == Attention::Posted {
            jobs.append(&mut self.0.lock().jobs);
        }
    }

    /// Lets the loop wait without limit, because the next post wakes it. Returns `false`
    /// if jobs were posted meanwhile.
    ///
    /// A needless wake-up costs more than a system call: a wait that starts with one
    /// may return without having checked any source (`polling` on poll(2)), so that
    /// posts would starve I/O.
    pub(super) fn try_sleep(&self) -> bool {
        let (awake, asleep) = (Attention::Awake as u8, Attention::Asleep as u8);
        let result =
            self.0.attention.compare_exchange(awake, asleep, Ordering::AcqRel, Ordering::Acquire);
        result.is_ok()
    }

    /// Returns `true` if jobs were posted that the loop has not taken.
    pub(super) fn has_jobs(&self) -> bool {
        self.0.attention.load(Ordering::Acquire) == Attention::Posted as u8
    }

    /// Rejects further posts, and drops the jobs that are queued.
    pub(super) fn close(&self) {
        let mut queue = self.0.lock();
        queue.waker = None;
        let jobs = mem::take(&mut queue.jobs);
        drop(queue);
        // Outside the lock: the destructor of a job may post.
        drop(jobs);
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// An [`Attention`].
    attention: AtomicU8,
}

/// State machine for what the loop does about posts.
///
/// | from | event | to |
/// | --- | --- | --- |
/// | any | `post` | `Posted`; wakes the loop if it was `Asleep` |
/// | any | `take_jobs` | `Awake`; takes the queue if it was `Posted` |
/// | `Awake` | `try_sleep` | `Asleep` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Attention {
    /// The loop checks for jobs before it waits.
    Awake,
    /// The loop may be waiting.
    Asleep,
    /// The queue contains jobs that the loop has not taken; none if one was posted while
    /// `take_jobs` was between its two steps, and so was taken with the others.
    Posted,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No user code runs under the lock, so that a poisoned one guards a valid queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_asleep(&self) -> bool {
        self.attention.load(Ordering::Acquire) == Attention::Asleep as u8
    }

    fn replace_attention(&self, next: Attention) -> Attention {
        match self.attention.swap(next as u8, Ordering::AcqRel) {
            previous if previous == Attention::Awake as u8 => Attention::Awake,
            previous if previous == Attention::Posted as u8 => Attention::Posted,
            _ => Attention::Asleep,
        }
    }
}

struct Queue {
    /// `None` once the reactor is dropped.
    waker: Option<Waker>,
    jobs: VecDeque<Job>,
    owner: Owner,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("jobs", &self.jobs.len())
            .field("closed", &self.waker.is_none())
            .finish_non_exhaustive()
    }
}

/// The reactor that a [`Handle`] belongs to has been dropped, or belongs to the parent
/// process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReactorClosed;

impl fmt::Display for ReactorClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor has been dropped")
    }
}

impl Error for ReactorClosed {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Reactor;

    /// A job that is posted between the two steps of `take_jobs` leaves `Posted` behind.
    #[test]
    fn invariant_11_loop_sleeps_although_the_job_that_was_posted_is_taken() {
        let mut reactor = Reactor::new().unwrap();
        let handle = reactor.handle();
        let taken = handle.clone();
        let leave_mark = move |_: &mut Context| {
            taken.0.replace_attention(Attention::Posted);
        };
        handle.post(leave_mark).unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(handle.0.is_asleep(), "the next post would not wake the loop");
    }
}
