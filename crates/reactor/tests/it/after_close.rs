//! Invariant 1, for each dispatcher of the library: no callback follows one that closes
//! its channel, whatever is pending.

use std::cell::Cell;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

#[cfg(unix)]
use reactor::signal::{SIGUSR1, SIGUSR2, Signals};
use reactor::{
    Address, Chat, ChatIo, ChatProtocol, Datagram, DatagramIo, DatagramProtocol, Io, Listener,
    Protocol, Reactor, Stream, TimerId, Token, inbox,
};

use crate::common::{Log, local_pair, turn_all};

/// Closes itself in its first callback, by one of two ways.
struct Closer {
    log: Log,
    by_token: bool,
}

impl Protocol for Closer {
    fn writable(&self) -> bool {
        true
    }
    fn handle_read(&mut self, io: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        self.log.note("read");
        io.set_timer(Duration::ZERO);
        if self.by_token {
            let token = io.token();
            io.context().close(token);
        } else {
            io.close();
        }
        Ok(())
    }
    fn handle_write(&mut self, _: &mut Io<'_>) -> io::Result<()> {
        if self.log.has("read") {
            self.log.note("write");
        }
        Ok(())
    }
    fn handle_timer(&mut self, _: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        self.log.note("timer");
        Ok(())
    }
    fn handle_eof(&mut self, _: &mut Io<'_>) -> io::Result<()> {
        self.log.note("eof");
        Ok(())
    }
    fn handle_drain(&mut self, _: &mut Io<'_>) -> io::Result<()> {
        self.log.note("drain");
        Ok(())
    }
}

impl ChatProtocol for Closer {
    fn writable(&self) -> bool {
        true
    }
    fn handle_write(&mut self, _: &mut ChatIo<'_>) -> io::Result<()> {
        if self.log.has("read") {
            self.log.note("write");
        }
        Ok(())
    }
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.log.note("read");
        chat.io().set_timer(Duration::ZERO);
        if self.by_token {
            let token = chat.token();
            chat.context().close(token);
        } else {
            chat.close_when_done();
        }
        Ok(())
    }
    fn handle_timer(&mut self, _: &mut ChatIo<'_>, _: TimerId) -> io::Result<()> {
        self.log.note("timer");
        Ok(())
    }
    fn handle_eof(&mut self, _: &mut ChatIo<'_>) -> io::Result<()> {
        self.log.note("eof");
        Ok(())
    }
}

impl DatagramProtocol for Closer {
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        _: &[u8],
        _: &Address,
    ) -> io::Result<()> {
        self.log.note("read");
        let token = io.token();
        io.context().close(token);
        Ok(())
    }
}

#[test]
fn invariant_1_no_dispatcher_calls_back_after_it_closed_itself() {
    let kinds = ["stream", "chat", "datagram", "listener", "signals", "inbox"];
    for (kind, by_token) in kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let closer = Closer { log: log.clone(), by_token };
        let token: Rc<Cell<Option<Token>>> = Rc::default();
        let seen = log.clone();
        match kind {
            "stream" | "chat" => {
                let (ours, mut theirs) = local_pair().unwrap();
                // More than one read, several messages, and the end.
                theirs.set_nonblocking(true).unwrap();
                while theirs.write(&b"line\n".repeat(10_000)).is_ok() {}
                if kind == "stream" {
                    reactor.add(Stream::new(ours, closer).unwrap()).unwrap();
                } else {
                    reactor.add(Stream::new(ours, Chat::new("\n", closer)).unwrap()).unwrap();
                }
                drop(theirs);
            }
            "datagram" => {
                let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
                let addr = ours.local_addr().unwrap();
                let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
                (0..10).for_each(|_| drop(theirs.send_to(b"x", addr)));
                reactor.add(Datagram::new(ours, closer).unwrap()).unwrap();
            }
            "listener" => {
                let ours = TcpListener::bind("127.0.0.1:0").unwrap();
                let addr = ours.local_addr().unwrap();
                let peers: Vec<_> = (0..10).map(|_| TcpStream::connect(addr)).collect();
                let listener = Listener::with_handler(ours, move |cx, _, _| {
                    seen.note("read");
                    cx.close(cx.token());
                    Ok(())
                });
                reactor.add(listener.unwrap()).unwrap();
                turn_all(&mut reactor);
                drop(peers);
            }
            #[cfg(unix)] // signals by number
            "signals" => {
                let signals = Signals::new(&[SIGUSR1, SIGUSR2], move |cx, _| {
                    seen.note("read");
                    cx.close(cx.token());
                });
                reactor.add(signals.unwrap()).unwrap();
                turn_all(&mut reactor);
                for signal in [SIGUSR1, SIGUSR2] {
                    signal_hook::low_level::raise(signal).unwrap();
                }
            }
            _ => {
                let own = Rc::clone(&token);
                let (sender, inbox) = inbox(100, move |cx, _: u32| {
                    seen.note("read");
                    if let Some(own) = own.get() {
                        cx.close(own);
                    }
                    Ok(())
                });
                token.set(Some(reactor.add(inbox).unwrap()));
                turn_all(&mut reactor);
                (0..10).for_each(|number| sender.send(number).unwrap());
            }
        }
        turn_all(&mut reactor);
        reactor.context().drain(Duration::ZERO);
        turn_all(&mut reactor);
        assert_eq!(log.lines(), ["read"], "{kind}, by its token: {by_token}");
    }
}
