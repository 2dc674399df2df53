//! Each way to end a stream, in each callback, by either side.

use std::io;
use std::panic;

use reactor::{Io, Reactor};

use crate::PANIC;
use crate::peer::{On, Peer, React, add_listener, bind, dial_as, passive, wait};
use crate::run::{self, Transport};
use crate::script::{Script, script};

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Close,
    Shutdown,
    Abort,
    Fail,
    Panic,
}

/// The callback in which the action happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callback {
    Connect,
    Read,
    Write,
    Eof,
    Timer,
    Drain,
    Job,
    Error,
    Close,
}

pub(crate) fn scripts() -> Vec<Script> {
    let actions = [
        (Action::Close, "closes"),
        (Action::Shutdown, "ends its output"),
        (Action::Abort, "aborts"),
        (Action::Fail, "fails"),
        (Action::Panic, "panics"),
    ];
    let callbacks = [
        (Callback::Connect, "handle_connect"),
        (Callback::Read, "handle_read"),
        (Callback::Write, "handle_write"),
        (Callback::Eof, "handle_eof"),
        (Callback::Timer, "handle_timer"),
        (Callback::Drain, "handle_drain"),
        (Callback::Job, "a job"),
        (Callback::Error, "handle_error"),
        (Callback::Close, "handle_close"),
    ];
    let mut scripts = Vec::new();
    for transport in [Transport::Tcp, Transport::Unix] {
        for actor in ["server", "client"] {
            for (action, does) in actions {
                for (callback, within) in callbacks {
                    if has_no_result(action, callback) {
                        continue;
                    }
                    let name = format!("the {actor} {does} in {within}");
                    scripts.push(match transport {
                        Transport::Tcp => ending(format!("TCP: {name}"), actor, action, callback),
                        Transport::Unix => ending(name, actor, action, callback).over_unix(),
                    });
                }
            }
        }
    }
    scripts
}

/// Returns `true` for what cannot be compared: a panic in a job is not one of the stream, but
/// of the job that called `with_stream`; and a peer whose other side ends its output when it
/// has failed sees that end, or only the reset which follows.
fn has_no_result(action: Action, callback: Callback) -> bool {
    matches!(
        (action, callback),
        (Action::Panic, Callback::Job) | (Action::Shutdown, Callback::Error)
    )
}

/// The client is connected before the server accepts it.
fn ending(name: String, actor: &'static str, action: Action, callback: Callback) -> Script {
    let acts = move |on: On<'_>, io: &mut Io<'_>| act_in(on, io, actor, action, callback);
    let answers = move |on: On<'_>, io: &mut Io<'_>| answer(on, io, callback);
    let writes = usize::from(callback == Callback::Write);
    if actor == "server" {
        script(
            name,
            move |reactor| listen(reactor, acts, writes),
            move |reactor| dial(reactor, answers, 0),
        )
    } else {
        script(
            name,
            move |reactor| listen(reactor, answers, 0),
            move |reactor| dial(reactor, acts, writes),
        )
    }
}

/// The side that acts: in `callback`, which it brings about if the other side does not.
fn act_in(
    on: On<'_>,
    io: &mut Io<'_>,
    actor: &str,
    action: Action,
    callback: Callback,
) -> io::Result<()> {
    match (on, callback) {
        (On::Connect, Callback::Connect)
        | (On::Read(_), Callback::Read)
        | (On::Write, Callback::Write)
        | (On::Eof, Callback::Eof)
        | (On::Timer, Callback::Timer)
        | (On::Drain, Callback::Drain)
        | (On::Cue, Callback::Job)
        | (On::Error, Callback::Error)
        | (On::Close, Callback::Close) => act(action, io),
        (On::Connect, Callback::Timer) => wait(io),
        (On::Connect, Callback::Drain) => Ok(io.context().drain(HOUR)),
        (On::Connect, Callback::Job) => Ok(run::cue(actor)),
        (On::Read(_), Callback::Error) => Err(io::Error::other("not understood")),
        (On::Read(_), Callback::Close) => Ok(io.close()),
        _ => passive(on, io),
    }
}

fn act(action: Action, io: &mut Io<'_>) -> io::Result<()> {
    match action {
        Action::Close => Ok(io.close()),
        Action::Shutdown => io.shutdown(),
        Action::Abort => Ok(io.abort()),
        Action::Fail => Err(io::Error::other("not understood")),
        Action::Panic => panic::panic_any(PANIC),
    }
}

/// The other side. Its message is one byte, which no read splits.
fn answer(on: On<'_>, io: &mut Io<'_>, callback: Callback) -> io::Result<()> {
    match (on, callback) {
        (On::Connect, Callback::Read | Callback::Error | Callback::Close) => io.send(b"x"),
        (On::Connect, Callback::Eof) => io.shutdown(),
        _ => passive(on, io),
    }
}

fn listen(reactor: &mut Reactor, react: impl React + Clone, writes: usize) -> io::Result<()> {
    let mut listener = bind(move || Peer::new("server", react.clone()).writing(writes))?;
    listener.pause();
    add_listener(reactor, listener).map(drop)
}

fn dial(reactor: &mut Reactor, mut react: impl React, writes: usize) -> io::Result<()> {
    let react = move |on: On<'_>, io: &mut Io<'_>| {
        if on == On::Connect {
            run::resume_listener();
        }
        react(on, io)
    };
    dial_as(reactor, Peer::new("client", react).writing(writes))
}
