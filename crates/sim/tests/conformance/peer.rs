//! [`Peer`]: a protocol that notes its callbacks, and then does what its script says.

use std::io;
use std::time::Duration;

use reactor::{
    Cause, CloseReason, Io, Limits, Listener, Protocol, Reactor, Stream, TimerId, Token,
};

pub(crate) use testing::pattern;

use crate::run::{self, Transport};

/// A callback and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On<'a> {
    Connect,
    Read(&'a [u8]),
    Write,
    Eof,
    Timer,
    Upgrade,
    Drain,
    Error,
    Close,
    /// Another program has called [`run::cue`].
    Cue,
    /// What [`run::await_input`] waits for.
    Unread,
}

pub(crate) trait React: FnMut(On<'_>, &mut Io<'_>) -> io::Result<()> + 'static {}
impl<F: FnMut(On<'_>, &mut Io<'_>) -> io::Result<()> + 'static> React for F {}

type BoxedReact = Box<dyn FnMut(On<'_>, &mut Io<'_>) -> io::Result<()>>;

pub(crate) struct Peer {
    name: String,
    react: BoxedReact,
    /// How often it will ask for `handle_write`.
    writes: usize,
    /// Its output fills the kernels' buffers.
    fills_buffers: bool,
    awaited: Option<(u64, TimerId)>,
}

impl Peer {
    pub(crate) fn new(name: &'static str, react: impl React) -> Self {
        Peer {
            name: run::number_name(name),
            react: Box::new(react),
            writes: 0,
            fills_buffers: false,
            awaited: None,
        }
    }

    /// Asks for `handle_write` this often.
    pub(crate) fn writing(self, writes: usize) -> Self {
        Peer { writes, ..self }
    }

    /// Does not note how much output was lost, because that depends on how much the buffers
    /// of the kernels hold.
    pub(crate) fn filling_buffers(self) -> Self {
        Peer { fills_buffers: true, ..self }
    }

    /// Notes `line`, and calls the reaction.
    pub(crate) fn react(&mut self, on: On<'_>, line: &str, io: &mut Io<'_>) {
        run::note_as(&self.name, line);
        if let Err(error) = self.call(on, io) {
            run::note_as(&self.name, format!("{line}: {error}"));
        }
    }

    fn call(&mut self, on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
        let Peer { name, react, .. } = self;
        let result = run::speak_as(name, || react(on, io));
        if let Some(count) = run::take_awaited_input() {
            let after = if run::is_real() { Duration::from_millis(1) } else { run::moment() };
            self.awaited = Some((count, io.set_timer(after)));
        }
        result
    }

    fn note_and_call(&mut self, line: &str, on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
        run::note_as(&self.name, line);
        self.call(on, io)
    }
}

/// Returns `true` if the kernel holds this much input. In a world, a long time has passed.
fn has_arrived(io: &Io<'_>, count: u64) -> bool {
    let held = |socket: reactor::SockRef<'_>| rustix::io::ioctl_fionread(&*socket).ok();
    !run::is_real() || io.socket_options().and_then(held).is_some_and(|held| held >= count)
}

impl Protocol for Peer {
    fn writable(&self) -> bool {
        self.writes > 0
    }

    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        run::add_stream(&self.name, io.context().handle(), io.token());
        self.note_and_call("connected", On::Connect, io)
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        run::note_read(&self.name, data);
        self.call(On::Read(data), io)
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.writes -= 1;
        self.note_and_call("writable", On::Write, io)
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.note_and_call("eof", On::Eof, io)
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, timer: TimerId) -> io::Result<()> {
        match self.awaited {
            Some((count, awaited)) if awaited == timer => {
                if has_arrived(io, count) {
                    return self.note_and_call("input is unread", On::Unread, io);
                }
                self.awaited = Some((count, io.set_timer(Duration::from_millis(1))));
                Ok(())
            }
            _ => self.note_and_call("timer", On::Timer, io),
        }
    }

    fn handle_upgrade(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.note_and_call("upgraded", On::Upgrade, io)
    }

    fn handle_drain(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.note_and_call("drain", On::Drain, io)
    }

    fn handle_error(&mut self, io: &mut Io<'_>, cause: &Cause) {
        // The stream closes whatever the reaction returns.
        let _ = self.note_and_call(&format!("error: {cause}"), On::Error, io);
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        let line = match reason.unsent {
            1.. if self.fills_buffers => format!("closed: {}, some bytes unsent", reason.cause),
            _ => format!("closed: {reason}"),
        };
        // Nothing follows.
        let _ = self.note_and_call(&line, On::Close, io);
    }
}

/// Returns limits that no script reaches by itself.
pub(crate) fn no_limits() -> Limits {
    Limits {
        high_water: usize::MAX,
        stall_timeout: None,
        connect_timeout: None,
        ..Limits::default()
    }
}

/// Listens at the script's address, with peers named "server".
pub(crate) fn listen(reactor: &mut Reactor, react: impl React + Clone) -> io::Result<()> {
    add_listener(reactor, listener(react)?).map(drop)
}

/// Like [`listen`], but accepts only after [`run::resume_listener`].
pub(crate) fn listen_paused(reactor: &mut Reactor, react: impl React + Clone) -> io::Result<()> {
    let mut listener = listener(react)?;
    listener.pause();
    add_listener(reactor, listener).map(drop)
}

pub(crate) fn listener(react: impl React + Clone) -> io::Result<Listener> {
    bind(move || Peer::new("server", react.clone()))
}

/// Creates a listener at the script's address.
pub(crate) fn bind(create: impl Fn() -> Peer + 'static) -> io::Result<Listener> {
    let accept = move |_: &_| Ok(create());
    let listener = match run::transport() {
        Transport::Tcp => Listener::bind(run::addr(), accept),
        Transport::Unix => Listener::bind_unix(run::path(), accept),
    };
    Ok(listener?.with_limits(no_limits()))
}

/// Creates a stream that connects to the script's address.
pub(crate) fn connect(peer: Peer) -> Stream<Peer> {
    let stream = match run::transport() {
        Transport::Tcp => Stream::connect([run::addr()], peer),
        Transport::Unix => Stream::connect_unix(run::path(), peer),
    };
    stream.with_limits(no_limits())
}

pub(crate) fn add_listener(reactor: &mut Reactor, listener: Listener) -> io::Result<Token> {
    let token = reactor.add(listener)?;
    run::set_listener(token);
    Ok(token)
}

/// Connects to the script's address, as "client".
pub(crate) fn dial(reactor: &mut Reactor, react: impl React) -> io::Result<()> {
    dial_as(reactor, Peer::new("client", react))
}

pub(crate) fn dial_as(reactor: &mut Reactor, peer: Peer) -> io::Result<()> {
    dial_with(reactor, no_limits(), peer)
}

pub(crate) fn dial_with(reactor: &mut Reactor, limits: Limits, peer: Peer) -> io::Result<()> {
    reactor.add(connect(peer).with_limits(limits)).map(drop)
}

/// A program that does nothing.
pub(crate) fn idle(_: &mut Reactor) -> io::Result<()> {
    Ok(())
}

/// Closes at the end of input.
pub(crate) fn passive(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match on {
        On::Eof => Ok(io.close()),
        _ => Ok(()),
    }
}

/// Sends `data` first.
pub(crate) fn sends(data: &'static [u8], mut then: impl React + Clone) -> impl React + Clone {
    move |on: On<'_>, io: &mut Io<'_>| {
        if on == On::Connect {
            io.send(data)?;
        }
        then(on, io)
    }
}

/// Closes once this many bytes have arrived.
pub(crate) fn closes_after(count: usize) -> impl React + Clone {
    let mut received = 0;
    move |on: On<'_>, io: &mut Io<'_>| {
        if let On::Read(data) = on {
            received += data.len();
            if received == count {
                io.close();
            }
        }
        Ok(())
    }
}

/// Returns everything, and closes at the end of input.
pub(crate) fn echo(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match on {
        On::Read(data) => io.send(data),
        _ => passive(on, io),
    }
}

/// Calls [`On::Timer`] after a moment.
pub(crate) fn wait(io: &mut Io<'_>) -> io::Result<()> {
    io.set_timer(run::moment());
    Ok(())
}
