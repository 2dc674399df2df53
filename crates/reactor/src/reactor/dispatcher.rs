//! [`Dispatcher`]: the interface between the reactor and a channel.

use std::any::Any;
use std::io;
use std::time::Instant;

use crate::reactor::{Cause, CloseReason, Context, TimeoutKind, TimerId};
use crate::sys::source::Source;

/// Owns one I/O source and handles its readiness events.
///
/// Most programs never implement this trait: a [`Listener`](crate::Listener) accepts, a
/// [`Stream`](crate::Stream) reads and writes, and the program implements
/// [`Protocol`](crate::Protocol). Implement `Dispatcher` for a source of another kind,
/// such as a `timerfd`, an `inotify` or a device.
///
/// # Queries
///
/// [`readable`](Self::readable) and [`writable`](Self::writable) are queried after the
/// channel was added, called back, or reached with [`Context::get_mut`], but not on every
/// turn. Their results must therefore depend on the dispatcher's own state only.
/// [`poll_close`](Self::poll_close) and [`update_deadline`](Self::update_deadline) are
/// called at the same time, before them, and may change that state.
///
/// # Callbacks
///
/// Each callback receives a [`Context`] over everything else in the reactor. An `Err`
/// from one, or a panic in it, is passed to [`handle_error`](Self::handle_error) and
/// closes this channel; the loop continues. Errors that are an ordinary end of a
/// connection (`ConnectionReset`, `BrokenPipe`, `ConnectionAborted`, `NotConnected`)
/// close it without `handle_error`, as in asyncore. So do errors of the operating system
/// that report a lost peer (`TimedOut`, `HostUnreachable`, `NetworkUnreachable`,
/// `NetworkDown`).
///
/// # Examples
///
/// ```
/// use std::io::{self, Read};
/// use std::os::unix::net::UnixStream;
/// use reactor::{Context, Dispatcher, Reactor, Source};
///
/// /// Counts the bytes that arrive, and closes at the end of input.
/// struct Counter(UnixStream, usize);
///
/// impl Dispatcher for Counter {
///     fn source(&self) -> Source<'_> {
///         Source::from(&self.0)
///     }
///
///     fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
///         let read = self.0.read(&mut [0; 512])?;
///         self.1 += read;
///         if read == 0 {
///             assert_eq!(self.1, 5);
///             cx.close(cx.token());
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let (ours, mut theirs) = UnixStream::pair()?;
/// ours.set_nonblocking(true)?;
/// let mut reactor = Reactor::new()?;
/// reactor.add(Counter(ours, 0))?;
/// io::Write::write_all(&mut theirs, b"hello")?;
/// drop(theirs);
/// reactor.run()
/// # }
/// ```
#[expect(clippy::missing_errors_doc, reason = "the trait documents what an `Err` does")]
pub trait Dispatcher: Any {
    /// Returns the source to watch. It must be in non-blocking mode, and must not
    /// change while it is registered; to exchange it within a callback, call
    /// [`Context::deregister`] first.
    fn source(&self) -> Source<'_>;

    /// Returns `true` if [`handle_read`](Self::handle_read) is to be called when the
    /// source is readable. Default: `true`.
    fn readable(&self) -> bool {
        true
    }

    /// Returns `true` if [`handle_write`](Self::handle_write) is to be called when
    /// the source is writable. Default: `false` (asyncore's `True` made every idle
    /// socket spin).
    fn writable(&self) -> bool {
        false
    }

    /// Returns `true` if the channel waits for input only, and has no deadline. The other
    /// queries must agree; this one only saves calling them after each callback. Default:
    /// `false`, which is always correct.
    fn waits_for_input(&self) -> bool {
        false
    }

    /// Returns the cause if the channel has finished and should be closed, for example
    /// because all output was flushed after a close request. May advance the close
    /// procedure. Default: `None`.
    fn poll_close(&mut self, _cx: &mut Context) -> Option<Cause> {
        None
    }

    /// Updates the channel's deadline and returns it.
    /// [`handle_deadline`](Self::handle_deadline) is called at that instant, unless the
    /// deadline is postponed before. Compute it from [`Context::clock`] rather than
    /// [`Context::now`], because the callbacks of this turn may have taken long. Default:
    /// `None`.
    ///
    /// Postponing a deadline costs no timer operation. The reactor queries it again when
    /// the earlier instant has passed.
    fn update_deadline(&mut self, _cx: &Context) -> Option<Instant> {
        None
    }

    /// Returns the number of bytes queued but not yet written. Default: 0.
    fn unsent(&self) -> usize {
        0
    }

    /// Returns `true` if the loop may end while this channel is open, for example a
    /// signal handler. Queried once, when the channel is added. Default: `false`.
    fn is_background(&self) -> bool {
        false
    }

    /// Returns the name used in log messages. Default: the name of the type.
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// Called first, from within the loop, after the channel was added.
    fn handle_add(&mut self, _cx: &mut Context) -> io::Result<()> {
        Ok(())
    }

    /// Called when the source is readable, at end of file, or failed; a read
    /// distinguishes the three. The notification can be spurious, for example if another
    /// process has read the data. Treat `WouldBlock` as success; returning it as an error
    /// closes the channel.
    fn handle_read(&mut self, _cx: &mut Context) -> io::Result<()> {
        unhandled("read")
    }

    /// Called when the source is writable or failed; a write distinguishes the two.
    fn handle_write(&mut self, _cx: &mut Context) -> io::Result<()> {
        unhandled("write")
    }

    /// Called when urgent data is pending. The source stays ready until that data is
    /// read, so the default closes the channel with an error rather than spin.
    fn handle_expt(&mut self, _cx: &mut Context) -> io::Result<()> {
        unhandled("urgent data")
    }

    /// Called when the source hung up or failed while neither reading nor writing was
    /// wanted. If this callback does not close the channel, the reactor stops watching
    /// the source until reading or writing is wanted again, because the hang-up would be
    /// reported in every turn. Default: nothing.
    fn handle_hangup(&mut self, _cx: &mut Context) -> io::Result<()> {
        Ok(())
    }

    /// Called when the [deadline](Self::update_deadline) has passed. Default: the
    /// channel closes with [`Cause::TimedOut`].
    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        cx.close_with(Cause::TimedOut(TimeoutKind::Deadline));
        Ok(())
    }

    /// Called when a timer set by this channel with [`Context::set_timer`] expires.
    fn handle_timer(&mut self, _cx: &mut Context, _timer: TimerId) -> io::Result<()> {
        Ok(())
    }

    /// Called when the reactor starts to drain ([`Context::drain`]). Implementations
    /// should accept no new work, and close the channel when pending work is done. The
    /// default does nothing, so the channel stays open until the drain deadline.
    fn handle_drain(&mut self, _cx: &mut Context) -> io::Result<()> {
        Ok(())
    }

    /// Called when a callback failed or panicked; the channel is about to close.
    /// Default: logs a warning.
    fn handle_error(&mut self, cx: &mut Context, cause: &Cause) {
        log::warn!("channel {:?}: {cause}", cx.token());
    }

    /// Called exactly once for each channel that was added, as the last callback. Its
    /// token no longer names a channel. The dispatcher, and so the source, is dropped
    /// afterwards.
    fn handle_close(&mut self, _cx: &mut Context, _reason: &CloseReason) {}
}

/// asyncore's default handlers log a warning and continue, which spins while the
/// source is ready; ours end the channel.
fn unhandled(event: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("unhandled {event} event")))
}
