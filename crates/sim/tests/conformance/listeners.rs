//! Listeners: their queue, limits and rejections, and the drain of a server.

use std::io;
use std::time::Duration;

use reactor::{Context, Io, Listener, Reactor, Stream};

use crate::PANIC;
use crate::peer::{
    On, Peer, add_listener, closes_after, connect, dial, echo, listen, listen_paused, listener,
    passive, sends, wait,
};
use crate::run::{self, note, resume_listener};
use crate::script::{Script, script};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn scripts() -> Vec<Script> {
    let mut scripts = queues();
    scripts.extend(limits());
    scripts.extend(drains());
    scripts
}

/// Sends a byte, and closes when it returns.
fn ping(reactor: &mut Reactor) -> io::Result<()> {
    dial(reactor, sends(b"x", closes_after(1)))
}

/// Connects a stream named "second", which ends when its peer does.
fn dial_second(io: &mut Io<'_>) -> io::Result<()> {
    io.context().add(connect(Peer::new("second", passive))).map(drop)
}

fn queues() -> Vec<Script> {
    vec![
        script(
            "connections wait in the queue of a paused listener",
            |reactor| listen_paused(reactor, echo),
            |reactor| {
                for _ in 0..3 {
                    ping(reactor)?;
                }
                // One of them lets the listener accept.
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"x")?;
                        wait(io)
                    }
                    On::Timer => Ok(resume_listener()),
                    On::Read(_) => Ok(io.close()),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a listener closes with a connection in its queue",
            |reactor| listen_paused(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => wait(io),
                    On::Timer => Ok(run::with_listener(Context::close)),
                    _ => passive(on, io),
                })
            },
        )
        .also_over_unix(),
        script(
            "a listener closes with a connection in its queue that has sent",
            |reactor| listen_paused(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"hello")?;
                        wait(io)
                    }
                    On::Timer => Ok(run::with_listener(Context::close)),
                    _ => passive(on, io),
                })
            },
        )
        .also_over_unix(),
        script(
            "a client that has gone is accepted",
            |reactor| listen_paused(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"and good bye")?;
                        resume_listener();
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        )
        .also_over_unix(),
        script(
            "a client that has reset is accepted",
            |reactor| listen_paused(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => wait(io),
                    On::Timer => {
                        resume_listener();
                        Ok(io.abort())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a server stops with a connection in its queue",
            |reactor| listen_paused(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => wait(io),
                    On::Timer => Ok(run::post("server", Context::stop)),
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "open connections survive their listener",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => {
                        run::with_listener(Context::close);
                        wait(io)
                    }
                    On::Timer => io.send(b"still here"),
                    _ => passive(on, io),
                })
            },
            |reactor| dial(reactor, closes_after(10)),
        ),
        script(
            "a paused listener, and one that resumes twice",
            |reactor| {
                let mut listener = listener(echo)?;
                listener.pause();
                listener.pause();
                listener.resume();
                listener.resume();
                add_listener(reactor, listener).map(drop)
            },
            ping,
        ),
    ]
}

fn limits() -> Vec<Script> {
    let greets = |on: On<'_>, io: &mut Io<'_>| match on {
        On::Connect => io.send(b"1"),
        _ => passive(on, io),
    };
    let rejected = |name: &str, change: fn(Listener) -> Listener| {
        script(
            name,
            move |reactor| add_listener(reactor, change(listener(greets)?)).map(drop),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Read(_) => {
                        let second = Peer::new("second", |on, io| {
                            if on == On::Close {
                                run::cue("client");
                            }
                            passive(on, io)
                        });
                        io.context().add(connect(second)).map(drop)
                    }
                    On::Cue => Ok(io.close()),
                    _ => Ok(()),
                })
            },
        )
    };
    vec![
        rejected("the second connection is one too many", |listener| {
            listener.with_max_connections(1)
        }),
        rejected("the second connection is rejected with a message", |listener| {
            listener.with_max_connections(1).with_rejection(|_| b"come back later".to_vec())
        })
        .also_over_unix(),
        rejected("no connection is too many for a limit of two", |listener| {
            listener.with_max_connections(2)
        }),
        script(
            "a rejected client sends",
            |reactor| {
                let listener = listener(passive)?.with_max_connections(0);
                let listener = listener.with_rejection(|_| b"no".to_vec());
                add_listener(reactor, listener).map(drop)
            },
            |reactor| dial(reactor, sends(b"hello", passive)),
        ),
        script(
            "a connection is accepted once another has closed",
            move |reactor| {
                add_listener(reactor, listener(greets)?.with_max_connections(1)).map(drop)
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Read(_) => io.shutdown(),
                    On::Eof => {
                        // The server has closed its end.
                        io.close();
                        let second = Peer::new("second", closes_after(1));
                        io.context().add(Stream::connect([run::addr()], second)).map(drop)
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "the handler of a listener fails",
            |reactor| {
                let accept = |_: &_| -> io::Result<Peer> { Err(io::Error::other("not today")) };
                add_listener(reactor, Listener::bind(run::addr(), accept)?).map(drop)
            },
            |reactor| dial(reactor, passive),
        ),
        script(
            "the handler of a listener panics",
            |reactor| {
                let accept = |_: &_| -> io::Result<Peer> { std::panic::panic_any(PANIC) };
                add_listener(reactor, Listener::bind(run::addr(), accept)?).map(drop)
            },
            |reactor| dial(reactor, passive),
        ),
        script(
            "the address that a handler receives",
            |reactor| {
                let accept = |peer: &reactor::Address| {
                    let ip = peer.as_inet().map(|addr| addr.ip());
                    run::note_as("listener", format!("from {ip:?}"));
                    Ok(Peer::new("server", echo))
                };
                add_listener(reactor, Listener::bind(run::addr(), accept)?).map(drop)
            },
            ping,
        ),
    ]
}

fn drains() -> Vec<Script> {
    vec![
        script(
            "a server drains, and its client finishes",
            |reactor| {
                listen(reactor, |on, io| {
                    if let On::Read(_) = on {
                        io.context().drain(HOUR);
                    }
                    echo(on, io)
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => io.send(b"x"),
                    On::Read(_) => wait(io),
                    On::Timer => Ok(io.close()),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a server closes its streams when it drains",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Read(_) => Ok(io.context().drain(HOUR)),
                    On::Drain => {
                        io.send(b"good bye")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| dial(reactor, sends(b"x", passive)),
        ),
        script(
            "the time of a drain is over",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Read(_) => Ok(io.context().drain(run::moment())),
                    _ => Ok(()),
                })
            },
            |reactor| dial(reactor, sends(b"x", passive)),
        ),
        script(
            "a drain accepts what is in the queue",
            |reactor| {
                listen_paused(reactor, |on, io| match on {
                    On::Drain => {
                        io.send(b"good bye")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => wait(io),
                    On::Timer => Ok(run::post("server", |cx| cx.drain(HOUR))),
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "after a drain, no connection is accepted",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Read(_) => Ok(io.context().drain(HOUR)),
                    // The listener is closed.
                    On::Drain => wait(io),
                    On::Timer => io.send(b"x"),
                    _ => passive(on, io),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => io.send(b"x"),
                    On::Read(_) => {
                        dial_second(io)?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a program stops with an open stream",
            |reactor| {
                listen(reactor, |on, io| {
                    if let On::Read(_) = on {
                        io.context().stop();
                    }
                    Ok(())
                })
            },
            |reactor| dial(reactor, sends(b"x", passive)),
        ),
        script(
            "a program stops with output that it has just sent",
            |reactor| {
                listen(reactor, |on, io| {
                    if let On::Read(_) = on {
                        io.send(b"1")?;
                        io.context().stop();
                    }
                    Ok(())
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"x")?;
                        // The reset may overtake what was sent.
                        Ok(io.pause())
                    }
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "a connecting client is drained",
            |reactor| listen(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Drain => Ok(io.close()),
                    _ => passive(on, io),
                })?;
                reactor.context().drain(HOUR);
                Ok(())
            },
        ),
        script(
            "a drain is noticed by the context",
            |reactor| listen(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        let before = io.context().is_draining();
                        io.context().drain(HOUR);
                        note(format!("{before}, {}", io.context().is_draining()));
                        Ok(())
                    }
                    On::Drain => {
                        note(format!("{}", io.context().is_draining()));
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
    ]
}
