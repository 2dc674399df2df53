//! Back-pressure and timeouts: full buffers, the water marks, rates, and peers that are
//! silent.

use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use reactor::{Connector, Io, Limits, Listener, Protocol, Reactor, SocketOptions};

use crate::peer::{
    On, Peer, React, add_listener, closes_after, dial, dial_with, echo, idle, listen, no_limits,
    passive, pattern, sends, wait,
};
use crate::run::{self, moment, note_as, note_result};
use crate::script::{Script, script};

/// Much more than the buffers hold, which are small here.
const LARGE: usize = 600_000;

/// Shorter than the two seconds that a close waits without progress.
const SHORT: Duration = Duration::from_millis(20);

pub(crate) fn scripts() -> Vec<Script> {
    let mut scripts = pressure();
    scripts.extend(timeouts());
    scripts
}

/// So that the buffers of a kernel hold as little as those of a world.
fn small_buffers() -> SocketOptions {
    SocketOptions {
        send_buffer_size: Some(16 * 1024),
        receive_buffer_size: Some(16 * 1024),
        ..SocketOptions::default()
    }
}

fn listen_small(
    reactor: &mut Reactor,
    limits: Limits,
    react: impl React + Clone,
) -> io::Result<()> {
    let accept = move |_: &_| Ok(Peer::new("server", react.clone()).filling_buffers());
    let listener = Listener::bind(run::addr(), accept)?.with_limits(limits);
    add_listener(reactor, listener.with_socket_options(small_buffers())?).map(drop)
}

fn dial_small(reactor: &mut Reactor, limits: Limits, protocol: impl Protocol) -> io::Result<()> {
    let connector = Connector::to_addrs([run::addr()]).with_limits(limits);
    reactor.add(connector.with_socket_options(small_buffers()).connect(protocol)).map(drop)
}

/// Does not read until it is cued.
fn reads_late(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match on {
        On::Connect => Ok(io.pause()),
        On::Cue => Ok(io.resume()),
        _ => passive(on, io),
    }
}

/// The usual marks, and no timeout.
fn usual_marks() -> Limits {
    Limits { stall_timeout: None, connect_timeout: None, ..Limits::default() }
}

/// Sends numbered blocks, in each `handle_write` as many as the stream accepts.
struct Source {
    next: u8,
    end: u8,
}

impl Protocol for Source {
    fn writable(&self) -> bool {
        self.next < self.end
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        while self.next < self.end {
            match io.send(&[self.next; 5_000]) {
                Ok(()) => self.next += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(io.close())
    }

    fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        run::note_read("client", data);
        Ok(())
    }

    fn handle_close(&mut self, _: &mut Io<'_>, reason: &reactor::CloseReason) {
        note_as("client", format!("closed: {reason}"));
    }
}

fn pressure() -> Vec<Script> {
    vec![
        script(
            "a large message to a reader that is late",
            |reactor| listen_small(reactor, no_limits(), reads_late),
            |reactor| {
                let peer = Peer::new("client", |on, io| match on {
                    On::Connect => {
                        io.send(&pattern(LARGE))?;
                        io.close();
                        wait(io)
                    }
                    On::Close => Ok(()),
                    _ => passive(on, io),
                });
                reactor.context().call_later(moment(), |_| run::cue("server"));
                dial_small(reactor, no_limits(), peer)
            },
        ),
        script(
            "the high-water mark",
            |reactor| listen_small(reactor, no_limits(), reads_late),
            |reactor| {
                let peer = Peer::new("client", |on, io| match on {
                    On::Connect => {
                        note_result("a large one", io.send(&pattern(LARGE)));
                        wait(io)
                    }
                    On::Timer => {
                        let excess = io.send(b"the callback may exceed it, but not here");
                        note_result("one more", excess);
                        run::cue("server");
                        io.shutdown()
                    }
                    _ => passive(on, io),
                });
                dial_small(reactor, usual_marks(), peer)
            },
        ),
        script(
            "the excess that one callback may send",
            |reactor| listen_small(reactor, no_limits(), reads_late),
            |reactor| {
                let peer = Peer::new("client", |on, io| match on {
                    On::Connect => {
                        note_result("a large one", io.send(&pattern(LARGE)));
                        note_result("within the excess", io.send(&pattern(100_000)));
                        note_result("a second one", io.send(&pattern(400_000)));
                        note_result("a third one", io.send(&pattern(400_000)));
                        run::cue("server");
                        io.shutdown()
                    }
                    _ => passive(on, io),
                });
                let limits = Limits { max_excess: 500_000, ..usual_marks() };
                dial_small(reactor, limits, peer)
            },
        ),
        script(
            "handle_write follows at the low-water mark",
            |reactor| listen_small(reactor, no_limits(), reads_late),
            |reactor| {
                let peer = Peer::new("client", |on, io| match on {
                    On::Connect => {
                        io.send(&pattern(LARGE))?;
                        wait(io)
                    }
                    On::Timer => Ok(run::cue("server")),
                    On::Write => {
                        io.send(b"and the rest")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                });
                dial_small(reactor, usual_marks(), peer.writing(1))
            },
        ),
        script(
            "blocks, as many at a time as there is room for",
            |reactor| listen_small(reactor, no_limits(), passive),
            |reactor| dial_small(reactor, usual_marks(), Source { next: 0, end: 200 }),
        ),
        script(
            "an echo to a client that reads late",
            |reactor| listen_small(reactor, usual_marks(), echo),
            |reactor| {
                let mut received = 0;
                let peer = Peer::new("client", move |on, io| match on {
                    On::Connect => {
                        io.pause();
                        io.send(&pattern(LARGE))?;
                        wait(io)
                    }
                    On::Timer => Ok(io.resume()),
                    On::Read(data) => {
                        received += data.len();
                        if received == LARGE {
                            io.close();
                        }
                        Ok(())
                    }
                    _ => Ok(()),
                });
                dial_small(reactor, no_limits(), peer)
            },
        ),
        script(
            "an upload at a limited rate",
            |reactor| {
                let limits = Limits { read_rate: NonZeroU64::new(500_000), ..no_limits() };
                listen_small(reactor, limits, passive)
            },
            |reactor| {
                let limits = Limits { write_rate: NonZeroU64::new(400_000), ..no_limits() };
                let peer = Peer::new("client", |on, io| match on {
                    On::Connect => {
                        io.send(&pattern(100_000))?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                });
                dial_small(reactor, limits, peer)
            },
        ),
        script(
            "a close with much output",
            |reactor| listen(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(&pattern(4 * LARGE))?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
    ]
}

/// Sends more than the server's kernel holds, and less than both.
fn sends_some_and_closes(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match on {
        On::Connect => {
            io.send(&pattern(40_000))?;
            Ok(io.close())
        }
        On::Close => Ok(run::cue("server")),
        _ => Ok(()),
    }
}

fn timeouts() -> Vec<Script> {
    let idle_limits = || Limits { idle_timeout: Some(moment()), ..no_limits() };
    let stall_limits = || Limits { stall_timeout: Some(moment()), ..no_limits() };
    vec![
        script(
            "an idle stream of the server",
            move |reactor| {
                let accept = |_: &_| Ok(Peer::new("server", passive));
                let listener = Listener::bind(run::addr(), accept)?.with_limits(idle_limits());
                add_listener(reactor, listener).map(drop)
            },
            |reactor| dial(reactor, passive),
        ),
        script(
            "an idle stream of the client",
            |reactor| listen(reactor, passive),
            move |reactor| dial_with(reactor, idle_limits(), Peer::new("client", passive)),
        ),
        script(
            "an idle timeout that a callback sets",
            |reactor| listen(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => Ok(io.set_idle_timeout(Some(moment()))),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "an idle timeout that a callback removes",
            |reactor| listen(reactor, passive),
            move |reactor| {
                let peer = Peer::new("client", |on, io| match on {
                    On::Connect => {
                        io.set_idle_timeout(None);
                        io.set_timer(3 * moment());
                        Ok(())
                    }
                    On::Timer => Ok(io.close()),
                    _ => Ok(()),
                });
                let limits = Limits { idle_timeout: Some(Duration::from_secs(60)), ..no_limits() };
                dial_with(reactor, limits, peer)
            },
        ),
        script(
            "a peer that does not read",
            |reactor| {
                listen_small(reactor, no_limits(), |on, io| match on {
                    On::Connect => Ok(io.pause()),
                    _ => Ok(()),
                })
            },
            move |reactor| {
                let peer = Peer::new("client", |on, io| match on {
                    On::Connect => io.send(&pattern(LARGE)),
                    _ => Ok(()),
                });
                dial_small(reactor, stall_limits(), peer.filling_buffers())
            },
        ),
        script(
            "a peer that does not read what is sent before a close",
            |reactor| {
                listen_small(reactor, no_limits(), |on, io| match on {
                    On::Connect => Ok(io.pause()),
                    _ => Ok(()),
                })
            },
            move |reactor| {
                let peer = Peer::new("client", |on, io| match on {
                    On::Connect => {
                        io.send(&pattern(LARGE))?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                });
                dial_small(reactor, stall_limits(), peer.filling_buffers())
            },
        ),
        script(
            "neither side reads",
            move |reactor| {
                listen_small(reactor, no_limits(), |on, io| match on {
                    On::Connect => {
                        io.pause();
                        io.send(&pattern(LARGE))
                    }
                    _ => Ok(()),
                })
            },
            move |reactor| {
                let peer = Peer::new("client", |on, io| match on {
                    On::Connect => {
                        io.pause();
                        Ok(run::await_input(1))
                    }
                    On::Unread => io.send(&pattern(LARGE)),
                    _ => Ok(()),
                });
                dial_small(reactor, stall_limits(), peer.filling_buffers())
            },
        ),
        script(
            "a close that takes too long",
            |reactor| {
                listen_small(reactor, no_limits(), |on, io| match on {
                    On::Connect => Ok(io.pause()),
                    _ => Ok(()),
                })
            },
            move |reactor| {
                let limits = Limits { close_timeout: Some(SHORT), ..no_limits() };
                let peer = Peer::new("client", |on, io| match on {
                    // Its end is a reset, which must not meet a reader.
                    On::Close => Ok(()),
                    _ => sends_some_and_closes(on, io),
                });
                dial_with(reactor, limits, peer)
            },
        ),
        script(
            "a close that makes no progress leaves the rest to the kernel",
            |reactor| listen_small(reactor, no_limits(), reads_late),
            move |reactor| dial(reactor, sends_some_and_closes),
        ),
        script("a refused connection has no timeout", idle, move |reactor| {
            let limits = Limits { connect_timeout: Some(Duration::from_secs(3600)), ..no_limits() };
            dial_with(reactor, limits, Peer::new("client", passive))
        }),
        script(
            "an established connection has no connect timeout",
            |reactor| listen(reactor, sends(b"x", passive)),
            |reactor| {
                let hour = Duration::from_secs(3600);
                let limits = Limits { connect_timeout: Some(hour), ..no_limits() };
                dial_with(reactor, limits, Peer::new("client", closes_after(1)))
            },
        ),
    ]
}
