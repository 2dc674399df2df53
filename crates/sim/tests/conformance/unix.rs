//! Unix sockets: their paths, and conversations over them. How they end in each callback is in
//! [`endings`](crate::endings).

use std::io;
use std::path::PathBuf;

use reactor::{Context, Io, Listener, Reactor, Stream};

use crate::peer::{
    On, Peer, React, add_listener, closes_after, echo, idle, no_limits, passive, pattern, sends,
    wait,
};
use crate::run::{self, note, resume_listener};
use crate::script::{Script, script};

pub(crate) fn scripts() -> Vec<Script> {
    let mut scripts = paths();
    scripts.extend(conversations());
    scripts
}

fn listen(reactor: &mut Reactor, react: impl React + Clone) -> io::Result<()> {
    listen_at(reactor, run::path(), react, false)
}

fn listen_paused(reactor: &mut Reactor, react: impl React + Clone) -> io::Result<()> {
    listen_at(reactor, run::path(), react, true)
}

fn listen_at(
    reactor: &mut Reactor,
    path: PathBuf,
    react: impl React + Clone,
    is_paused: bool,
) -> io::Result<()> {
    let accept = move |_: &_| Ok(Peer::new("server", react.clone()));
    let mut listener = Listener::bind_unix(path, accept)?.with_limits(no_limits());
    if is_paused {
        listener.pause();
    }
    add_listener(reactor, listener).map(drop)
}

fn dial(reactor: &mut Reactor, react: impl React) -> io::Result<()> {
    dial_to(reactor, run::path(), react)
}

fn dial_to(reactor: &mut Reactor, path: PathBuf, react: impl React) -> io::Result<()> {
    let stream = Stream::connect_unix(path, Peer::new("client", react));
    reactor.add(stream.with_limits(no_limits())).map(drop)
}

/// Notes if a listener can have `path`, and drops it.
fn try_listen(path: PathBuf) {
    let accept = |_: &_| Ok(Peer::new("server", passive));
    match Listener::bind_unix(path, accept) {
        Ok(_) => note("bind: ok"),
        Err(error) => note(format!("bind: {:?}, {error}", error.kind())),
    }
}

/// A name in the abstract namespace, of this script and process.
fn abstract_name() -> PathBuf {
    format!("\0{}", run::path().display()).into()
}

fn paths() -> Vec<Script> {
    vec![
        script("Unix: no such path", idle, |reactor| dial(reactor, passive)),
        script("Unix: the server at the path was killed", idle, |reactor| dial(reactor, passive))
            .after_killed_server(),
        script(
            "Unix: a server replaces a path that was left behind",
            |reactor| listen(reactor, echo),
            |reactor| dial(reactor, sends(b"x", closes_after(1))),
        )
        .after_killed_server(),
        script(
            "Unix: a path in use",
            |reactor| {
                listen(reactor, passive)?;
                Ok(try_listen(run::path()))
            },
            idle,
        ),
        script("Unix: a path that is free again", idle, |_| {
            try_listen(run::path());
            try_listen(run::path());
            Ok(())
        }),
        script("Unix: a path that is too long, and one that is empty", idle, |reactor| {
            try_listen("x".repeat(200).into());
            try_listen(PathBuf::new());
            dial_to(reactor, "x".repeat(200).into(), passive)
        }),
        script(
            "Unix: a listener removes its path",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => {
                        run::with_listener(Context::close);
                        wait(io)
                    }
                    On::Timer => io.send(b"x"),
                    _ => passive(on, io),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Read(_) => {
                        let second =
                            Stream::connect_unix(run::path(), Peer::new("second", passive));
                        io.context().add(second)?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "Unix: an abstract name",
            |reactor| listen_at(reactor, abstract_name(), echo, false),
            |reactor| dial_to(reactor, abstract_name(), sends(b"x", closes_after(1))),
        ),
        script("Unix: no such abstract name", idle, |reactor| {
            dial_to(reactor, abstract_name(), passive)
        }),
        script(
            "Unix: an abstract name in use",
            |reactor| {
                listen_at(reactor, abstract_name(), passive, false)?;
                Ok(try_listen(abstract_name()))
            },
            idle,
        ),
        script(
            "Unix: the addresses of both ends",
            |reactor| {
                listen(reactor, |on, io| {
                    if on == On::Connect {
                        note(format!("{} from {}", io.local_addr()?, io.peer_addr()));
                    }
                    passive(on, io)
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        note(format!("{} to {}", io.local_addr()?, io.peer_addr()));
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
    ]
}

fn sends_all_and_ends(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match on {
        On::Connect => {
            io.send(&pattern(500_000))?;
            io.shutdown()
        }
        _ => passive(on, io),
    }
}

fn conversations() -> Vec<Script> {
    vec![
        script(
            "Unix: large messages in both directions at once",
            |reactor| listen(reactor, sends_all_and_ends),
            |reactor| dial(reactor, sends_all_and_ends),
        ),
        script(
            "Unix: the client sends and closes before it is connected",
            |reactor| listen(reactor, passive),
            |reactor| {
                let stream = Stream::connect_unix(run::path(), Peer::new("client", passive));
                let token = reactor.add(stream)?;
                let stream = reactor.get_mut::<Stream<Peer>>(token).unwrap();
                stream.send(b"early")?;
                Ok(stream.close())
            },
        ),
        script(
            "Unix: the client writes to a server that has closed",
            |reactor| {
                listen_paused(reactor, |on, io| match on {
                    On::Connect => Ok(io.close()),
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => Ok(resume_listener()),
                    On::Eof => {
                        run::note_result("send", io.send(b"x"));
                        Ok(())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "Unix: the client closes with unread input",
            |reactor| listen(reactor, sends(b"not read", passive)),
            |reactor| dial(reactor, unread_then(|io| io.close())),
        ),
        script(
            "Unix: the client aborts with unread input",
            |reactor| listen(reactor, sends(b"not read", passive)),
            |reactor| dial(reactor, unread_then(|io| io.abort())),
        ),
        script(
            "Unix: the client's program ends with unread input",
            |reactor| listen(reactor, sends(b"not read", passive)),
            |reactor| dial(reactor, unread_then(|io| io.context().stop())),
        ),
        script(
            "Unix: a paused client reads what arrived, and the end, when it resumes",
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
                    On::Unread => Ok(io.resume()),
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "Unix: the server aborts after it has sent",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => {
                        io.send(b"1")?;
                        Ok(run::cue("server"))
                    }
                    On::Cue => Ok(io.abort()),
                    _ => Ok(()),
                })
            },
            |reactor| dial(reactor, passive),
        ),
        script(
            "Unix: a listener closes with a connection in its queue",
            |reactor| listen_paused(reactor, passive),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => wait(io),
                    On::Timer => Ok(run::with_listener(Context::close)),
                    _ => passive(on, io),
                })
            },
        ),
        script(
            "Unix: a listener closes with a connection in its queue that has sent",
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
        ),
        script(
            "Unix: a client that has gone is accepted",
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
        ),
        script(
            "Unix: the second connection is rejected with a message",
            |reactor| {
                let accept = |_: &_| Ok(Peer::new("server", sends(b"1", passive)));
                let listener = Listener::bind_unix(run::path(), accept)?.with_max_connections(1);
                let listener = listener.with_rejection(|_| b"come back later".to_vec());
                add_listener(reactor, listener).map(drop)
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Read(_) => {
                        let second = Peer::new("second", |on, io| {
                            if on == On::Close {
                                run::cue("client");
                            }
                            passive(on, io)
                        });
                        io.context().add(Stream::connect_unix(run::path(), second)).map(drop)
                    }
                    On::Cue => Ok(io.close()),
                    _ => Ok(()),
                })
            },
        ),
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
