//! What differs between systems.

#[cfg_attr(not(unix), path = "no_unix_socket.rs")]
pub(crate) mod unix_socket;
