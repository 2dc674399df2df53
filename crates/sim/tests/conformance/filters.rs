//! Filters between the socket and the protocol: one that disguises bytes and has an end of
//! its own, the PROXY protocol, and an upgrade in the middle of a conversation.

use std::io::{self, ErrorKind};

use reactor::{Connector, Filter, Flow, Io, Limits, Listener, Reactor, Stream};

use crate::peer::{
    On, Peer, React, add_listener, closes_after, dial, no_limits, passive, pattern, sends,
};
use crate::run::{self, moment, note, note_result};
use crate::script::{Script, script};

/// Ends the disguised output.
const END: u8 = 0xff;

/// A hello, then disguised bytes, then [`END`]. Anything but a hello is an error, and is
/// answered.
#[derive(Default)]
struct Disguise {
    /// It says hello only when its peer has.
    is_second: bool,
    is_ready: bool,
    has_ended: bool,
}

impl Filter for Disguise {
    fn start(&mut self, flow: &mut Flow<'_>) -> io::Result<()> {
        if !self.is_second {
            flow.wire.push(b'H');
        }
        Ok(())
    }

    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        for &byte in &*raw {
            match byte {
                b'H' if !self.is_ready => {
                    self.is_ready = true;
                    if self.is_second {
                        flow.wire.push(b'H');
                    }
                    flow.ready();
                }
                _ if !self.is_ready || self.has_ended => {
                    flow.wire.extend(b"no hello");
                    return Err(io::Error::new(ErrorKind::InvalidData, "no hello"));
                }
                END => {
                    self.has_ended = true;
                    flow.end();
                }
                byte => flow.plain.push(byte ^ 0x55),
            }
        }
        Ok(())
    }

    fn ended(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
        Err(ErrorKind::UnexpectedEof.into())
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain.iter().map(|byte| byte ^ 0x55));
        Ok(())
    }

    fn finish(&mut self, wire: &mut Vec<u8>) {
        wire.push(END);
    }
}

/// Returns bytes that the filter does not take for its end.
fn plain(len: usize) -> Vec<u8> {
    pattern(len).into_iter().map(|byte| byte & 0x7f).collect()
}

fn listen_filtered(
    reactor: &mut Reactor,
    limits: Limits,
    react: impl React + Clone,
) -> io::Result<()> {
    let accept = move |_: &_| Ok(Peer::new("server", react.clone()));
    let listener = Listener::bind(run::addr(), accept)?.with_limits(limits);
    add_listener(reactor, listener.with_filter(|_| Ok(Disguise::default()))).map(drop)
}

fn dial_filtered(reactor: &mut Reactor, react: impl React) -> io::Result<()> {
    let stream = Stream::connect([run::addr()], Peer::new("client", react));
    reactor.add(stream.with_limits(no_limits()).with_filter(Disguise::default())).map(drop)
}

pub(crate) fn scripts() -> Vec<Script> {
    let mut scripts = disguised();
    scripts.extend(upgrades());
    scripts.extend(proxied());
    scripts
}

/// Like [`crate::peer::echo`].
fn echo(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    crate::peer::echo(on, io)
}

fn disguised() -> Vec<Script> {
    let both = |name: &str, server: fn(On<'_>, &mut Io<'_>) -> io::Result<()>, client| {
        let client: fn(On<'_>, &mut Io<'_>) -> io::Result<()> = client;
        script(
            name,
            move |reactor| listen_filtered(reactor, no_limits(), server),
            move |reactor| dial_filtered(reactor, client),
        )
    };
    vec![
        script(
            "filtered: an echo",
            |reactor| listen_filtered(reactor, no_limits(), echo),
            |reactor| dial_filtered(reactor, sends(b"hello", closes_after(5))),
        ),
        both("filtered: a greeting, and a close", greets_and_closes, passive),
        both("filtered: a large upload and a large reply", replies_at_the_end, |on, io| match on {
            On::Connect => {
                io.send(&plain(300_000))?;
                io.shutdown()
            }
            _ => passive(on, io),
        }),
        both(
            "filtered: the server aborts",
            |on, io| match on {
                On::Read(_) => Ok(io.abort()),
                _ => Ok(()),
            },
            |on, io| match on {
                On::Connect => io.send(b"x"),
                _ => passive(on, io),
            },
        ),
        both(
            "filtered: the server fails",
            |on, _| match on {
                On::Read(_) => Err(io::Error::other("not understood")),
                _ => Ok(()),
            },
            |on, io| match on {
                On::Connect => io.send(b"x"),
                _ => passive(on, io),
            },
        ),
        script(
            "filtered: the client sends and closes before it is connected",
            |reactor| listen_filtered(reactor, no_limits(), passive),
            |reactor| {
                let stream = Stream::connect([run::addr()], Peer::new("client", passive));
                let stream = stream.with_filter(Disguise::default());
                let token = reactor.add(stream)?;
                let stream = reactor.get_mut::<Stream<Peer>>(token).unwrap();
                note_result("send", stream.send(b"early"));
                Ok(stream.close())
            },
        ),
        script(
            "filtered: a client that does not speak it",
            |reactor| listen_filtered(reactor, no_limits(), passive),
            |reactor| dial(reactor, sends(b"x", passive)),
        ),
        script(
            "filtered: a client that says nothing",
            |reactor| {
                let limits = Limits { handshake_timeout: Some(moment()), ..no_limits() };
                listen_filtered(reactor, limits, passive)
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    // The reset may overtake the hello.
                    On::Connect => Ok(io.pause()),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "filtered: a connection that ends without the filter's own end",
            |reactor| listen_filtered(reactor, no_limits(), passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"H")?;
                        io.send(b"\x3d\x3c")
                    }
                    On::Read(_) => io.shutdown(),
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "filtered: a connection that ends before the hello",
            |reactor| listen_filtered(reactor, no_limits(), passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => io.shutdown(),
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "filtered: the listener cannot create the filter",
            |reactor| {
                let accept = |_: &_| Ok(Peer::new("server", passive));
                let listener = Listener::bind(run::addr(), accept)?;
                let filter = |_: &_| -> io::Result<Disguise> { Err(io::Error::other("no key")) };
                add_listener(reactor, listener.with_filter(filter)).map(drop)
            },
            |reactor| dial(reactor, passive),
        ),
    ]
}

fn greets_and_closes(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match on {
        On::Connect => {
            io.send(b"hello")?;
            Ok(io.close())
        }
        _ => Ok(()),
    }
}

fn replies_at_the_end(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match on {
        On::Eof => {
            io.send(&plain(300_000))?;
            Ok(io.close())
        }
        _ => Ok(()),
    }
}

fn upgrades() -> Vec<Script> {
    vec![
        script(
            "an upgrade in the middle of a conversation",
            |reactor| {
                let mut is_upgraded = false;
                crate::peer::listen(reactor, move |on, io| match on {
                    On::Read(_) if !is_upgraded => {
                        is_upgraded = true;
                        io.send(b"k")?;
                        io.start_filter(Disguise { is_second: true, ..Disguise::default() }, &[])
                    }
                    On::Upgrade => {
                        note(format!("filtered: {}", io.filter::<Disguise>().is_some()));
                        Ok(())
                    }
                    _ => echo(on, io),
                })
            },
            |reactor| {
                let mut reads = 0;
                dial(reactor, move |on, io| match on {
                    On::Connect => io.send(b"u"),
                    On::Read(_) => {
                        reads += 1;
                        if reads == 1 {
                            io.start_filter(Disguise::default(), &[])
                        } else {
                            Ok(io.close())
                        }
                    }
                    On::Upgrade => io.send(b"!"),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "an upgrade that the client does not continue",
            |reactor| {
                crate::peer::listen(reactor, |on, io| match on {
                    On::Read(_) => io.start_filter(Disguise::default(), &[]),
                    _ => passive(on, io),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => io.send(b"u"),
                    // It is the filter's hello.
                    On::Read(_) => io.shutdown(),
                    _ => passive(on, io),
                })
            },
        ),
    ]
}

fn proxied() -> Vec<Script> {
    let header = |name: &str, header: &'static [u8], is_complete: bool| {
        script(
            name,
            move |reactor| {
                let accept = |_: &_| {
                    Ok(Peer::new("server", |on, io: &mut Io<'_>| match on {
                        On::Connect => {
                            note(match io.peer_addr().as_inet() {
                                Some(addr) if addr.port() == 4321 => addr.to_string(),
                                _ => "the proxy itself".to_owned(),
                            });
                            Ok(())
                        }
                        _ => echo(on, io),
                    }))
                };
                let handshake_timeout = (!is_complete).then(moment);
                let limits = Limits { handshake_timeout, ..no_limits() };
                let listener = Listener::bind(run::addr(), accept)?.with_limits(limits);
                let trusted = ["127.0.0.0/8".parse().unwrap()];
                add_listener(reactor, proxy_protocol::listen(listener, trusted)).map(drop)
            },
            move |reactor| {
                let connector = Connector::to_addrs([run::addr()]).with_limits(no_limits());
                let peer = Peer::new("client", sends(header, closes_after(1)));
                reactor.add(connector.connect(peer)).map(drop)
            },
        )
    };
    vec![
        header("PROXY protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 4321 80\r\nx", true),
        header("PROXY protocol: the proxy's own connection", b"PROXY UNKNOWN\r\nx", true),
        header("PROXY protocol: no header", b"GET / HTTP/1.0\r\n\r\n", true),
        header("PROXY protocol: half a header", b"PROXY TCP4 192.0.", false),
        script(
            "PROXY protocol: a proxy that is not trusted",
            |reactor| {
                let accept = |_: &_| Ok(Peer::new("server", passive));
                let listener = Listener::bind(run::addr(), accept)?;
                let trusted = ["192.0.2.0/24".parse().unwrap()];
                add_listener(reactor, proxy_protocol::listen(listener, trusted)).map(drop)
            },
            |reactor| dial(reactor, passive),
        ),
    ]
}
