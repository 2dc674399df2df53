//! [`Inbox`]: a channel for messages from other threads.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reactor::{CloseReason, Context, Dispatcher, Handle};
use crate::sys::source::Source;
use crate::token::Token;

/// How many messages are handled in one turn.
const MAX_MESSAGES_PER_TURN: usize = 1024;

/// Creates a queue that other threads send messages to, and the channel that handles
/// them on the loop's thread.
///
/// Unlike a job of [`Handle::post`](crate::Handle::post), `handler` need not be [`Send`],
/// so it may own an `Rc` that it shares with protocols. Many messages cause one wake-up.
/// The channel keeps the loop running, also during a [`drain`](Context::drain), until all
/// senders are dropped, and then closes. At most `capacity` messages are queued;
/// `usize::MAX` for no limit.
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc, thread};
/// use reactor::{Reactor, inbox};
///
/// # fn main() -> std::io::Result<()> {
/// let sum = Rc::new(Cell::new(0));
/// let total = Rc::clone(&sum);
/// let (sender, inbox) = inbox(1_000, move |_cx, number: u32| {
///     total.set(total.get() + number);
///     Ok(())
/// });
/// let mut reactor = Reactor::new()?;
/// reactor.add(inbox)?;
/// let thread = thread::spawn(move || (1..=10).for_each(|n| sender.send(n).unwrap()));
/// reactor.run()?; // until the sender is dropped
/// assert_eq!(sum.get(), 55);
/// # thread.join().unwrap();
/// # Ok(())
/// # }
/// ```
pub fn inbox<T: Send + 'static>(
    capacity: usize,
    handler: impl FnMut(&mut Context, T) -> io::Result<()> + 'static,
) -> (InboxSender<T>, Inbox<T>) {
    let queue = Queue { messages: VecDeque::new(), capacity, senders: 1, receiver: Receiver::New };
    let shared = Arc::new(Mutex::new(queue));
    let inbox = Inbox { shared: Arc::clone(&shared), handler: Box::new(handler) };
    (InboxSender(shared), inbox)
}

type Handler<T> = Box<dyn FnMut(&mut Context, T) -> io::Result<()>>;

/// Handles the messages of an [`inbox`], once it is added to a reactor.
#[must_use]
pub struct Inbox<T> {
    shared: Arc<Mutex<Queue<T>>>,
    handler: Handler<T>,
}

/// Sends messages to an [`inbox`], from any thread.
#[must_use]
pub struct InboxSender<T: Send + 'static>(Arc<Mutex<Queue<T>>>);

struct Queue<T> {
    messages: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receiver: Receiver,
}

/// State machine for the receiving end: `New` until the channel is added, then `Idle`
/// and `Notified` in turn, and `Closed` in the end.
enum Receiver {
    New,
    /// The next message, or the end of the last sender, notifies the channel.
    Idle(Handle, Token),
    /// The channel will check the queue.
    Notified,
    Closed,
}

impl<T: Send + 'static> InboxSender<T> {
    /// Queues `message` for the loop's thread. Never blocks.
    ///
    /// # Errors
    ///
    /// Returns the message if the queue is full, or if the inbox was closed or its
    /// reactor dropped.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut queue = lock(&self.0);
        if matches!(queue.receiver, Receiver::Closed) {
            return Err(SendError::Closed(message));
        }
        if queue.messages.len() >= queue.capacity {
            return Err(SendError::Full(message));
        }
        queue.messages.push_back(message);
        queue.notify();
        // The loop has ended meanwhile.
        if matches!(queue.receiver, Receiver::Closed)
            && let Some(message) = queue.messages.pop_back()
        {
            return Err(SendError::Closed(message));
        }
        Ok(())
    }
}

impl<T: Send + 'static> Queue<T> {
    /// Ensures that the channel checks the queue.
    fn notify(&mut self) {
        self.receiver = match std::mem::replace(&mut self.receiver, Receiver::Closed) {
            Receiver::Idle(handle, token) => {
                let deliver = move |cx: &mut Context| {
                    cx.call_channel(token, |inbox: &mut Inbox<T>, cx| inbox.deliver(cx));
                };
                if handle.post(deliver).is_ok() { Receiver::Notified } else { Receiver::Closed }
            }
            other => other,
        };
    }
}

impl<T: Send + 'static> Inbox<T> {
    fn deliver(&mut self, cx: &mut Context) -> io::Result<()> {
        for _ in 0..MAX_MESSAGES_PER_TURN {
            if cx.is_closing() {
                return Ok(());
            }
            let mut queue = lock(&self.shared);
            let Some(message) = queue.messages.pop_front() else {
                if queue.senders == 0 {
                    cx.close(cx.token());
                }
                queue.receiver = Receiver::Idle(cx.handle(), cx.token());
                return Ok(());
            };
            drop(queue);
            (self.handler)(cx, message)?;
        }
        // The rest in the next turn, so that senders cannot starve I/O.
        let mut queue = lock(&self.shared);
        queue.receiver = Receiver::Idle(cx.handle(), cx.token());
        queue.notify();
        Ok(())
    }
}

impl<T: Send + 'static> Dispatcher for Inbox<T> {
    fn source(&self) -> Source<'_> {
        Source::NONE
    }

    fn handle_add(&mut self, cx: &mut Context) -> io::Result<()> {
        self.deliver(cx)
    }

    fn handle_close(&mut self, _cx: &mut Context, _reason: &CloseReason) {
        let mut queue = lock(&self.shared);
        queue.receiver = Receiver::Closed;
        let messages = std::mem::take(&mut queue.messages);
        drop(queue);
        if !messages.is_empty() {
            log::warn!("inbox: closed with {} messages queued", messages.len());
        }
    }
}

impl<T> Drop for Inbox<T> {
    /// An inbox that was never added rejects messages too.
    fn drop(&mut self) {
        lock(&self.shared).receiver = Receiver::Closed;
    }
}

impl<T: Send + 'static> Clone for InboxSender<T> {
    fn clone(&self) -> Self {
        lock(&self.0).senders += 1;
        InboxSender(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> Drop for InboxSender<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.senders -= 1;
        if queue.senders == 0 {
            queue.notify();
        }
    }
}

fn lock<T>(shared: &Mutex<Queue<T>>) -> MutexGuard<'_, Queue<T>> {
    // No user code runs under the lock, so that a poisoned one guards a valid queue.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queued = lock(&self.shared).messages.len();
        f.debug_struct("Inbox").field("queued", &queued).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> fmt::Debug for InboxSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queued = lock(&self.0).messages.len();
        f.debug_struct("InboxSender").field("queued", &queued).finish_non_exhaustive()
    }
}

/// A message could not be sent to an [`inbox`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The inbox contains as many messages as it can.
    Full(T),
    /// The inbox was closed, or its reactor dropped.
    Closed(T),
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "Full(..)",
            SendError::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "the inbox is full",
            SendError::Closed(_) => "the inbox is closed",
        })
    }
}

impl<T> Error for SendError<T> {}
