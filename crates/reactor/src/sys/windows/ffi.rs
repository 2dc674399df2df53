//! The two functions of Windows for which no crate has a safe wrapper.
#![allow(unsafe_code, reason = "calls of the operating system")]

use std::io;
use std::os::windows::io::AsRawSocket;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock::{
    SO_EXCLUSIVEADDRUSE, SOCKET, SOL_SOCKET, setsockopt,
};
use windows_sys::Win32::System::Console::SetConsoleCtrlHandler;
use windows_sys::core::BOOL;

/// Lets no other socket bind the address that `socket` will be bound to, not even with
/// `SO_REUSEADDR`.
pub(super) fn set_exclusive_address(socket: &Socket) -> io::Result<()> {
    let enable: i32 = 1;
    let (value, len) = ((&raw const enable).cast(), 4);
    // SAFETY: the socket is open, and `value` points to `len` bytes, which the function
    // only reads.
    let result = unsafe {
        setsockopt(socket.as_raw_socket() as SOCKET, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, value, len)
    };
    // `setsockopt` stores its error where `last_os_error` reads it.
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the system call `handler`, on a thread of its own, for each console event.
pub(super) fn add_console_handler(handler: extern "system" fn(u32) -> BOOL) -> io::Result<()> {
    // SAFETY: `handler` is a safe function that may be called on any thread at any time.
    let result = unsafe { SetConsoleCtrlHandler(Some(handler), 1) };
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::{Domain, Type};

    use super::*;
    use crate::sys::socket::{ListenOptions, Socket as StreamSocket};

    #[test]
    fn address_of_a_listener_cannot_be_taken_over() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = StreamSocket::listen(any, ListenOptions::default()).unwrap();
        let addr = listener.local_addr().unwrap().as_inet().unwrap();
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        other.set_reuse_address(true).unwrap();
        let kind = other.bind(&addr.into()).unwrap_err().kind();
        assert!(matches!(kind, io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied));
    }
}
