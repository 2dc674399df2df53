//! Event-driven servers and clients with the vocabulary of Python's `asyncore`.
//!
//! A program implements callbacks for a single connection. A [`Reactor`] waits for events
//! on all connections, on one thread. There is no `async` and no runtime. Each connection
//! has its own value, whose fields hold the state of the conversation.
//!
//! The tutorial below takes a quarter of an hour. After it:
//!
//! - [`how_it_works`] follows one event from the kernel to your callback and back, file by
//!   file, and says where each behaviour is decided.
//! - [`guarantees`] says what a program can rely on, the limits, and what differs on Windows.
//! - [`porting`] compares asyncore and asynchat with this library, method by method.
//! - [Where to find what](#where-to-find-what), at the end of this page.
//!
//! # Tutorial
//!
//! Each step is a program in `examples/`, which the tests run. To try one, start it in one
//! terminal, for example with `cargo run --package reactor --example count`, and connect
//! from another with `nc 127.0.0.1 9999`.
//!
//! ## 1. Echo
//!
//! A server is a [`Listener`], which creates a [`Protocol`] for each connection, and a
//! protocol is a set of callbacks. Only [`handle_read`](Protocol::handle_read) is required.
//! It receives the bytes; there is nothing to read. [`Io`] is the connection:
//! [`send`](Connection::send) sends all of the data, now or later, and never waits.
//!
//! ```no_run
#![doc = include_str!("../examples/echo.rs")]
//! ```
//!
//! An `Err` from a callback closes this connection and no other. It is logged with the
//! [`log`] crate. So are rejected connections, and failures to accept because there are no
//! file descriptors. To see that, add `env_logger` to the program, call
//! `env_logger::init()` first, and run it with `RUST_LOG=warn`, or `RUST_LOG=reactor=debug`
//! for more.
//!
//! ## 2. State for each connection
//!
//! The fields of the protocol are the state of one connection, and no other can reach
//! them. [`handle_connect`](Protocol::handle_connect) is the first callback, if there is
//! one, and [`handle_close`](Protocol::handle_close) is always the last, exactly once,
//! with the reason.
//!
//! TCP has no messages, only bytes: what the peer sent at once may arrive in two parts, or
//! together with what it sent next. [`Chat`], in step 4, separates lines.
//!
//! ```no_run
#![doc = include_str!("../examples/count.rs")]
//! ```
//!
//! ## 3. Timers and idle limits
//!
//! A callback must not wait, because all connections share its thread. It sets a timer
//! with [`Io::set_timer`] and returns; [`handle_timer`](Protocol::handle_timer) continues.
//! The timer ends with its connection.
//!
//! Time, memory and rate of a connection are bounded by its [`Limits`]. Here a timeout
//! closes it if the peer is silent, or has vanished, which TCP alone does not report.
//! [`pause`](Connection::pause) stops reading, so the kernel's buffer fills, and the peer
//! has to wait: that is how memory stays bounded without a queue.
//!
//! ```no_run
#![doc = include_str!("../examples/delay.rs")]
//! ```
//!
//! ## 4. A chat
//!
//! [`Chat`] collects input up to a terminator, here a newline, and calls
//! [`found_terminator`](ChatProtocol::found_terminator) with each message. State that
//! connections share is an `Rc`, since there is only one thread. [`Token`]s name the other
//! connections; [`Context::with_chat`] reaches one, if it is still open. A peer that
//! leaves may have missed lines, so the server announces that it has left.
//!
//! ```no_run
#![doc = include_str!("../examples/chat_server.rs")]
//! ```
//!
//! ## 5. A client that reconnects
//!
//! A client is a [`Stream`] that connects, in the same loop or in one of its own; a
//! [`Connector`] says where to and how. Connecting never blocks and never returns an
//! error: each failure (an unknown name, a refused connection, a lost one) is reported to
//! `handle_close`. A [`Reconnector`] then connects again, after pauses that grow, until the
//! client itself closes a connection. [`Reactor::run`] returns once nothing is left to do.
//!
//! The example `reconnect` also takes commands from another thread.
//!
//! ```no_run
#![doc = include_str!("../examples/retry.rs")]
//! ```
//!
//! # Where to find what
//!
//! | for | see |
//! | --- | --- |
//! | a conversation over TCP or a Unix socket | [`Protocol`], [`Stream`], [`Listener`] |
//! | what a callback can do with its own stream | [`Io`] and [`Connection`] |
//! | messages that end with a terminator, or have a given length | [`ChatProtocol`], [`Chat`], [`Terminator`] |
//! | messages that start with their length | [`Terminator::prefixed_u32_be`], [`Terminator::prefixed_u16_be`] |
//! | a time limit for a message | [`Chat::with_message_timeout`] |
//! | output produced piece by piece | [`Producer`], [`ChatIo::push_with_producer`] |
//! | connecting by name, without blocking | [`Stream::connect_host`] |
//! | a client that stays connected | [`Reconnector`] |
//! | the end of a client's connection | [`Reactor::run_until_closed`] |
//! | datagrams | [`DatagramProtocol`], [`Datagram`] |
//! | a pipe, a terminal, a file | [`FileDispatcher`] |
//! | a source of another kind | [`Dispatcher`], [`Source`] |
//! | state that all connections share | an `Rc` in each protocol, as in the example `chat_server` |
//! | another connection: its protocol and its stream | [`Context::with_stream`], [`Context::with_chat`] |
//! | another channel, or one from outside the loop | [`Context::get_mut`], [`Reactor::get_mut`] |
//! | a list of the channels | [`Context::channels`] |
//! | timers | [`Io::set_timer`], [`Context::call_later`] |
//! | a closure from another thread, and its result | [`Handle::post`], [`Handle::call`] |
//! | messages from other threads | [`inbox`] |
//! | Ctrl-C, and signals | [`signal::Signals`] |
//! | limits on memory, time and rate | [`Limits`] |
//! | a limit on connections, also over several threads | [`Listener::with_max_connections`], [`ConnectionLimit`] |
//! | listening on every address of a name | [`Listener::bind_all`] |
//! | a message to connections over the limit | [`Listener::with_rejection`] |
//! | a layer such as TLS (which is the crate `tls`) between socket and protocol | [`Filter`], [`Stream::with_filter`], [`Listener::with_filter`], [`Connection::start_filter`] |
//! | pausing a listener, or the input of a stream | [`Listener::pause`], [`Connection::pause`] |
//! | socket options before a connection starts | [`Listener::with_socket_options`], [`Connector::with_socket_options`] |
//! | socket options later, and any that the system has | [`Connection::set_socket_options`], [`Connection::socket_options`] |
//! | who is at the other end of a Unix socket | [`Connection::peer_credentials`] |
//! | mode and owner of a socket file | [`Listener::bind_unix_with`], [`SocketFile`] |
//! | multicast | [`Datagram::bind_multicast`], [`DatagramChannel::join_multicast`] |
//! | an accepted socket for another reactor | [`Listener::with_handler`] |
//! | shutting down gracefully | [`Context::drain`] |
//! | another event loop around this one | [`Reactor::turn`], [`Reactor::next_deadline`] |
//! | counters, slow and spinning callbacks | [`Reactor::stats`], [`Reactor::builder`] |
//!

mod address;
mod backoff;
mod chat;
mod compact_instant;
mod datagram;
mod filter;
pub mod guarantees;
pub mod how_it_works;
mod listener;
mod output_buffer;
mod poll;
pub mod porting;
mod reactor;
pub mod signal;
mod stream;
mod sys;
mod token;

pub use address::Address;
pub use chat::Chat;
pub use chat::producer::{
    Produced, Producer, producer_from_iter, producer_from_reader, producer_from_reader_exact,
};
pub use chat::protocol::{ChatIo, ChatProtocol};
pub use chat::terminator::{LengthPrefix, MessageTooLong, Terminator};
pub use datagram::{Datagram, DatagramChannel, DatagramIo, DatagramProtocol};
pub use filter::{Filter, Flow};
pub use listener::Listener;
pub use reactor::{
    Cause, ChannelInfo, CloseReason, Context, Dispatcher, Handle, Inbox, InboxSender, Reactor,
    ReactorBuilder, ReactorClosed, SendError, Stats, TimeoutKind, TimerId, inbox,
};
pub use stream::Stream;
pub use stream::connection::Connection;
pub use stream::connection_limit::ConnectionLimit;
pub use stream::connector::Connector;
pub use stream::limits::Limits;
pub use stream::protocol::{Io, Protocol};
pub use stream::reconnector::Reconnector;
pub use sys::descriptor::OwnedDescriptor;
#[cfg(all(unix, feature = "sim"))]
pub use sys::kernel;
pub use sys::socket::SockRef;
pub use sys::socket_options::{Keepalive, SocketOptions};
pub use sys::source::Source;
pub use token::Token;
#[cfg(unix)]
pub use {
    stream::unix::FileDispatcher, sys::peer_credentials::PeerCredentials,
    sys::socket_file::SocketFile,
};
