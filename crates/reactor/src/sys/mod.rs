//! Everything that comes from the operating system: sockets, descriptors,
//! signals, name resolution, the clock.
//!
//! No other folder names `std::os`, `socket2`, `rustix`, `nix`, `signal_hook` or
//! `windows_sys`, and only this one and `poll` differ between systems. Here are the files for Unix systems; those
//! in `windows/` replace files of the same name.

pub(crate) mod accept;
pub(crate) mod clock;
pub(crate) mod datagram_socket;
#[cfg_attr(windows, path = "windows/descriptor.rs")]
pub(crate) mod descriptor;
pub(crate) mod destination;
#[cfg_attr(not(all(unix, feature = "sim")), path = "system_only.rs")]
pub(crate) mod either;
pub(crate) mod endpoint;
mod error_queue;
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
pub(crate) mod eventfd;
#[cfg(windows)]
#[path = "windows/ffi.rs"]
mod ffi;
#[cfg(all(unix, feature = "sim"))]
pub mod kernel;
mod multicast;
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "portable_packet_info.rs")]
mod packet_info;
#[cfg(unix)]
pub(crate) mod peer_credentials;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod resolver;
#[cfg(unix)]
mod shared_mode;
#[cfg_attr(windows, path = "windows/signals.rs")]
pub(crate) mod signals;
#[cfg_attr(windows, path = "windows/sock_addr.rs")]
mod sock_addr;
pub(crate) mod socket;
#[cfg_attr(windows, path = "windows/socket_calls.rs")]
#[cfg_attr(
    all(
        unix,
        any(not(any(target_os = "linux", target_os = "android")), polling_test_poll_backend)
    ),
    path = "portable_socket_calls.rs"
)]
mod socket_calls;
#[cfg(unix)]
pub(crate) mod socket_file;
pub(crate) mod socket_options;
#[cfg_attr(windows, path = "windows/socket_path.rs")]
pub(crate) mod socket_path;
#[cfg_attr(windows, path = "windows/source.rs")]
pub(crate) mod source;
#[cfg(unix)]
mod unix_address;
#[cfg_attr(windows, path = "windows/unix_socket.rs")]
pub(crate) mod unix_socket;
