//! Establishing a stream's connection: from an attempt to `handle_connect`.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;

use crate::address::Address;
use crate::reactor::{Cause, Context, Dispatcher, TimeoutKind};
use crate::stream::Stream;
use crate::stream::connect::{Attempt, ConnectStep, Connecting};
use crate::stream::connection::{Activity, Connection};
use crate::stream::protocol::Protocol;
use crate::sys::either::Socket;
use crate::sys::endpoint::Endpoint;
use crate::token::Token;

impl<P: Protocol> Stream<P> {
    pub(super) fn start_connecting(&mut self, cx: &mut Context) {
        let timeout = self.connection.limits().connect_timeout;
        let has_attempt = !self.connection.is_unconnected();
        let now = cx.clock();
        let Some(connecting) = self.connection.connecting_mut() else { return };
        let step = connecting.start(now, timeout, has_attempt);
        self.take_step(cx, step);
    }

    /// The deadline has passed: gives up, or tries the next address.
    pub(super) fn continue_connecting(&mut self, cx: &mut Context) {
        let now = cx.clock();
        let has_attempt = !self.connection.is_unconnected();
        let Some(connecting) = self.connection.connecting_mut() else { return };
        if connecting.is_over(now) {
            return cx.close_with(Cause::TimedOut(TimeoutKind::Connect));
        }
        let step = connecting.advance(now, has_attempt);
        self.take_step(cx, step);
    }

    /// The socket of the current attempt is writable.
    pub(super) fn finish_attempt(&mut self, cx: &mut Context) -> io::Result<()> {
        match self.connection.take_connect_result() {
            Ok(()) => self.on_connected(cx),
            // The event was one of the socket of the attempt before: this one continues.
            Err(error)
                if error.kind() == ErrorKind::NotConnected && !self.source().check_writable() =>
            {
                Ok(())
            }
            Err(error) => {
                cx.deregister(self.source());
                self.connection.take_socket();
                self.on_attempt_failed(cx, &self.connection.peer_addr(), error);
                Ok(())
            }
        }
    }

    fn on_resolved(&mut self, cx: &mut Context, result: io::Result<Vec<SocketAddr>>) {
        let addrs = match result {
            Ok(addrs) => addrs,
            Err(error) => return cx.close_with(Cause::Error(error)),
        };
        let now = cx.clock();
        let Some(connecting) = self.connection.connecting_mut() else { return };
        connecting.set_addrs(addrs);
        let step = connecting.advance(now, false);
        self.take_step(cx, step);
    }

    /// An attempt that was continued in a channel of its own has ended.
    fn on_earlier_attempt(
        &mut self,
        cx: &mut Context,
        attempt: Token,
        peer: Address,
        result: io::Result<Socket>,
    ) -> io::Result<()> {
        let Some(connecting) = self.connection.connecting_mut() else { return Ok(()) };
        connecting.remove_attempt(attempt);
        match result {
            Ok(socket) => {
                cx.deregister(self.source());
                self.connection.replace_socket(socket, peer);
                self.on_connected(cx)
            }
            Err(error) => {
                self.on_attempt_failed(cx, &peer, error);
                Ok(())
            }
        }
    }

    fn on_attempt_failed(&mut self, cx: &mut Context, peer: &Address, error: io::Error) {
        let now = cx.clock();
        let has_attempt = !self.connection.is_unconnected();
        let Some(connecting) = self.connection.connecting_mut() else { return };
        connecting.record_failure(peer, error);
        let step = connecting.advance(now, has_attempt);
        self.take_step(cx, step);
    }

    fn take_step(&mut self, cx: &mut Context, step: ConnectStep) {
        match step {
            ConnectStep::Wait => {}
            ConnectStep::Fail(error) => cx.close_with(Cause::Error(error)),
            ConnectStep::Lookup { host, port } => {
                let stream = cx.token();
                let job = move |cx: &mut Context, result| {
                    cx.call_channel(stream, |stream: &mut Self, cx| {
                        stream.on_resolved(cx, result);
                        Ok(())
                    });
                };
                if let Err(error) = cx.resolve(&host, port, job) {
                    cx.close_with(Cause::Error(error));
                }
            }
            ConnectStep::Attempt(socket, peer) => {
                self.detach_attempt(cx);
                self.connection.replace_socket(socket, peer);
            }
        }
    }

    /// Continues the current attempt in a channel of its own.
    fn detach_attempt(&mut self, cx: &mut Context) {
        cx.deregister(self.source());
        let peer = self.connection.peer_addr();
        let Some(socket) = self.connection.take_socket() else { return };
        let report = |cx: &mut Context, stream, attempt, peer, result| {
            cx.call_channel(stream, |stream: &mut Self, cx| {
                stream.on_earlier_attempt(cx, attempt, peer, result)
            });
        };
        match cx.add(Attempt::new(socket, peer.clone(), cx.token(), report)) {
            Ok(attempt) => {
                if let Some(connecting) = self.connection.connecting_mut() {
                    connecting.add_attempt(attempt);
                }
            }
            Err(error) => log::debug!("connect to {peer}: {error}"),
        }
    }

    fn on_connected(&mut self, cx: &mut Context) -> io::Result<()> {
        if let Some(connecting) = self.connection.finish_connecting() {
            connecting.close_attempts(cx);
        }
        self.connection.update_peer();
        self.call_handle_connect(cx)?;
        // Sent before the connection was established.
        if let Err(error) = self.connection.flush(cx.now()) {
            self.connection.fail_write(error);
        }
        if cx.drain_started() && !cx.is_closing() { self.handle_drain(cx) } else { Ok(()) }
    }

    /// Gives up the earlier attempts, as the stream closes.
    pub(super) fn close_attempts(&mut self, cx: &mut Context) {
        if let Some(connecting) = self.connection.connecting_mut() {
            connecting.close_attempts(cx);
        }
    }
}

impl Connection {
    #[inline(always)]
    pub(super) fn is_connecting(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.connecting.is_some())
    }

    pub(super) fn connecting_mut(&mut self) -> Option<&mut Connecting> {
        self.active.as_mut()?.connecting.as_mut()
    }

    pub(super) fn start_connecting(&mut self, connecting: Connecting) {
        self.active_mut().connecting = Some(connecting);
    }

    /// The connection is established. Returns what is left of the attempts.
    pub(super) fn finish_connecting(&mut self) -> Option<Connecting> {
        if self.activity == Activity::None {
            self.activity = Activity::Received;
        }
        self.active.as_mut()?.connecting.take()
    }

    /// Sets the peer's address, if it was not known while connecting.
    fn update_peer(&mut self) {
        if let Endpoint::Socket(socket) = &self.endpoint
            && self.peer_addr() == Address::Unknown
        {
            self.peer = socket.peer_addr().into();
        }
    }

    /// Returns `true` if there is no socket yet.
    pub(super) fn is_unconnected(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unconnected)
    }

    pub(super) fn take_connect_result(&self) -> io::Result<()> {
        match &self.endpoint {
            Endpoint::Socket(socket) => socket.take_connect_result(),
            Endpoint::Descriptor(_) | Endpoint::Unconnected => Ok(()),
        }
    }

    /// Exchanges the socket. The previous source must not be registered.
    pub(super) fn replace_socket(&mut self, socket: Socket, peer: Address) {
        self.endpoint = Endpoint::Socket(socket);
        self.peer = peer.into();
    }

    /// Gives up the socket. Its source must not be registered.
    pub(super) fn take_socket(&mut self) -> Option<Socket> {
        match mem::replace(&mut self.endpoint, Endpoint::Unconnected) {
            Endpoint::Socket(socket) => Some(socket),
            Endpoint::Descriptor(_) | Endpoint::Unconnected => None,
        }
    }
}
