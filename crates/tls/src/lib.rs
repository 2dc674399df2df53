//! TLS for the streams and listeners of [`reactor`], on [`rustls`].
//!
//! [`Server::listen`] turns a listener into one for TLS, [`Client::connect`] a stream.
//! Both are a [`Filter`](reactor::Filter), so the protocol stays the same.
//! To change to TLS on a connection in use (STARTTLS), pass [`Server::filter`] or
//! [`Client::filter`] to
//! [`Connection::start_filter`](reactor::Connection::start_filter), as the example
//! `starttls` does.
//!
//! # What differs from a plain stream
//!
//! - [`handle_connect`](reactor::Protocol::handle_connect) is called after the handshake.
//!   [`Tls`] then returns the name that the client asked for, the protocol that was agreed
//!   on, and the certificates of the peer. The handshake must be complete within
//!   [`Limits::handshake_timeout`](reactor::Limits::handshake_timeout).
//! - [`close`](reactor::Connection::close) and
//!   [`shutdown`](reactor::Connection::shutdown) send `close_notify` behind all output.
//!   After `close`, the stream waits until the peer answers, for at most two seconds
//!   without progress. A stream that ends in another way does not send it, so that the
//!   peer can tell.
//! - A connection that ends without `close_notify` was perhaps cut off by an attacker:
//!   the cause is [`Cause::Truncated`](reactor::Cause::Truncated), and
//!   [`handle_eof`](reactor::Protocol::handle_eof) is not called.
//! - Output of one callback is encrypted together, in records of up to 16 KiB.
//!   [`unsent`](reactor::Connection::unsent) and the limits count bytes of the protocol,
//!   not of the wire. A record that is written in part counts as unsent.
//! - An idle connection of a server uses 3.9 kB, one whose handshake is not complete 2.6 kB.
//!   Input uses up to 100 kB more while a peer sends faster than the protocol reads
//!   (measured by `tests/memory.rs`, on x86-64), output as much as
//!   [`Limits::high_water`](reactor::Limits::high_water) allows.
//! - A session that fails reports a [`TlsError`] to
//!   [`handle_error`](reactor::Protocol::handle_error), and its alert to the peer.
//!   A peer that closes the connection without having sent anything is not reported.
//!
//! Not supported: early data, revocation lists, and urgent data, which is discarded.

mod client;
mod engine;
mod error;
mod files;
mod filter;
mod server;
mod server_name;

pub use client::{Client, ClientFiles};
pub use error::TlsError;
pub use files::FileError;
pub use filter::Tls;
pub use rustls;
pub use server::{Server, ServerFiles};
