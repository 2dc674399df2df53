//! lib
mod address;
mod channels;
mod connect;
mod connection;
mod context;
mod dispatcher;
mod drain;
mod handle;
mod limits;
mod listener;
mod poller;
mod protocol;
mod reactor;
pub mod signal;
mod stream;
mod timer;

pub use address::Address;
pub use channels::Token;
pub use context::Context;
pub use dispatcher::{Cause, CloseReason, Dispatcher, Timeout};
pub use handle::{Gone, Handle};
pub use limits::Limits;
pub use listener::Listener;
pub use protocol::{Io, Protocol};
pub use reactor::Reactor;
pub use stream::Stream;
pub use timer::TimerId;
