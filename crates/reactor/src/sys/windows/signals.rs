//! [`SignalSource`] on Windows: console events as a source that becomes readable.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Socket, Type};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, CTRL_SHUTDOWN_EVENT,
};
use windows_sys::core::BOOL;

use crate::sys::ffi;
use crate::sys::source::Source;

const HANDLED: BOOL = 1;
const NOT_HANDLED: BOOL = 0;

/// Who receives the console events of this process.
static RECEIVERS: Mutex<Receivers> = Mutex::new(Receivers { is_installed: false, sockets: vec![] });

struct Receivers {
    /// The system calls [`handle_event`].
    is_installed: bool,
    sockets: Vec<Weak<Socket>>,
}

/// Receives the console events that ask a program to end.
///
/// It is a UDP socket that is connected to itself: each event is a datagram with its
/// number. No other socket can send to it.
pub(crate) struct SignalSource(Arc<Socket>);

impl SignalSource {
    /// Receives Ctrl-C, Ctrl-Break, and that the console is closed or the system shut down.
    pub(crate) fn termination() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        ffi::set_exclusive_address(&socket)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.connect(&socket.local_addr()?)?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(socket);
        let mut receivers = lock();
        if !receivers.is_installed {
            ffi::add_console_handler(handle_event)?;
            receivers.is_installed = true;
        }
        receivers.sockets.push(Arc::downgrade(&socket));
        Ok(SignalSource(socket))
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::from(&*self.0)
    }

    /// Removes the events that arrived and returns their numbers.
    pub(crate) fn take_arrived(&mut self) -> impl Iterator<Item = i32> + '_ {
        std::iter::from_fn(|| {
            let mut event = [0];
            recv(&*self.0, &mut event, RecvFlags::empty()).ok()?;
            Some(event[0].into())
        })
    }
}

/// Called by the system, on a thread of its own. Returns `HANDLED` if the program has handled
/// the event; otherwise the system ends the process.
extern "system" fn handle_event(event: u32) -> BOOL {
    let is_final = match event {
        CTRL_C_EVENT | CTRL_BREAK_EVENT => false,
        CTRL_CLOSE_EVENT | CTRL_SHUTDOWN_EVENT => true,
        _ => return NOT_HANDLED,
    };
    let is_received = send_to_receivers(event);
    while is_final && is_received {
        // The system ends the process as soon as this function returns, and otherwise
        // after some seconds ("HandlerRoutine callback function": Timeouts). The reactor
        // needs that time to end the program properly.
        thread::park();
    }
    HANDLED
}

/// Sends `event` to all sources. Returns `true` if there is one.
fn send_to_receivers(event: u32) -> bool {
    let mut receivers = lock();
    receivers.sockets.retain(|socket| match socket.upgrade() {
        // If its buffer is full, it is readable anyway.
        Some(socket) => {
            let _ = socket.send(&event.to_le_bytes()[..1]);
            true
        }
        None => false,
    });
    !receivers.sockets.is_empty()
}

fn lock() -> MutexGuard<'static, Receivers> {
    // No code that can panic runs under the lock.
    RECEIVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for SignalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_receives_each_event() {
        let mut sources = [(); 2].map(|()| SignalSource::termination().unwrap());
        assert!(!sources[0].source().check_readable());
        assert_eq!(handle_event(CTRL_C_EVENT), HANDLED);
        assert_eq!(handle_event(CTRL_BREAK_EVENT), HANDLED);
        assert_eq!(handle_event(u32::MAX), NOT_HANDLED);
        for source in &mut sources {
            assert!(source.source().check_readable());
            let expected = [CTRL_C_EVENT, CTRL_BREAK_EVENT].map(u32::cast_signed);
            assert_eq!(source.take_arrived().collect::<Vec<_>>(), expected);
        }
        drop(sources);
        // There is no source left: the system may end the process.
        assert_eq!(handle_event(CTRL_CLOSE_EVENT), HANDLED);
    }
}
