//! [`DatagramProtocol`]: the callbacks of a datagram socket.

use std::io;

use crate::address::Address;
use crate::datagram::DatagramIo;
use crate::reactor::{Cause, CloseReason, TimerId};

/// The callbacks of a datagram socket. Only [`handle_datagram`](Self::handle_datagram) is
/// required. The others are like those of [`Protocol`](crate::Protocol).
///
/// # Examples
///
/// ```
/// use std::io;
/// use reactor::{Address, DatagramIo, DatagramProtocol};
///
/// /// Sends back what it receives.
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn handle_datagram(
///         &mut self,
///         io: &mut DatagramIo<'_>,
///         data: &[u8],
///         from: &Address,
///     ) -> io::Result<()> {
///         io.send_to(data, from)
///     }
/// }
/// ```
#[expect(clippy::missing_errors_doc, reason = "the trait documents what an `Err` does")]
pub trait DatagramProtocol: 'static {
    /// Returns `true` if the socket is to receive. Default: `true`.
    fn readable(&self) -> bool {
        true
    }

    /// Returns `true` if [`handle_write`](Self::handle_write) is to be called when the
    /// kernel has room for a datagram. Default: `false`.
    fn writable(&self) -> bool {
        false
    }

    /// Called when the socket was added to the reactor. Default: nothing.
    fn handle_add(&mut self, _io: &mut DatagramIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called with a datagram, which may be empty. An `Err` does not close the socket,
    /// because other peers use it too. It is passed to
    /// [`handle_datagram_error`](Self::handle_datagram_error).
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        from: &Address,
    ) -> io::Result<()>;

    /// Called when [`handle_datagram`](Self::handle_datagram) failed for a datagram of
    /// `from`, for example because a reply could not be sent. Default: logs the error at
    /// debug level.
    fn handle_datagram_error(
        &mut self,
        _io: &mut DatagramIo<'_>,
        from: &Address,
        error: &io::Error,
    ) {
        log::debug!("datagram from {from}: {error}");
    }

    /// Called when the kernel has room, if [`writable`](Self::writable) returned `true`.
    /// Default: nothing.
    fn handle_write(&mut self, _io: &mut DatagramIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called when a timer set by [`DatagramIo::set_timer`] expires. Default: nothing.
    fn handle_timer(&mut self, _io: &mut DatagramIo<'_>, _timer: TimerId) -> io::Result<()> {
        Ok(())
    }

    /// Called when the reactor starts to drain
    /// ([`Context::drain`](crate::Context::drain)). The default closes the socket,
    /// because a conversation over datagrams has no end to wait for.
    fn handle_drain(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        io.close();
        Ok(())
    }

    /// Called when a callback failed or panicked; the socket is about to close. Default:
    /// logs a warning.
    fn handle_error(&mut self, io: &mut DatagramIo<'_>, cause: &Cause) {
        log::warn!("{}: {cause}", io.local_addr());
    }

    /// Called when the socket is closed. Default: logs the reason at debug level.
    fn handle_close(&mut self, io: &mut DatagramIo<'_>, reason: &CloseReason) {
        log::debug!("{}: {reason}", io.local_addr());
    }
}
