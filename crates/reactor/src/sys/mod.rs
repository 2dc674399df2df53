//! Everything that comes from the operating system: sockets, descriptors,
//! signals, name resolution, the clock.
//!
//! No other folder names `std::os`, `socket2`, `rustix`, `nix` or `signal_hook`, and only
//! this one and `poll` differ between systems.

pub(crate) mod accept;
pub(crate) mod clock;
pub(crate) mod datagram_socket;
pub(crate) mod descriptor;
pub(crate) mod endpoint;
mod error_queue;
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
pub(crate) mod eventfd;
pub(crate) mod process;
pub(crate) mod resolver;
mod shared_mode;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod socket_path;
pub(crate) mod source;
pub(crate) mod unix_address;
