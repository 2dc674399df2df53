//! What replaces `either.rs` without the feature `sim`: the types of the system.

pub(crate) use crate::sys::datagram_socket::DatagramSocket;
pub(crate) use crate::sys::signals::SignalSource;
pub(crate) use crate::sys::socket::Socket;
