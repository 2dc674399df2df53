//! Conversations: orderly ends, half-closes, resets, and what is unread. Over TCP; some of them also
//! over Unix sockets.

use std::io::ErrorKind;

use reactor::{Io, Stream};

use crate::peer::{
    On, Peer, React, add_listener, closes_after, dial, dial_as, echo, idle, listen, listen_paused,
    no_limits, passive, pattern, sends, wait,
};
use crate::run::{self, note, note_result};
use crate::script::{Script, script};

/// More than the buffers of the kernels hold.
const LARGE: usize = 300_000;

pub(crate) fn scripts() -> Vec<Script> {
    let mut scripts = conversations();
    scripts.extend(half_closes());
    scripts.extend(resets());
    scripts.extend(before_connect());
    scripts
}

fn conversations() -> Vec<Script> {
    vec![
        script(
            "an echo, and the client closes",
            |reactor| listen(reactor, echo),
            |reactor| dial(reactor, sends(b"hello", closes_after(5))),
        ),
        script(
            "the server greets, and closes",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"hello")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| dial(reactor, passive),
        ),
        script(
            "ten messages, each when there is room, and one reply",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Eof => {
                        io.send(b"that makes ten")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| {
                let mut sent = 0;
                let peer = Peer::new("client", move |on, io| match on {
                    On::Write => {
                        sent += 1;
                        io.send(format!("{sent:02}\n").as_bytes())?;
                        if sent == 10 { io.shutdown() } else { Ok(()) }
                    }
                    _ => passive(on, io),
                });
                dial_as(reactor, peer.writing(10))
            },
        ),
        script(
            "both greet",
            |reactor| listen(reactor, sends(b"good morning", passive)),
            |reactor| dial(reactor, sends(b"good evening", closes_after(12))),
        ),
        script(
            "a large upload and a large reply",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Eof => {
                        io.send(&pattern(LARGE))?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(&pattern(LARGE))?;
                        io.shutdown()
                    }
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "large messages in both directions at once",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(&pattern(LARGE))?;
                        io.shutdown()
                    }
                    _ => passive(on, io),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(&pattern(LARGE))?;
                        io.shutdown()
                    }
                    _ => passive(on, io),
                })
            },
        )
        .also_over_unix(),
        script(
            "many messages in one callback, of all sizes",
            |reactor| listen(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        for len in [0, 1, 100, 16_383, 16_384, 16_385, 40_000, 0, 3] {
                            note_result(&format!("send {len}"), io.send(&pattern(len)));
                        }
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "five clients at once",
            |reactor| listen(reactor, echo),
            |reactor| {
                for _ in 0..5 {
                    dial(reactor, |on, io| match on {
                        On::Connect => io.send(b"x"),
                        On::Read(_) => Ok(io.close()),
                        _ => Ok(()),
                    })?;
                }
                Ok(())
            },
        ),
        script(
            "the addresses of both ends",
            |reactor| {
                listen(reactor, |on, io| {
                    if on == On::Connect {
                        let peer = io.peer_addr().as_inet().map(|addr| addr.ip());
                        note(format!("{:?} from {peer:?}", io.local_addr()));
                    }
                    passive(on, io)
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        let local = io.local_addr()?.as_inet().map(|addr| addr.ip());
                        note(format!("{local:?} to {}", io.peer_addr()));
                        Ok(io.close())
                    }
                    On::Close => {
                        note(format!("to {}", io.peer_addr()));
                        Ok(())
                    }
                    _ => Ok(()),
                })
            },
        ),
    ]
}

fn half_closes() -> Vec<Script> {
    vec![
        script(
            "the client ends its output, and the server answers then",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Eof => {
                        io.send(b"and that is all")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"all I have")?;
                        io.shutdown()?;
                        note_result("send", io.send(b"more"));
                        note_result("shutdown", io.shutdown());
                        Ok(())
                    }
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "the server ends its output, and the client answers then",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"all I have")?;
                        io.shutdown()
                    }
                    _ => passive(on, io),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Eof => {
                        io.send(&pattern(LARGE))?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "both end their output",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => io.shutdown(),
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => io.shutdown(),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "the server keeps its half open for a while",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Eof => wait(io),
                    On::Timer => {
                        io.send(b"at last")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => io.shutdown(),
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "the client aborts after the end of its output",
            |reactor| {
                listen(reactor, |on, _| match on {
                    On::Eof => Ok(run::cue("client")),
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"x")?;
                        io.shutdown()
                    }
                    On::Cue => Ok(io.abort()),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "the server aborts after the end of the client's output",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Eof => Ok(io.abort()),
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => io.shutdown(),
                    _ => passive(on, io),
                })
            },
        ),
    ]
}

fn resets() -> Vec<Script> {
    vec![
        script(
            "the client writes to a server that has closed",
            |reactor| {
                listen_paused(reactor, |on, io| match on {
                    On::Connect => Ok(io.close()),
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => Ok(run::resume_listener()),
                    On::Eof => {
                        note_result("send", io.send(b"x"));
                        Ok(())
                    }
                    _ => Ok(()),
                })
            },
        )
        .also_over_unix(),
        script(
            "the client ends its output to a server that has closed",
            |reactor| {
                listen_paused(reactor, |on, io| match on {
                    On::Connect => Ok(io.close()),
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => Ok(run::resume_listener()),
                    On::Eof => io.shutdown(),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "the server replies and closes while its client still sends",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => {
                        io.pause();
                        Ok(run::await_input(1))
                    }
                    On::Unread => {
                        io.send(b"enough")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => io.send(&pattern(8 * LARGE)),
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "the client closes with unread input",
            |reactor| listen(reactor, sends(b"not read", passive)),
            |reactor| dial(reactor, unread_then(|io| io.close())),
        )
        .also_over_unix(),
        script(
            "the client aborts with unread input",
            |reactor| listen(reactor, sends(b"not read", passive)),
            |reactor| dial(reactor, unread_then(|io| io.abort())),
        )
        .also_over_unix(),
        script(
            "the client's program ends with unread input",
            |reactor| listen(reactor, sends(b"not read", passive)),
            |reactor| dial(reactor, unread_then(|io| io.context().stop())),
        )
        .also_over_unix(),
        script(
            "a closed channel with unread input",
            |reactor| listen(reactor, sends(b"not read", passive)),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.pause();
                        Ok(run::await_input(8))
                    }
                    On::Unread => {
                        let token = io.token();
                        Ok(io.context().close(token))
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a paused client reads what arrived, and the end, when it resumes",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"read later")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.pause();
                        Ok(run::await_input(10))
                    }
                    On::Unread => {
                        note("resumes");
                        Ok(io.resume())
                    }
                    _ => passive(on, io),
                })
            },
        )
        .also_over_unix(),
        script(
            "a paused client is reset",
            |reactor| {
                listen_paused(reactor, |on, io| match on {
                    On::Connect => Ok(io.abort()),
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.pause();
                        Ok(run::resume_listener())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a paused client is reset before it has read",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => io.send(b"not read"),
                    On::Cue => Ok(io.abort()),
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.pause();
                        Ok(run::await_input(8))
                    }
                    On::Unread => Ok(run::cue("server")),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "the server aborts with output that does not fit the buffers",
            |reactor| {
                let peer = |on: On<'_>, io: &mut Io<'_>| match on {
                    On::Connect => {
                        io.send(&pattern(40 * LARGE))?;
                        Ok(io.abort())
                    }
                    _ => Ok(()),
                };
                let accept = move |_: &_| Ok(Peer::new("server", peer).filling_buffers());
                let listener = reactor::Listener::bind(run::addr(), accept)?;
                let mut listener = listener.with_limits(no_limits());
                listener.pause();
                add_listener(reactor, listener).map(drop)
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        // What it reads before the reset depends on the time.
                        io.pause();
                        Ok(run::resume_listener())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "calls after a close",
            |reactor| listen(reactor, echo),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => io.send(b"x"),
                    On::Read(_) => {
                        io.close();
                        io.close();
                        note_result("send", io.send(b"y"));
                        note_result("shutdown", io.shutdown());
                        io.pause();
                        io.resume();
                        io.set_timer(run::moment());
                        Ok(())
                    }
                    On::Close => {
                        note_result("send", io.send(b"y"));
                        io.abort();
                        Ok(())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a close, and then an abort",
            |reactor| listen(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"lost")?;
                        io.close();
                        Ok(io.abort())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "an abort, and then a close",
            |reactor| listen(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"lost")?;
                        io.abort();
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a close, and then an error",
            |reactor| listen(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"lost")?;
                        io.close();
                        Err(ErrorKind::InvalidData.into())
                    }
                    _ => Ok(()),
                })
            },
        ),
    ]
}

fn before_connect() -> Vec<Script> {
    // Calls `f` before the connection is established.
    let early = |name: &str, f: fn(&mut Stream<Peer>)| {
        script(
            name,
            |reactor| listen(reactor, passive),
            move |reactor| {
                let peer = Peer::new("client", move |on, io| match on {
                    On::Connect => io.shutdown(),
                    _ => passive(on, io),
                });
                let token = reactor.add(Stream::connect([run::addr()], peer))?;
                f(reactor.get_mut(token).unwrap());
                Ok(())
            },
        )
    };
    let refused = |name: &str, f: fn(&mut Stream<Peer>)| {
        script(name, idle, move |reactor| {
            let peer = Peer::new("client", passive);
            let token = reactor.add(Stream::connect([run::addr()], peer))?;
            f(reactor.get_mut(token).unwrap());
            Ok(())
        })
    };
    vec![
        early("the client sends before it is connected", |stream| {
            note_result("send", stream.send(b"early"));
        }),
        early("the client sends and closes before it is connected", |stream| {
            note_result("send", stream.send(b"early"));
            stream.close();
            note_result("send", stream.send(b"late"));
        }),
        early("the client sends and ends its output before it is connected", |stream| {
            note_result("send", stream.send(b"early"));
            note_result("shutdown", stream.shutdown());
        }),
        early("the client is paused before it is connected, and ends its output", |stream| {
            stream.pause();
            stream.resume();
            note_result("shutdown", stream.shutdown());
        }),
        refused("a client that closes while it connects", |stream| stream.close()),
        refused("a client that aborts while it connects, with output", |stream| {
            note_result("send", stream.send(b"lost"));
            stream.abort();
        }),
        refused("a refused client loses its output", |stream| {
            note_result("send", stream.send(b"lost"));
        }),
        refused("a refused client has closed, with output", |stream| {
            note_result("send", stream.send(b"lost"));
            stream.close();
        }),
    ]
}

/// Calls `f` once eight bytes of input are unread.
fn unread_then(f: fn(&mut Io<'_>)) -> impl React + Clone {
    move |on: On<'_>, io: &mut Io<'_>| match on {
        On::Connect => {
            io.pause();
            Ok(run::await_input(8))
        }
        On::Unread => Ok(f(io)),
        _ => Ok(()),
    }
}
