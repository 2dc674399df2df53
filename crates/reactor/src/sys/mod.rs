//! Everything that comes from the operating system.

pub(crate) mod attempt;
pub(crate) mod endpoint;
pub(crate) mod ready;
pub(crate) mod socket_path;
