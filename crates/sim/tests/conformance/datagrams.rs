//! Datagrams, of UDP and of Unix sockets.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use reactor::{
    Address, Cause, CloseReason, Datagram, DatagramIo, DatagramProtocol, Dispatcher, Reactor,
    Stream, TimerId,
};

use crate::PANIC;
use crate::peer::{Peer, idle, passive};
use crate::run::{self, moment, note, note_as, note_result};
use crate::script::{Script, script};

/// A callback and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDatagram<'a> {
    Add,
    Arrived(&'a [u8], &'a Address),
    Write,
    Timer,
    Drain,
}

use OnDatagram::{Add, Arrived, Drain, Timer, Write};

trait React: FnMut(OnDatagram<'_>, &mut DatagramIo<'_>) -> io::Result<()> + 'static {}
impl<F: FnMut(OnDatagram<'_>, &mut DatagramIo<'_>) -> io::Result<()> + 'static> React for F {}

type BoxedReact = Box<dyn FnMut(OnDatagram<'_>, &mut DatagramIo<'_>) -> io::Result<()>>;

/// Notes its callbacks, and then does what its script says.
struct Socket {
    name: String,
    react: BoxedReact,
    writes: usize,
    is_deaf: bool,
}

impl Socket {
    fn new(name: &'static str, react: impl React) -> Self {
        let name = run::number_name(name);
        Socket { name, react: Box::new(react), writes: 0, is_deaf: false }
    }

    fn call(&mut self, on: OnDatagram<'_>, io: &mut DatagramIo<'_>) -> io::Result<()> {
        let Socket { name, react, .. } = self;
        run::speak_as(name, || react(on, io))
    }
}

impl DatagramProtocol for Socket {
    fn readable(&self) -> bool {
        !self.is_deaf
    }

    fn writable(&self) -> bool {
        self.writes > 0
    }

    fn handle_add(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        self.call(Add, io)
    }

    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        from: &Address,
    ) -> io::Result<()> {
        let line = match data.len() {
            0..=40 => format!("received \"{}\"", data.escape_ascii()),
            len => format!("received {len} bytes"),
        };
        note_as(&self.name, line);
        self.call(Arrived(data, from), io)
    }

    fn handle_datagram_error(&mut self, _: &mut DatagramIo<'_>, _: &Address, error: &io::Error) {
        note_as(&self.name, format!("datagram error: {error}"));
    }

    fn handle_write(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        self.writes -= 1;
        note_as(&self.name, "writable");
        self.call(Write, io)
    }

    fn handle_timer(&mut self, io: &mut DatagramIo<'_>, _: TimerId) -> io::Result<()> {
        note_as(&self.name, "timer");
        self.call(Timer, io)
    }

    fn handle_drain(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        note_as(&self.name, "drain");
        self.call(Drain, io)
    }

    fn handle_error(&mut self, _: &mut DatagramIo<'_>, cause: &Cause) {
        note_as(&self.name, format!("error: {cause}"));
    }

    fn handle_close(&mut self, _: &mut DatagramIo<'_>, reason: &CloseReason) {
        note_as(&self.name, format!("closed: {reason}"));
    }
}

fn add(reactor: &mut Reactor, channel: io::Result<impl Dispatcher>) -> io::Result<()> {
    reactor.add(channel?).map(drop)
}

fn serve(reactor: &mut Reactor, react: impl React) -> io::Result<()> {
    add(reactor, Datagram::bind(run::addr(), Socket::new("server", react)))
}

fn ask(reactor: &mut Reactor, react: impl React) -> io::Result<()> {
    add(reactor, Datagram::connect(run::addr(), Socket::new("client", react)))
}

/// Returns each datagram, and closes after the one that is "end".
fn echo(on: OnDatagram<'_>, io: &mut DatagramIo<'_>) -> io::Result<()> {
    match on {
        Arrived(b"end", _) => Ok(io.close()),
        Arrived(data, from) => io.send_to(data, from),
        _ => Ok(()),
    }
}

/// Sends `data`, waits for the echo, and ends the server too.
fn sends(data: Vec<u8>) -> impl React {
    move |on: OnDatagram<'_>, io: &mut DatagramIo<'_>| match on {
        Add => Ok(note_result("send", io.send(&data))),
        Arrived(returned, _) => {
            note(format!("equal: {}", returned == data));
            io.send(b"end")?;
            Ok(io.close())
        }
        _ => Ok(()),
    }
}

/// Sends three datagrams to where nobody receives, a moment apart, and stays open.
fn sends_in_vain(to: Option<SocketAddr>) -> impl React {
    let mut sent = 0;
    move |on: OnDatagram<'_>, io: &mut DatagramIo<'_>| {
        if (on == Add || on == Timer) && sent < 3 {
            sent += 1;
            match to {
                Some(to) => note_result("send", io.send_to(b"x", &Address::Inet(to))),
                None => note_result("send", io.send(b"x")),
            }
            io.set_timer(moment());
        }
        Ok(())
    }
}

pub(crate) fn scripts() -> Vec<Script> {
    let mut scripts = udp();
    scripts.extend(udp_addresses());
    scripts.extend(unix());
    scripts
}

fn udp() -> Vec<Script> {
    let echoed = |name: &str, len: usize| {
        script(
            name,
            |reactor| serve(reactor, echo),
            move |reactor| ask(reactor, sends(vec![7; len])),
        )
    };
    // The server does this with the first datagram.
    let answered = |name: &str, react: fn(&mut DatagramIo<'_>) -> io::Result<()>| {
        script(
            name,
            move |reactor| {
                let mut count = 0;
                serve(reactor, move |on, io| match on {
                    Arrived(..) => {
                        count += 1;
                        if count == 1 { react(io) } else { Ok(io.close()) }
                    }
                    _ => Ok(()),
                })
            },
            |reactor| {
                let mut sent = 0;
                ask(reactor, move |on, io| match on {
                    Add | Timer if sent < 2 => {
                        sent += 1;
                        note_result("send", io.send(b"x"));
                        io.set_timer(moment());
                        Ok(())
                    }
                    Timer => Ok(io.close()),
                    _ => Ok(()),
                })
            },
        )
    };
    vec![
        echoed("UDP: an echo", 5),
        echoed("UDP: an empty datagram is no end", 0),
        echoed("UDP: the longest datagram", 65_507),
        script("UDP: a datagram that is too long", idle, |reactor| {
            ask(reactor, |on, io| match on {
                Add => {
                    note_result("send", io.send(&[7; 65_508]));
                    Ok(io.close())
                }
                _ => Ok(()),
            })
        }),
        script(
            "UDP: datagrams in their order",
            |reactor| {
                let mut count = 0;
                serve(reactor, move |on, io| {
                    if let Arrived(..) = on {
                        count += 1;
                        if count == 20 {
                            io.close();
                        }
                    }
                    Ok(())
                })
            },
            |reactor| {
                let mut sent = 0_u32;
                ask(reactor, move |on, io| match on {
                    Add | Timer => {
                        io.send(format!("{sent}").as_bytes())?;
                        sent += 1;
                        if sent == 20 {
                            io.close();
                        } else {
                            io.set_timer(moment() / 20);
                        }
                        Ok(())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script("UDP: no program receives, to a connected socket", idle, |reactor| {
            ask(reactor, sends_in_vain(None))
        }),
        script("UDP: no program receives, to a socket that is not connected", idle, |reactor| {
            let client = Socket::new("client", sends_in_vain(Some(run::addr())));
            add(reactor, Datagram::bind("127.0.0.1:0", client))
        }),
        script(
            "UDP: a connected socket receives from its peer only",
            |reactor| {
                let stranger = Datagram::bind("127.0.0.1:0", Socket::new("stranger", echo))?;
                let stranger = reactor.add(stranger)?;
                serve(reactor, move |on, io| {
                    if let Arrived(b"hello", from) = on {
                        let other = io.context().get_mut::<Datagram<Socket>>(stranger).unwrap();
                        note_result("a stranger", other.send_to(b"psst", from));
                        other.close();
                    }
                    echo(on, io)
                })
            },
            |reactor| ask(reactor, sends(b"hello".to_vec())),
        ),
        answered("UDP: a handler fails, and the socket stays open", |_| {
            Err(io::Error::other("not understood"))
        }),
        answered("UDP: a handler panics", |_| std::panic::panic_any(PANIC)),
        answered("UDP: a handler closes", |io| Ok(io.close())),
        script(
            "UDP: a program stops",
            |reactor| {
                serve(reactor, |on, io| match on {
                    Arrived(..) => Ok(io.context().stop()),
                    _ => Ok(()),
                })
            },
            |reactor| {
                ask(reactor, |on, io| match on {
                    Add => {
                        io.send(b"x")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "UDP: a socket that stays open in a drain",
            |reactor| {
                let mut client = None;
                serve(reactor, move |on, io| match on {
                    Arrived(b"end", _) => Ok(io.close()),
                    Arrived(_, from) => {
                        client = Some(from.clone());
                        Ok(io.context().drain(std::time::Duration::from_secs(3600)))
                    }
                    Drain => io.send_to(b"go on", client.as_ref().unwrap()),
                    _ => Ok(()),
                })
            },
            |reactor| ask(reactor, sends(b"x".to_vec())),
        ),
        script(
            "UDP: a socket writes when there is room",
            |reactor| {
                let mut count = 0;
                serve(reactor, move |on, io| {
                    if let Arrived(..) = on {
                        count += 1;
                        if count == 3 {
                            io.close();
                        }
                    }
                    Ok(())
                })
            },
            |reactor| {
                let mut writes = 0;
                let mut client = Socket::new("client", move |on, io| {
                    if on == Write {
                        writes += 1;
                        io.send(b"x")?;
                        if writes == 3 {
                            io.close();
                        }
                    }
                    Ok(())
                });
                client.writes = 3;
                add(reactor, Datagram::connect(run::addr(), client))
            },
        ),
    ]
}

fn udp_addresses() -> Vec<Script> {
    // The port of the script's own address, at another one of this host.
    let any = || SocketAddr::from(([0, 0, 0, 0], 0));
    vec![
        script(
            "UDP: a server at a wildcard address replies from the one that was used",
            move |reactor| {
                let server = Socket::new("server", |on, io| {
                    if let Arrived(..) = on {
                        let to = io.destination().map(|addr| addr.ip());
                        note(format!("sent to {to:?}"));
                    }
                    echo(on, io)
                });
                let server = Datagram::bind(any(), server)?;
                run::share(server.local_addr().as_inet().unwrap());
                reactor.add(server).map(drop)
            },
            |reactor| {
                let to = SocketAddr::new([127, 0, 0, 77].into(), run::shared().port());
                add(reactor, Datagram::connect(to, Socket::new("client", sends(b"x".to_vec()))))
            },
        ),
        script(
            "UDP: the source of what a socket at a wildcard address sends",
            |reactor| {
                serve(reactor, |on, io| {
                    if let Arrived(_, from) = on {
                        note(format!("from {:?}", from.as_inet().map(|addr| addr.ip())));
                        io.close();
                    }
                    Ok(())
                })
            },
            move |reactor| {
                let client = Socket::new("client", |on, io| {
                    if on == Add {
                        io.send_to(b"x", &Address::Inet(run::addr()))?;
                        io.close();
                    }
                    Ok(())
                });
                add(reactor, Datagram::bind(any(), client))
            },
        ),
        script(
            "UDP: from a chosen address",
            |reactor| {
                serve(reactor, |on, io| {
                    if let Arrived(_, from) = on {
                        note(format!("from {:?}", from.as_inet().map(|addr| addr.ip())));
                        io.close();
                    }
                    Ok(())
                })
            },
            move |reactor| {
                let client = Socket::new("client", |on, io| {
                    if on == Add {
                        let sent = io.send_from(b"x", run::addr(), [127, 0, 0, 9].into());
                        note_result("send", sent);
                        let sent = io.send_from(b"x", run::addr(), [192, 0, 2, 1].into());
                        note_result("not this machine's", sent);
                        io.close();
                    }
                    Ok(())
                });
                add(reactor, Datagram::bind(any(), client))
            },
        ),
        script(
            "UDP: an address in use",
            |reactor| {
                serve(reactor, echo)?;
                let second = Datagram::bind(run::addr(), Socket::new("second", echo)).map(drop);
                Ok(note_result("second", second))
            },
            idle,
        ),
        script("UDP: an address that is not this machine's", idle, |_| {
            let socket = Datagram::bind("192.0.2.1:7", Socket::new("client", echo)).map(drop);
            Ok(note_result("bind", socket))
        }),
        script(
            "UDP: TCP has its own ports",
            |reactor| {
                serve(reactor, echo)?;
                crate::peer::listen(reactor, passive)
            },
            |reactor| ask(reactor, sends(b"x".to_vec())),
        ),
    ]
}

fn client_path() -> PathBuf {
    run::path().with_extension("client")
}

fn serve_unix(reactor: &mut Reactor, react: impl React) -> io::Result<()> {
    add(reactor, Datagram::bind_unix(run::path(), Socket::new("server", react)))
}

/// A client that does this when it is added, and then closes.
fn once_unix(
    reactor: &mut Reactor,
    f: impl Fn(&mut DatagramIo<'_>, &Address) + 'static,
) -> io::Result<()> {
    let client = Socket::new("client", move |on, io| {
        if on == Add {
            f(io, &Address::Unix(Some(run::path())));
            io.close();
        }
        Ok(())
    });
    add(reactor, Datagram::bind_unix(client_path(), client))
}

fn unix() -> Vec<Script> {
    vec![
        script(
            "Unix datagrams: an echo",
            |reactor| {
                serve_unix(reactor, |on, io| {
                    if let Arrived(_, from) = on {
                        note(format!("from {from}, sent to {:?}", io.destination()));
                    }
                    echo(on, io)
                })
            },
            |reactor| {
                let client = Socket::new("client", |on, io| {
                    let to = Address::Unix(Some(run::path()));
                    match on {
                        Add => io.send_to(b"", &to),
                        Arrived(b"", _) => io.send_to(&[7; 60_000], &to),
                        Arrived(..) => {
                            io.send_to(b"end", &to)?;
                            Ok(io.close())
                        }
                        _ => Ok(()),
                    }
                });
                add(reactor, Datagram::bind_unix(client_path(), client))
            },
        ),
        script("Unix datagrams: no such path", idle, |reactor| {
            once_unix(reactor, |io, to| note_result("send", io.send_to(b"x", to)))
        }),
        script("Unix datagrams: the server at the path was killed", idle, |reactor| {
            once_unix(reactor, |io, to| note_result("send", io.send_to(b"x", to)))
        })
        .after_killed_server(),
        script(
            "Unix datagrams: a path that was left behind is replaced",
            |reactor| {
                serve_unix(reactor, |on, io| match on {
                    Arrived(..) => Ok(io.close()),
                    _ => Ok(()),
                })
            },
            |reactor| once_unix(reactor, |io, to| note_result("send", io.send_to(b"x", to))),
        )
        .after_killed_server(),
        script("Unix datagrams: no such abstract name", idle, |reactor| {
            once_unix(reactor, |io, _| {
                let name = format!("nobody {}", run::path().display());
                let to = Address::Abstract(name.into_bytes().into());
                note_result("send", io.send_to(b"x", &to));
            })
        }),
        script(
            "Unix datagrams: a path at which a stream listens",
            |reactor| {
                let accept = |_: &_| Ok(Peer::new("server", passive));
                add(reactor, reactor::Listener::bind_unix(run::path(), accept))
            },
            |reactor| once_unix(reactor, |io, to| note_result("send", io.send_to(b"x", to))),
        ),
        script(
            "Unix datagrams: a stream that connects to their path",
            |reactor| serve_unix(reactor, echo),
            |reactor| {
                let stream = Stream::connect_unix(run::path(), Peer::new("client", passive));
                reactor.add(stream).map(drop)
            },
        ),
        script(
            "Unix datagrams: a path in use",
            |reactor| {
                serve_unix(reactor, echo)?;
                let socket = Socket::new("second", echo);
                note_result("datagrams", Datagram::bind_unix(run::path(), socket).map(drop));
                let accept = |_: &_| Ok(Peer::new("third", passive));
                let listener = reactor::Listener::bind_unix(run::path(), accept);
                Ok(note_result("a listener", listener.map(drop)))
            },
            idle,
        ),
        script(
            "Unix datagrams: one that does not fit the receiver's buffer is dropped",
            |reactor| {
                serve_unix(reactor, |on, io| match on {
                    Arrived(..) => Ok(io.close()),
                    _ => Ok(()),
                })
            },
            |reactor| {
                once_unix(reactor, |io, to| {
                    note_result("send", io.send_to(&[7; 70_000], to));
                    note_result("send", io.send_to(b"x", to));
                })
            },
        ),
        script(
            "Unix datagrams: one that is longer than any",
            |reactor| serve_unix(reactor, echo),
            |reactor| {
                once_unix(reactor, |io, to| {
                    note_result("send", io.send_to(&[7; 300_000], to));
                })
            },
        ),
        script(
            "Unix datagrams: a receiver that does not read",
            |reactor| {
                let mut server = Socket::new("server", echo);
                server.is_deaf = true;
                add(reactor, Datagram::bind_unix(run::path(), server))
            },
            |reactor| {
                once_unix(reactor, |io, to| {
                    // How many it holds is a setting of the system.
                    let full = (0..2_000).find_map(|_| io.send_to(b"x", to).err());
                    note_result("send", full.map_or(Ok(()), Err));
                })
            },
        ),
        script(
            "Unix datagrams: a socket that has closed",
            |reactor| {
                serve_unix(reactor, |on, io| match on {
                    Arrived(..) => Ok(io.close()),
                    _ => Ok(()),
                })
            },
            |reactor| {
                let mut sent = 0;
                let client = Socket::new("client", move |on, io| match on {
                    Add | Timer if sent < 2 => {
                        sent += 1;
                        let to = Address::Unix(Some(run::path()));
                        note_result("send", io.send_to(b"x", &to));
                        io.set_timer(moment());
                        Ok(())
                    }
                    Timer => Ok(io.close()),
                    _ => Ok(()),
                });
                add(reactor, Datagram::bind_unix(client_path(), client))
            },
        ),
    ]
}
