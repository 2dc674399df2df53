//! Porting from asyncore, method by method. This page holds no code of the
//! library; its examples are compiled and run like all others.
//!
//! # What changes everywhere
//!
//! - A Python `dispatcher` is a socket that one inherits from. Here the socket
//!   is a [`Stream`], and what one writes is its [`Protocol`]: `self` is your
//!   state, and `io` the socket.
//! - `recv` is gone: `handle_read` is *given* the bytes. An empty `recv` meant
//!   the end; that is [`Protocol::handle_eof`] now, and by default it closes
//!   once everything is flushed.
//! - `send` never sends a part. It takes all of it, queues what the kernel does
//!   not take, and says `WouldBlock` when too much waits already. So there is
//!   no `out_buffer` to write, and `dispatcher_with_send` has no counterpart
//!   because every stream is one.
//! - `writable` defaults to false. Say yes only while there is something that
//!   `handle_write` would send.
//! - `handle_close` comes exactly once and last, whoever closed, and says why.
//!   One does not call `self.close()` in it: that has happened.
//! - There is no global map. Dispatchers live in the [`Reactor`] that they were
//!   added to, and are reached by the [`Token`] that `add` returned.
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
//! `create_socket`, `set_reuse_addr`, `bind` and `listen` are one call; the
//! queue is 4096 long in place of 5. `handle_accept` with its `accept()` is the
//! closure, which is asyncore's `handle_accepted`: it is called for a connection
//! that there is. Nobody has to keep the handler alive.
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
//! use reactor::{CloseReason, Io, Protocol, Reactor, Stream};
//!
//! struct EchoClient {
//!     messages: VecDeque<&'static str>,
//! }
//!
//! impl Protocol for EchoClient {
//!     fn handle_close(&mut self, _io: &mut Io<'_>, reason: &CloseReason) {
//!         println!("{reason}"); // asyncore could not say
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
//! # let addr = listener.local_addr().as_inet().unwrap();
//! # reactor.add(listener)?;
//! let client = EchoClient { messages: ["1", "2", "3"].into() };
//! reactor.add(Stream::connect([addr], client))?;
//! reactor.run()
//! # }
//! ```
//!
//! A refused connection is one `handle_close` with its error, and no
//! `handle_connect` before. `echo_threads` among the examples is the whole
//! program, with a thread each.
//!
//! # A chat in asynchat's manner
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
//! let stream = Stream::new(socket, Chat::new("\r\n", Upper))?;
//! # let mut reactor = reactor::Reactor::new()?;
//! # reactor.add(stream)?;
//! # reactor.run()?;
//! # assert_eq!(io::read_to_string(peer)?, "HELLO\r\n");
//! # Ok(())
//! # }
//! ```
//!
//! `collect_incoming_data` may be written; by default it does what this one did,
//! and a line without end closes the stream rather than fill the memory
//! ([`Chat::max_message`]). `push_with_producer` takes any closure that fills a
//! buffer, and [`producer_from_reader`] and [`producer_from_iter`] make producers of a file and of an
//! iterator.
//!
//! # The rest
//!
//! | asyncore or asynchat | here |
//! | --- | --- |
//! | `asyncore.loop()` | [`Reactor::run`]: no timeout to choose, it wakes when there is something to do |
//! | `loop(count=n)` | [`Reactor::run_turns`] |
//! | `loop(timeout, use_poll, map)` | [`Reactor::turn`] with a limit; the system's best poller; a [`Reactor`] of its own |
//! | `raise ExitNow` | [`Context::stop`] |
//! | `close_all()` | [`Reactor::close_all`]; in good order [`Context::drain`] |
//! | `create_socket(…, SOCK_DGRAM)` | [`Datagram`] and its [`DatagramProtocol`] |
//! | `file_dispatcher`, `file_wrapper` | [`FileDispatcher`](crate::FileDispatcher): a stream over any descriptor |
//! | `dispatcher` over something else | [`Dispatcher`] |
//! | `set_socket`, `dispatcher(sock)` | [`Stream::new`], [`Listener::new`] |
//! | `connected`, `accepting`, `connecting` | what the callbacks say; no flags to look at |
//! | `addr` | [`Io::peer_addr`], [`Listener::local_addr`] |
//! | `handle_expt` | [`Protocol::handle_expt`], which is given the urgent byte |
//! | `handle_error`, `compact_traceback` | an `Err` or a panic in a callback: [`Protocol::handle_error`] is told, that channel closes |
//! | `log`, `log_info` | the `log` crate |
//! | `set_terminator(b'…' / n / None)` | [`ChatIo::set_terminator`] with bytes, [`Terminator::Length`], [`Terminator::Never`] |
//! | `discard_buffers` | [`ChatIo::discard_buffers`] |
//! | `ac_in_buffer_size`, `ac_out_buffer_size` | 64 KiB a read; [`Limits`] |
//! | a thread that sleeps and then acts | [`Context::call_later`], [`Io::set_timer`] |
//! | a socket pair to wake the loop | [`Handle::post`] |
//!
//! [`Chat::max_message`]: crate::Chat::max_message
//! [`ChatIo::discard_buffers`]: crate::ChatIo::discard_buffers
//! [`ChatIo::set_terminator`]: crate::ChatIo::set_terminator
//! [`Context::call_later`]: crate::Context::call_later
//! [`Context::drain`]: crate::Context::drain
//! [`Context::stop`]: crate::Context::stop
//! [`Datagram`]: crate::Datagram
//! [`DatagramProtocol`]: crate::DatagramProtocol
//! [`Dispatcher`]: crate::Dispatcher
//! [`Handle::post`]: crate::Handle::post
//! [`Io::peer_addr`]: crate::Io::peer_addr
//! [`Io::set_timer`]: crate::Io::set_timer
//! [`Limits`]: crate::Limits
//! [`Listener::local_addr`]: crate::Listener::local_addr
//! [`Listener::new`]: crate::Listener::new
//! [`Protocol`]: crate::Protocol
//! [`Protocol::handle_eof`]: crate::Protocol::handle_eof
//! [`Protocol::handle_error`]: crate::Protocol::handle_error
//! [`Protocol::handle_expt`]: crate::Protocol::handle_expt
//! [`Reactor`]: crate::Reactor
//! [`Reactor::close_all`]: crate::Reactor::close_all
//! [`Reactor::run`]: crate::Reactor::run
//! [`Reactor::run_turns`]: crate::Reactor::run_turns
//! [`Reactor::turn`]: crate::Reactor::turn
//! [`Stream`]: crate::Stream
//! [`Stream::new`]: crate::Stream::new
//! [`Terminator::Length`]: crate::Terminator::Length
//! [`Terminator::Never`]: crate::Terminator::Never
//! [`Token`]: crate::Token
//! [`producer_from_iter`]: crate::pieces
//! [`producer_from_reader`]: crate::reader
