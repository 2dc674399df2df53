//! What a program can rely on, and its limits. This module contains documentation only.
//!
//! # Guarantees
//!
//! - Each stream receives exactly one [`handle_close`](Protocol::handle_close) call, with
//!   the reason. It is the last callback. An event for a closed channel is never
//!   delivered to a new channel that reuses its slot or descriptor.
//! - Bytes that [`send`](Connection::send) accepted are written in order. The
//!   [`CloseReason`] counts those that could not be written. [`close`](Connection::close)
//!   writes queued output first. If output was lost, or the connection did not end by a
//!   close, it is reset, so that a TCP peer notices.
//! - With a [`Filter`], such as TLS, the same holds for the bytes of the protocol. A
//!   connection that ends before the filter's own end is [`Cause::Truncated`], never a
//!   clean end. If a filter fails, its last output, such as an alert, is still sent.
//! - The memory of a connection is bounded by its [`Limits`]. If a peer does not read the
//!   replies, the stream stops reading from it, and closes after the stall timeout.
//! - An error or a panic in a callback closes that channel and no other.
//! - An idle reactor does not wake up. The cost of a turn depends on the channels that
//!   are ready, not on those that are open.
//! - A post from another thread is never lost while the reactor exists, and many of them
//!   cause one wake-up.
//!
//! # Limits
//!
//! What a stream may cost is set by its [`Limits`]. These limits are the library's own, and
//! only that of a chat message can be changed:
//!
//! | what | at most | file | constant |
//! | --- | ---: | --- | --- |
//! | bytes that one event reads; for a filter 88 more | 65,536 | `reactor/context.rs` | `READ_BUFFER_SIZE` |
//! | connections that one event accepts | 64 | `listener/mod.rs` | `MAX_ACCEPTS_PER_EVENT` |
//! | connections that a listener accepts while it drains | 4,096 | `listener/mod.rs` | `MAX_ACCEPTS_WHILE_DRAINING` |
//! | posted jobs in one turn | 1,024 | `reactor/turn.rs` | `MAX_JOBS_PER_TURN` |
//! | timers in one turn | 1,024 | `reactor/turn.rs` | `MAX_TIMERS_PER_TURN` |
//! | messages of an inbox in one turn | 1,024 | `reactor/inbox.rs` | `MAX_MESSAGES_PER_TURN` |
//! | bytes that one write passes to the kernel | 1,048,576 | `stream/sending.rs` | `MAX_WRITE` |
//! | bytes that a filter receives at a time to send | 16,384 | `stream/filter_output.rs` | `MAX_PIECE` |
//! | bytes of a chat message, unless set otherwise | 65,536 | `chat/mod.rs` | `MAX_MESSAGE` |
//!
//! What is over a limit waits for the next event or turn, except a chat message that is
//! too long: it closes its stream. So in each turn a peer that floods delays the others by
//! one read, and a thread that posts without end by at most 1,024 jobs.
//!
//! The library does not limit how long a callback runs, and all others wait meanwhile.
//! [`ReactorBuilder::slow_callback_threshold`] logs those that are too slow.
//!
//! # Threads
//!
//! A [`Reactor`], its [`Context`] and its channels belong to one thread. They are not
//! [`Send`], so protocols may share an `Rc`. Other threads use a [`Handle`] to run a
//! closure on the reactor's thread, or an [`inbox`] to send it messages. For several
//! processors, run one reactor per thread, each with a [`Listener::bind_reuse_port`].
//!
//! # Windows
//!
//! Windows has no Unix sockets here, pipes and files cannot be polled, and signals have no
//! numbers, so these do not exist there: [`Listener::bind_unix`], [`Stream::connect_unix`],
//! [`Datagram::bind_unix`], [`SocketFile`](crate::SocketFile),
//! [`Connection::peer_credentials`], [`FileDispatcher`](crate::FileDispatcher),
//! [`Stream::from_fd`] and [`Signals::new`](signal::Signals::new).
//!
//! A program that also runs on Windows reads its standard input on a thread, and posts it
//! to the reactor. [`Signals::termination`](signal::Signals::termination) exists on all
//! systems. A [`Source`] is made from a socket. Two things behave differently:
//! [`Listener::bind_reuse_port`] returns `Unsupported`, and another program can never bind
//! the address of a listener.

// For the links above.
#[allow(unused_imports, reason = "rustdoc resolves links in the scope of the module")]
use crate::{
    Cause, CloseReason, Connection, Context, Datagram, Filter, Handle, Limits, Listener, Protocol,
    Reactor, ReactorBuilder, Source, Stream, inbox, signal,
};
