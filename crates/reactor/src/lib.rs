//! Event-driven servers and clients with the vocabulary of Python's `asyncore`:
//! describe one conversation by its callbacks, and a [`Reactor`] does the
//! waiting, for ten thousand of them on one thread. No `async`, no runtime.
//!
//! # A server
//!
//! ```no_run
//! use std::io;
//! use reactor::{Io, Listener, Protocol, Reactor};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
//!         io.send(data)
//!     }
//! }
//!
//! fn main() -> io::Result<()> {
//!     let mut reactor = Reactor::new()?;
//!     reactor.add(Listener::bind("127.0.0.1:9999", |peer| {
//!         println!("Incoming connection from {peer}");
//!         Ok(Echo)
//!     })?)?;
//!     reactor.run()
//! }
//! ```
//!
//! Each connection gets an `Echo` of its own, so state is plain fields. A
//! client is the same the other way round: [`Stream::connect`] in place of
//! [`Listener::bind`], and [`Protocol::handle_connect`] where it begins.
//!
//! # What you can rely on
//!
//! - [`Protocol::handle_close`] is called exactly once, last, and says why; no
//!   callback ever follows it, or reaches another connection by mistake.
//! - What [`Io::send`] accepted goes out in order, or the close reason counts
//!   what did not. [`Io::close`] flushes first.
//! - One connection's memory is bounded ([`Limits`]): while a peer does not
//!   read, it is not read from, and it is closed in the end.
//! - An error or a panic in a callback closes that connection, and no other.
//! - An idle reactor does not wake up. What a turn costs follows the channels
//!   that are ready, not those that are open.
//!
//! # The log
//!
//! What goes wrong with one connection and concerns nobody else (an `Err` from a
//! callback, a connection refused, a shortage of descriptors) is a line of the
//! [`log`] crate, which shows nothing by itself. Add `env_logger` to a program,
//! call `env_logger::init()` at its beginning, and run it with `RUST_LOG=warn`, or
//! `RUST_LOG=reactor=debug` for more.
//!
//! # One event, from the kernel to the bytes written back
//!
//! This is the whole path, and a good order in which to read the code.
//!
//! 1. `poller.rs`: [`Reactor::run`] waits in `Poller::wait` until the kernel
//!    reports that a socket is readable (on Linux mostly in `epoll.rs`,
//!    `Direct::wait`, which saves `polling` some system calls).
//! 2. `reactor.rs`: `Reactor::turn` hands the events one by one to
//!    `Context::deliver`. The event's key names a channel, which `channels.rs`
//!    looks up: a slot and its generation. `Context::call` takes the channel's
//!    [`Dispatcher`] out of its slot, calls `handle_read` with a [`Context`] over
//!    all the others, and puts it back.
//! 3. `stream.rs`: that dispatcher is a [`Stream`]. It reads into the reactor's
//!    one buffer and hands the bytes to your [`Protocol`], with an [`Io`].
//! 4. `connection.rs`: your `io.send(data)` writes to the socket at once
//!    (`endpoint.rs`). What the kernel does not take is queued (`output.rs`).
//! 5. `reactor.rs` again: when all events are dealt with, `Context::settle`
//!    looks at each channel that was called (`ask`, `register`). Output that
//!    waits makes the stream `writable`; that differs from what the poller was
//!    told, so it is told. Had everything gone out, nothing would have changed,
//!    and no system call been made.
//!
//! # The modules
//!
//! ```text
//! chat.rs         Chat: messages told apart by terminator or length
//! framing.rs        Terminator: where a message ends
//! producer.rs       Producer: output that is made as there is room for it
//! stream.rs       Stream: a connection and its protocol
//! protocol.rs       Protocol: your callbacks; Io: what they are given
//! connection.rs     its state: what waits, its deadlines, its end
//! endpoint.rs       its system calls
//! output.rs         its output buffer
//! rate.rs           its rate limits
//! connect.rs        one address after another, until one answers
//! attempt.rs        one attempt
//! search.rs         from a host's name to a connection, on a thread
//! limits.rs         Limits: what one stream may cost
//! listener.rs     Listener: accepts connections, whatever happens
//! accept.rs         accept(2), and what its errors mean
//! permit.rs         how many connections it has open
//! complaint.rs      a log line that does not become a flood
//! datagram.rs     Datagram: a datagram socket and its protocol
//! signal.rs       Signals: Unix signals as events
//! dispatcher.rs   Dispatcher: what the reactor asks of a channel; CloseReason
//! reactor.rs      Reactor: the turn
//! builder.rs        Builder: a reactor with more than the defaults
//! stats.rs          Stats, and the watch over callbacks
//! context.rs        Context: the reactor, as callbacks see it
//! drain.rs          the graceful end
//! channels.rs     the table of channels: slots, generations, Token
//! timer.rs        timers and deadlines, in order
//! moment.rs         an instant in half the room
//! handle.rs       Handle: post and wake from other threads
//! address.rs      Address: IP and port, or a path
//! porting.rs      no code: from asyncore, method by method
//! socket_path.rs  the file that a Unix socket is bound to
//! poller.rs       the readiness queue, on `polling`; the only `unsafe`
//! epoll.rs          most waits of Linux, with one system call (no_epoll.rs: none)
//! ready.rs          whether a source is ready at this moment
//! busy.rs           looking again and again before going to sleep
//! ```
//!
//! # From asyncore
//!
//! [`porting`] goes through asyncore and asynchat method by method.
//!
//! # Where to look for what
//!
//! | for | see |
//! | --- | --- |
//! | a conversation over TCP or a Unix socket | [`Protocol`], [`Stream`], [`Listener`] |
//! | messages that end with a line end, or have a length | [`ChatProtocol`], [`Chat`] |
//! | connecting by name, without blocking | [`Stream::connect_host`] |
//! | datagrams | [`DatagramProtocol`], [`Datagram`] |
//! | a pipe, a terminal, a file | [`FileDispatcher`] |
//! | a source of another kind | [`Dispatcher`] |
//! | what all connections share | the example `chat_server`: an `Rc` in each protocol |
//! | one connection that talks to another | [`Context::get_mut`] with its [`Token`] |
//! | timers | [`Io::set_timer`], [`Context::call_later`] |
//! | other threads | [`Handle`] |
//! | signals | [`signal::Signals`] |
//! | bounds on memory, time and rate | [`Limits`] |
//! | several processors | a [`Reactor`] a thread, [`Listener::bind_reuse_port`] or [`Listener::with_handler`] |
//! | an end in good order | [`Context::drain`] |
//! | another event loop around it | [`Reactor::turn`] |
//! | what it does, and whether it does it well | [`Reactor::stats`], [`Reactor::builder`] |

mod address;
mod chat;
mod compact_instant;
mod datagram;
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
pub use listener::Listener;
pub use reactor::{
    Cause, ChannelInfo, CloseReason, Context, Dispatcher, Handle, Inbox, InboxSender, Reactor,
    ReactorBuilder, ReactorClosed, SendError, Stats, TimeoutKind, TimerId, inbox,
};
pub use stream::connection::Connection;
pub use stream::connection_limit::ConnectionLimit;
pub use stream::limits::Limits;
pub use stream::protocol::{Io, Protocol};
pub use stream::{FileDispatcher, Stream};
pub use sys::descriptor::OwnedDescriptor;
pub use sys::socket::SockRef;
pub use sys::source::Source;
pub use token::Token;
