//! Unix sockets: their paths, and conversations over them. How they end in each callback is in
//! [`endings`](crate::endings).

use std::io;
use std::path::PathBuf;

use reactor::{Context, Listener, Reactor, Stream};

use crate::peer::{
    On, Peer, React, add_listener, closes_after, dial, echo, idle, listen, no_limits, passive,
    sends, wait,
};
use crate::run::{self, note};
use crate::script::{Script, script};

pub(crate) fn scripts() -> Vec<Script> {
    let mut scripts = paths();
    scripts.extend(conversations());
    scripts.into_iter().map(Script::over_unix).collect()
}

fn listen_at(reactor: &mut Reactor, path: PathBuf, react: impl React + Clone) -> io::Result<()> {
    let accept = move |_: &_| Ok(Peer::new("server", react.clone()));
    let listener = Listener::bind_unix(path, accept)?.with_limits(no_limits());
    add_listener(reactor, listener).map(drop)
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
        script("no such path", idle, |reactor| dial(reactor, passive)),
        script("the server at the path was killed", idle, |reactor| dial(reactor, passive))
            .after_killed_server(),
        script(
            "a server replaces a path that was left behind",
            |reactor| listen(reactor, echo),
            |reactor| dial(reactor, sends(b"x", closes_after(1))),
        )
        .after_killed_server(),
        script(
            "a path in use",
            |reactor| {
                listen(reactor, passive)?;
                Ok(try_listen(run::path()))
            },
            idle,
        ),
        script("a path that is free again", idle, |_| {
            try_listen(run::path());
            try_listen(run::path());
            Ok(())
        }),
        script("a path that is too long, and one that is empty", idle, |reactor| {
            try_listen("x".repeat(200).into());
            try_listen(PathBuf::new());
            dial_to(reactor, "x".repeat(200).into(), passive)
        }),
        script(
            "a listener removes its path",
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
            "an abstract name",
            |reactor| listen_at(reactor, abstract_name(), echo),
            |reactor| dial_to(reactor, abstract_name(), sends(b"x", closes_after(1))),
        ),
        script("no such abstract name", idle, |reactor| dial_to(reactor, abstract_name(), passive)),
        script(
            "an abstract name in use",
            |reactor| {
                listen_at(reactor, abstract_name(), passive)?;
                Ok(try_listen(abstract_name()))
            },
            idle,
        ),
        script(
            "the addresses of both ends",
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

fn conversations() -> Vec<Script> {
    vec![
        script(
            "the client sends and closes before it is connected",
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
            "the server aborts after it has sent",
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
    ]
}
