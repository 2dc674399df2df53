//! What replaces `socket_path.rs` on Windows, where this library has no Unix sockets.

/// Has no values.
pub(crate) enum SocketPath {}
