//! Porting from asyncore and asynchat, method by method. This module contains
//! documentation only.
//!
//! # What changes everywhere
//!
//! - In Python a program inherits from `dispatcher`, which is the socket. Here the socket
//!   is a [`Stream`], and the program implements its [`Protocol`]. There, `self` is the
//!   state of the conversation, and `io` is the socket.
//! - There is no `recv`: [`Protocol::handle_read`] receives the bytes. An empty `recv`
//!   meant the end of input; here that is [`Protocol::handle_eof`], which by default
//!   closes once all output is written.
//! - [`send`](Connection::send) never accepts only part of the data. It accepts all of
//!   it, and queues what the kernel does not accept, or it returns `WouldBlock` if too
//!   much is queued already. Every stream is buffered, so `dispatcher_with_send` and its
//!   `out_buffer` have no counterpart. The output of one callback is written once, after
//!   the callback.
//! - [`Protocol::writable`] defaults to `false`. Return `true` only while
//!   [`Protocol::handle_write`] has something to send.
//! - [`Protocol::handle_close`] is called exactly once, as the last callback, with the
//!   reason, whichever side closed. It need not call `close`, because the stream is
//!   already closed.
//! - `connect` never fails in the call itself. A failure is passed to `handle_close` too.
//! - There is no global map. A channel belongs to the [`Reactor`] that it was added to,
//!   and is reached by the [`Token`] that `add` returned.
//!
//! # The echo server
//!
//! ```python
//! class EchoHandler(asyncore.dispatcher_with_send):
//!
//!     def handle_read(self):
//!         data = self.recv(1024)
//!         if data:
//!             self.send(data)
//!
//! class EchoServer(asyncore.dispatcher):
//!
//!     def __init__(self, host, port):
//!         asyncore.dispatcher.__init__(self)
//!         self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
//!         self.set_reuse_addr()
//!         self.bind((host, port))
//!         self.listen(5)
//!
//!     def handle_accept(self):
//!         conn, addr = self.accept()
//!         print('Incoming connection from %s' % repr(addr))
//!         self.handler = EchoHandler(conn)
//! ```
//!
//! becomes
//!
//! ```
//! use std::io;
//! use reactor::{Io, Listener, Protocol, Reactor};
//!
//! struct EchoHandler;
//!
//! impl Protocol for EchoHandler {
//!     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
//!         io.send(data)
//!     }
//! }
//!
//! # fn main() -> io::Result<()> {
//! let mut reactor = Reactor::new()?;
//! reactor.add(Listener::bind("localhost:0", |peer| {
//!     println!("Incoming connection from {peer}");
//!     Ok(EchoHandler)
//! })?)?;
//! # reactor.context().stop();
//! reactor.run()
//! # }
//! ```
//!
//! `create_socket`, `set_reuse_addr`, `bind` and `listen` are one call, with a queue of
//! 4096 connections instead of 5. The closure is asyncore's `handle_accepted`; it is
//! called only for an accepted connection. The reactor owns the handler.
//!
//! # The echo client
//!
//! ```python
//! class EchoClient(asyncore.dispatcher):
//!
//!     def __init__(self, host, port):
//!         asyncore.dispatcher.__init__(self)
//!         self.messages = ['1', '2', '3']
//!         self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
//!         self.connect((host, port))
//!
//!     def handle_connect(self):
//!         pass
//!
//!     def handle_close(self):
//!         self.close()
//!
//!     def handle_read(self):
//!         print(self.recv(1024))
//!
//!     def writable(self):
//!         return len(self.messages) > 0
//!
//!     def handle_write(self):
//!         if len(self.messages) > 0:
//!             self.send(self.messages.pop(0))
//! ```
//!
//! becomes
//!
//! ```
//! use std::collections::VecDeque;
//! use std::io;
//! use std::net::SocketAddr;
//! use reactor::{CloseReason, Io, Protocol, Reactor, Stream};
//!
//! struct EchoClient {
//!     messages: VecDeque<&'static str>,
//! }
//!
//! impl Protocol for EchoClient {
//!     fn handle_close(&mut self, _io: &mut Io<'_>, reason: &CloseReason) {
//!         println!("{reason}"); // asyncore gives none
//!     }
//!
//!     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
//!         println!("{}", String::from_utf8_lossy(data));
//! #       io.close();
//!         Ok(())
//!     }
//!
//!     fn writable(&self) -> bool {
//!         !self.messages.is_empty()
//!     }
//!
//!     fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
//!         match self.messages.pop_front() {
//!             Some(message) => io.send(message.as_bytes()),
//!             None => Ok(()),
//!         }
//!     }
//! }
//!
//! # struct EchoHandler;
//! # impl Protocol for EchoHandler {
//! #     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> { io.send(data) }
//! #     fn handle_close(&mut self, io: &mut Io<'_>, _: &CloseReason) { io.context().stop(); }
//! # }
//! # fn main() -> io::Result<()> {
//! let mut reactor = Reactor::new()?;
//! # let listener = reactor::Listener::bind("localhost:0", |_| Ok(EchoHandler))?;
//! # let local = listener.local_addr().as_inet().unwrap();
//! # reactor.add(listener)?;
//! let client = EchoClient { messages: ["1", "2", "3"].into() };
//! let server: SocketAddr = "127.0.0.1:9999".parse().unwrap();
//! # let server = if server.port() == 9999 { local } else { server };
//! reactor.add(Stream::connect([server], client))?; // or `connect_host`, by name
//! reactor.run()
//! # }
//! ```
//!
//! A refused connection causes one `handle_close` with its error, and no
//! `handle_connect`. To wait for the end of one connection and get its reason, call
//! [`Reactor::run_until_closed`]. The example `echo_threads` is the whole program, with
//! one thread each for the server and the client.
//!
//! # A chat
//!
//! ```python
//! class Upper(asynchat.async_chat):
//!
//!     def __init__(self, sock):
//!         asynchat.async_chat.__init__(self, sock=sock)
//!         self.set_terminator(b'\r\n')
//!         self.ibuffer = []
//!
//!     def collect_incoming_data(self, data):
//!         self.ibuffer.append(data)
//!
//!     def found_terminator(self):
//!         line = b''.join(self.ibuffer)
//!         self.ibuffer = []
//!         if line == b'quit':
//!             self.close_when_done()
//!         else:
//!             self.push(line.upper() + b'\r\n')
//! ```
//!
//! becomes
//!
//! ```
//! use std::io;
//! use reactor::{Chat, ChatIo, ChatProtocol, Stream};
//!
//! struct Upper;
//!
//! impl ChatProtocol for Upper {
//!     fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
//!         let mut line = chat.take_collected();
//!         if line == b"quit" {
//!             chat.close_when_done();
//!             return Ok(());
//!         }
//!         line.make_ascii_uppercase();
//!         line.extend(b"\r\n");
//!         chat.push(&line)
//!     }
//! }
//!
//! # fn main() -> io::Result<()> {
//! # let (socket, mut peer) = std::os::unix::net::UnixStream::pair()?;
//! # io::Write::write_all(&mut peer, b"hello\r\nquit\r\n")?;
//! // `socket` is any connected stream socket, for example a `TcpStream`.
//! let stream = Stream::new(socket, Chat::new("\r\n", Upper))?;
//! # let mut reactor = reactor::Reactor::new()?;
//! # reactor.add(stream)?;
//! # reactor.run()?;
//! # assert_eq!(io::read_to_string(peer)?, "HELLO\r\n");
//! # Ok(())
//! # }
//! ```
//!
//! `collect_incoming_data` is optional: by default it collects, as this one does, and
//! [`ChatIo::take_collected`] returns the message. A line without end closes the stream
//! instead of filling the memory ([`Chat::with_max_message`]).
//!
//! Any closure that fills a buffer is a producer for
//! [`ChatIo::push_with_producer`]; it reports [`Produced::Later`] if it has nothing yet.
//! [`producer_from_reader`] and [`producer_from_iter`] create producers of a file and of
//! an iterator.
//!
//! # Where a terminator differs
//!
//! | | asynchat | here |
//! | --- | --- | --- |
//! | length 0 | as `None`: all input is collected | an empty message, complete at once without input; so a protocol whose messages announce a length of 0 does not hang |
//! | a length, once it has arrived | `found_terminator`, then 0, so all further input is collected | the same: [`Terminator::Never`], until another terminator is set |
//! | negative length | an error | not representable |
//! | empty bytes, `None` | all input is collected | the same: [`Terminator::Never`] |
//! | a length at the start of each message | written by hand with two terminators | [`Terminator::prefixed_u32_be`], [`Terminator::prefixed_u16_be`] |
//!
//! # The rest
//!
//! | asyncore or asynchat | here |
//! | --- | --- |
//! | `asyncore.loop()` | [`Reactor::run`]; it needs no timeout, and wakes only if there is work |
//! | `loop(count=n)` | [`Reactor::run_turns`] |
//! | `loop(timeout)` | [`Reactor::turn`] with a limit |
//! | `loop(use_poll, map)` | the best poller of the system; a separate [`Reactor`] |
//! | `raise ExitNow` | [`Context::stop`] |
//! | `close_all()` | [`Reactor::close_all`]; gracefully, [`Context::drain`] |
//! | `socket_map`, to list what is open | [`Context::channels`] |
//! | `socket_map[fd]`, to reach another channel | [`Context::with_stream`], [`Context::with_chat`], [`Context::get_mut`] |
//! | `create_socket(…, SOCK_DGRAM)` | [`Datagram`] and its [`DatagramProtocol`] |
//! | `file_dispatcher`, `file_wrapper` | [`FileDispatcher`](crate::FileDispatcher): a stream over any descriptor; not on Windows |
//! | `dispatcher` over another kind of source | [`Dispatcher`] |
//! | `set_socket`, `dispatcher(sock)` | [`Stream::new`], [`Listener::new`] |
//! | `self.socket.setsockopt` | [`Connection::set_socket_options`], [`Connection::socket_options`], [`Listener::with_socket_options`] |
//! | `readable()` returning `False` in a server socket | [`Listener::pause`] |
//! | a `handle_close` that connects again | [`Reconnector`], with growing pauses |
//! | `connected`, `accepting`, `connecting` | the callbacks; there are no flags |
//! | `addr` | [`Connection::peer_addr`], [`Listener::local_addr`] |
//! | `handle_expt` | [`Protocol::handle_expt`], which receives the urgent byte |
//! | `handle_error`, `compact_traceback` | [`Protocol::handle_error`], called for an `Err` or a panic of a callback; then that channel closes |
//! | `log`, `log_info` | the [`log`] crate |
//! | `set_terminator(b'…')`, `(n)`, `(None)` | [`ChatIo::set_terminator`] with bytes, [`Terminator::Length`], [`Terminator::Never`] |
//! | `writable`, `handle_write` in an `async_chat` | [`ChatProtocol::writable`], [`ChatProtocol::handle_write`] |
//! | `ac_in_buffer` | [`ChatIo::unparsed`] |
//! | `discard_buffers` | [`ChatIo::discard_buffers`] |
//! | `ac_in_buffer_size`, `ac_out_buffer_size` | one read is at most 64 KiB; [`Limits`] |
//! | a thread that sleeps and then acts | [`Context::call_later`], [`Io::set_timer`] |
//! | a socket pair to wake the loop | [`Handle::post`], [`Handle::call`], [`inbox`] |

// For the links above.
#[allow(unused_imports, reason = "rustdoc resolves links in the scope of the module")]
use crate::{
    Chat, ChatIo, ChatProtocol, Connection, Context, Datagram, DatagramProtocol, Dispatcher,
    Handle, Io, Limits, Listener, Produced, Protocol, Reactor, Reconnector, Stream, Terminator,
    Token, inbox, producer_from_iter, producer_from_reader,
};
