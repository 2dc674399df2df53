//! Everything that comes from the operating system: sockets, descriptors,
//! signals, name resolution, the clock.
//!
//! No other folder names `std::os`, `socket2`, `rustix`, `nix` or `signal_hook`, and only
//! this one and `poll` differ between systems.

pub(crate) mod accept;
pub(crate) mod clock;
pub(crate) mod datagram_socket;
pub(crate) mod descriptor;
pub(crate) mod destination;
pub(crate) mod endpoint;
mod error_queue;
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
pub(crate) mod eventfd;
mod multicast;
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "portable_packet_info.rs")]
mod packet_info;
pub(crate) mod peer_credentials;
pub(crate) mod process;
pub(crate) mod resolver;
mod shared_mode;
pub(crate) mod signals;
pub(crate) mod socket;
#[cfg_attr(
    any(not(any(target_os = "linux", target_os = "android")), polling_test_poll_backend),
    path = "portable_socket_calls.rs"
)]
mod socket_calls;
pub(crate) mod socket_file;
pub(crate) mod socket_options;
pub(crate) mod socket_path;
pub(crate) mod source;
pub(crate) mod unix_address;
