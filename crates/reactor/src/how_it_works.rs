//! How the reactor works, from an event to the files. This module contains documentation
//! only.
//!
//! # One event, from the kernel to the bytes written back
//!
#![doc = include_str!("../doc/loop.svg")]
//!
//! This is the whole path of an echoed message, and a good order in which to read the
//! code. Paths are relative to `src/`.
//!
//! 1. `reactor/turn.rs`: [`Reactor::run`] calls `run_turn` in a loop. It waits in
//!    `Poller::wait` (`poll/mod.rs`), on Linux mostly in `EpollFastPath::wait`
//!    (`poll/epoll.rs`), until the kernel reports that a socket is readable.
//! 2. `run_turn` passes each event to `dispatch_event`. The event contains a key: the slot of
//!    the channel, and the generation of its [`Token`]. `Slots::take_readable`
//!    (`reactor/slots.rs`) takes the channel's [`Dispatcher`] out of its slot, so that it
//!    can receive a [`Context`] over all others. Other events go through `dispatch_other`.
//!    It leaves the rare ones to `dispatch_special`: urgent data, hang-ups, and channels
//!    that an earlier callback touched. `dispatch_special` also drops an event if its
//!    generation is not the one in the slot. (If callbacks are measured, or an event disarms
//!    its source, as on illumos, all events take the longer way, and `Context::call` replaces
//!    `Context::read`.)
//! 3. `reactor/call.rs`: `Context::read` calls `Channel::read`, which calls the
//!    dispatcher's `handle_read`, then *settles* it: it closes the channel if it has
//!    finished, and updates what is watched for it (steps 6 and 7). Errors and panics end
//!    here (`end_channel`, and `catch_panic` in `reactor/panic.rs`).
//! 4. `stream/dispatch.rs`: the dispatcher is a [`Stream`]. Its `handle_read` borrows
//!    the reactor's read buffer, reads once (`receive` in `stream/connection.rs`), and
//!    calls [`Protocol::handle_read`] with an [`Io`] and the bytes.
//! 5. `stream/sending.rs`: [`send`](Connection::send) appends the reply to an output
//!    buffer that the reactor lends for the time of the callback.
//! 6. `reactor/call.rs`: `Channel::read` then queries `poll_close` (`stream/dispatch.rs`),
//!    which writes the gathered output with one system call. If the kernel accepts all of
//!    it, the buffer is returned; what it does not accept stays queued.
//! 7. If the stream still waits for input only, nothing needs to change, and the event is
//!    finished: `waits_for_input`, and `put_back_waiting` in `reactor/slots.rs`, check that.
//!    Otherwise, for example because output is queued, `update_watched` queries
//!    `update_deadline`, `readable` and `writable`. If there is a deadline, or the interest
//!    differs from what is watched (`is_watched`), `watch` (`reactor/settle.rs`) changes the
//!    timers and, by `update_registration` (`reactor/registration.rs`), the poller's interest.
//!
//! When all events are dispatched, `turn` runs timers and posted jobs, and settles the
//! channels that were added, reached through their token, or are closing.
//!
//! # Where decisions are made
//!
//! | question | file | function |
//! | --- | --- | --- |
//! | When does reading stop for a peer that does not read? | `stream/connection.rs` | `wants_read` returns `false` while `holds_back_input` (`stream/sending.rs`) is `true`. That starts when a queue that includes replies reaches the high-water mark, and ends at the low-water mark (`congested` in `output_buffer.rs`). `Limits::read_while_congested` turns it off |
//! | When does a chat stop parsing for such a peer? | `chat/mod.rs` | `parse` |
//! | What happens when no file descriptors are available to accept? | `listener/mod.rs` | `accept_pending` calls `pause_after`, which starts a pause, during which `Listener::readable` stops accepting; `Listener::handle_deadline` ends it; its length is in `backoff.rs`, the classes of errors in `sys/accept.rs` (all that are not listed there pause) |
//! | Where is an event for a reused slot dropped? | `reactor/turn.rs` | `dispatch_special`, because `Slots::take_readable` and `resolve` (`reactor/slots.rs`) return `None` if the generation in the key differs |
//! | How do unsent bytes reach the close reason? | `reactor/settle.rs` | `finish_close` queries `Dispatcher::unsent` and calls `handle_close`; for a stream, `unsent` in `stream/dispatch.rs` adds up its queue and what the protocol keeps back |
//! | Where is a panic caught? | `reactor/panic.rs` | `catch_panic`; a table at the top of that file says which code of the program is called where, and what a panic in it does |
//! | Where do many posts cause one wake-up? | `reactor/handle.rs` | `post` wakes only a loop that is `Asleep`; see `Attention` |
//! | What keeps a hang-up from spinning? | `reactor/turn.rs` | `dispatch_hangup` calls `suspend_registration` (`reactor/registration.rs`), which removes the source from the poller until something is wanted from it; see `HungUp` there |
//! | What bounds a graceful close? | `stream/timeouts.rs` | `stall_deadline` and `close_deadline`. Before the kernel has taken all output: the stall timeout. After that: two seconds without progress (`LINGER_TIMEOUT`), and never longer than the close timeout in total. While it cannot be measured what the kernel has not sent, the stall timeout replaces the two seconds (`expire_linger`). The handshake of a filter has its own limit, `handshake_timeout` |
//! | Where is the registered interest decided? | `reactor/call.rs` | `update_watched`; a stream's part is `readable` and `writable` in `stream/dispatch.rs`, and their shortcut `waits_for_input`; the first registration is by `register` in `reactor/context.rs` |
//! | Where are socket options set on accepted streams? | `listener/mod.rs` | `handle_accepted`, before the protocol exists, and `with_socket_options`, on the listening socket. For streams that connect, it is `connect_bound` in `sys/socket.rs`. A new option is a field of `SocketOptions` and a line of `set_on`, both in `sys/socket_options.rs`, which also says what each system lacks; nothing else must change |
//! | How does a program run on a virtual clock and a simulated network? | `sys/kernel.rs` | `enter` runs a function with a `Kernel` in place of the system (feature `sim`), so that no file must change: `now` in `sys/clock.rs` reads the clock of that kernel, and new sockets and signals (`sys/either.rs`) and pollers (`poll/either.rs`) are those of that kernel, as are look-ups of names and random numbers. `crates/sim` provides one |
//! | How does input reach a protocol through a filter? | `stream/deliver.rs` | `handle_raw` passes it through the filter (`pass_input` in `stream/filtering.rs`), and `deliver` calls the protocol, now, or as soon as it reads again (`update_deadline` in `stream/dispatch.rs`) |
//! | Where does output pass a filter? | `stream/filter_output.rs` | Usually in `flush_blocked` (`pass_output`), after the callback that sent it. A large `send` passes it at once, in `send_filtered`. `finish_filter` sends what ends the output, such as `close_notify`. A layer such as `crates/tls` implements `Filter` (`filter.rs`), and nothing here must change |
//!
//! # The modules
//!
//! Each entry at the left margin imports only those above it; the files of a folder may
//! import each other. Within a folder, `mod.rs` is a good start.
//!
//! ```text
//! address.rs               Address: IP and port, a path, or a host name
//! token.rs                 Token: slot and generation of a channel
//! compact_instant.rs       a monotonic timestamp in 8 bytes
//! output_buffer.rs         output accepted for sending and not yet written
//! backoff.rs               pauses between attempts that fail
//! filter.rs                Filter: a layer between socket and protocol
//! sys/                     the operating system; the only place with its types
//!   socket_calls.rs        calls that differ by system
//!   portable_socket_calls.rs the same for Unix systems other than Linux and Android
//!   socket.rs              stream sockets: connect, listen, read, write, options
//!   accept.rs              accept(2), and the classes of its errors
//!   descriptor.rs          pipes, terminals, files
//!   endpoint.rs            either of the two, as one end of a stream
//!   destination.rs         the addresses to which a datagram was sent
//!   packet_info.rs         the local address of a datagram, received or sent
//!   portable_packet_info.rs the same for systems other than Linux and Android
//!   datagram_socket.rs     datagram sockets
//!   error_queue.rs         queued errors and timestamps of a socket
//!   shared_mode.rs         the non-blocking mode that descriptors share
//!   source.rs              Source: anything that can be polled
//!   sock_addr.rs           addresses, converted from and to those of the system
//!   unix_address.rs        paths and abstract names of Unix sockets
//!   unix_socket.rs         Unix sockets
//!   socket_path.rs         the file that a Unix socket is bound to
//!   socket_file.rs         its mode and owner
//!   socket_options.rs      options that are set on stream sockets
//!   peer_credentials.rs    who is at the other end of a Unix socket
//!   multicast.rs           membership of a datagram socket in groups
//!   resolver.rs            name resolution on threads
//!   random.rs              random numbers
//!   signals.rs             signals as a source
//!   eventfd.rs             a descriptor that wakes a poller
//!   process.rs             the process that a reactor belongs to
//!   clock.rs               the monotonic clock
//!   kernel.rs              Kernel: replaces the system in a simulation (feature `sim`)
//!   either.rs              sockets and signals, of the system or simulated
//!   system_only.rs         the same without the feature `sim`
//!   windows/ffi.rs         two calls of Windows that no crate wraps; the other files there
//!                          replace those of the same name
//! poll/                    readiness, on `polling`; the only `unsafe` on Unix
//!   mod.rs                 Poller: add, modify, delete, wait
//!   event.rs               Interest: what is wanted; Event: what is reported
//!   epoll.rs               waits with one system call (other systems: fallback.rs)
//!   busy_poll.rs           polling without blocking before a wait
//!   either.rs              Poller, of the system or simulated
//!   system_only.rs         the same without the feature `sim`
//! reactor/                 the loop; every channel is a `dyn Dispatcher`
//!   mod.rs                 Reactor: what a program calls
//!   turn.rs                the turn, from top to bottom
//!   panic.rs               where panics are caught
//!   call.rs                calling and settling a channel; its errors
//!   settle.rs              what is watched for a channel, and its removal
//!   slots.rs               the table of channels, and the life of a slot
//!   registration.rs        what the poller watches for a channel
//!   timers.rs, schedule.rs timers and deadlines, in order
//!   context.rs             Context: the reactor, as callbacks see it
//!   dispatcher.rs          Dispatcher: the interface of a channel
//!   close_reason.rs        CloseReason, Cause: why a channel ended
//!   handle.rs, inbox.rs    work and messages from other threads
//!   drain.rs               shutting down gracefully
//!   builder.rs, stats.rs   settings and counters
//! stream/                  one connection and its protocol
//!   mod.rs                 Stream: creating one
//!   protocol.rs            Protocol: your callbacks; Io: what they receive
//!   dispatch.rs            from readiness events to callbacks
//!   connection.rs          Connection: its state, and input
//!   sending.rs             its output: gathered, written, queued
//!   active.rs              what a connection has only at times
//!   filtering.rs           its filters, and its input through them
//!   filter_output.rs       its output through them
//!   deliver.rs             from a filter to callbacks
//!   timeouts.rs, ending.rs its deadlines, and its end
//!   closing.rs             CloseState: how a stream ends, as a table
//!   limits.rs, throttle.rs limits on memory, time and rate
//!   connector.rs           Connector: where and how to connect
//!   connect.rs             attempts to connect, one address after another
//!   establish.rs           their steps that need the reactor
//!   reconnector.rs         Reconnector: a client that stays connected
//!   connection_limit.rs    how many accepted connections may be open
//!   config.rs              what the streams of one listener share
//!   unix.rs                streams that Windows lacks: Unix sockets, pipes, files
//! listener/                accepting connections, pausing and rejecting
//! chat/                    messages: framing, output queue, producers
//! datagram/                datagram sockets and their protocols
//! signal.rs                Signals: signals and console events as events
//! guarantees.rs, how_it_works.rs, porting.rs  documentation only
//! ```

// For the links above.
#[allow(unused_imports, reason = "rustdoc resolves links in the scope of the module")]
use crate::{Connection, Context, Dispatcher, Io, Protocol, Reactor, Stream, Token};
