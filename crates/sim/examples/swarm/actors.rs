//! Streams that do anything at any time. What must hold is checked in every callback.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{
    Address, Cause, CloseReason, Context, Io, Limits, Listener, Protocol, Reactor, Stream,
    TimeoutKind, TimerId, Token,
};
use sim::{ScenarioResult, Sim};

use crate::filters::FilterKind;
use crate::rng::Rng;
use crate::setting::{SECOND, limits, link, server_addr, some_faults};

/// The largest piece that is sent at once.
const MAX_PIECE: u64 = 20_000;

/// What one end of a connection has sent, and the other has received.
#[derive(Debug, Default)]
struct Direction {
    /// What `send` has accepted.
    accepted: usize,
    /// What of it was counted as unsent at the end.
    unsent: usize,
    received: usize,
    has_ended: bool,
}

/// Both directions of a connection: from the client, and to it.
type Pair = Rc<RefCell<[Direction; 2]>>;

/// All connections, by the address of the client.
type Pairs = Rc<RefCell<BTreeMap<SocketAddr, Pair>>>;

/// Byte `index` of what the client at `key` sends, or is sent.
fn byte(key: SocketAddr, is_client: bool, index: usize) -> u8 {
    let seed = usize::from(key.port()) * 2 + usize::from(is_client);
    let mixed = (index + seed * 77_777).wrapping_mul(0x9e37_79b1) >> 7;
    mixed.to_le_bytes()[0]
}

/// What the streams of one machine share.
struct Machine {
    tokens: RefCell<Vec<Token>>,
    listeners: RefCell<Vec<Token>>,
    /// How many more connections its callbacks may open.
    connections_left: Cell<u32>,
    pairs: Pairs,
    setting: Setting,
}

/// What is done in a world: one in so many times, or never.
#[derive(Clone, Debug)]
struct Setting {
    rng: Rng,
    limits: Limits,
    actions: Vec<Action>,
    /// How often a callback does something.
    quiet: u64,
    filter: FilterKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Send,
    SendMuch,
    Pause,
    Unreadable,
    SetTimer,
    CancelTimer,
    Close,
    Abort,
    Shutdown,
    Fail,
    CloseOther,
    UseOther,
    UseSelf,
    PostToOther,
    SetIdleTimeout,
    SetReadRate,
    SetWriteRate,
    Connect,
    PauseListener,
}

const ACTIONS: [Action; 19] = [
    Action::Send,
    Action::SendMuch,
    Action::Pause,
    Action::Unreadable,
    Action::SetTimer,
    Action::CancelTimer,
    Action::Close,
    Action::Abort,
    Action::Shutdown,
    Action::Fail,
    Action::CloseOther,
    Action::UseOther,
    Action::UseSelf,
    Action::PostToOther,
    Action::SetIdleTimeout,
    Action::SetReadRate,
    Action::SetWriteRate,
    Action::Connect,
    Action::PauseListener,
];

/// The end of life of a stream: it ends itself, or else it aborts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Act,
    Resume,
    End,
    Abort,
}

#[expect(clippy::struct_excessive_bools, reason = "what was done, each by itself")]
struct Actor {
    rng: Rng,
    is_client: bool,
    machine: Rc<Machine>,
    key: Option<SocketAddr>,
    pair: Pair,
    timers: BTreeMap<TimerId, (Instant, Purpose)>,
    connects: u32,
    is_paused: bool,
    is_unreadable: bool,
    wants_write: bool,
    is_shut: bool,
    is_closing: bool,
    is_closed: bool,
    idle_timeout: Option<Duration>,
    last_read: Option<Instant>,
    largest: usize,
}

impl Actor {
    fn new(machine: &Rc<Machine>, seed: u64, key: Option<SocketAddr>) -> Self {
        let pair = match key {
            Some(key) => Rc::clone(machine.pairs.borrow_mut().entry(key).or_default()),
            None => Pair::default(),
        };
        Actor {
            rng: Rng(seed),
            is_client: key.is_none(),
            machine: Rc::clone(machine),
            key,
            pair,
            timers: BTreeMap::new(),
            connects: 0,
            is_paused: false,
            is_unreadable: false,
            wants_write: false,
            is_shut: false,
            is_closing: false,
            is_closed: false,
            idle_timeout: machine.setting.limits.idle_timeout,
            last_read: None,
            largest: 0,
        }
    }

    /// A callback begins.
    fn enter(&mut self, io: &mut Io<'_>) {
        assert!(!self.is_closed, "a callback after handle_close");
        assert!(!self.is_closing, "a callback after the stream was closed");
        assert_eq!(self.connects, 1, "handle_connect was not called once, and first");
        let limits = &self.machine.setting.limits;
        // The excess may be exceeded by the output of one callback.
        let max = limits.high_water + limits.max_excess + self.largest;
        assert!(io.unsent() <= max, "{} bytes unsent, of at most {max}", io.unsent());
    }

    fn set_timer(&mut self, io: &mut Io<'_>, after: Duration, purpose: Purpose) {
        let due = io.context().now().checked_add(after);
        let timer = io.set_timer(after);
        self.timers.insert(timer, (due.expect("it is soon"), purpose));
    }

    fn send(&mut self, io: &mut Io<'_>, len: usize) {
        let Some(key) = self.key else { return };
        let mut pair = self.pair.borrow_mut();
        let direction = &mut pair[usize::from(!self.is_client)];
        let from = direction.accepted;
        let data: Vec<_> = (from..from + len).map(|at| byte(key, self.is_client, at)).collect();
        let unsent = io.unsent();
        match io.send(&data) {
            Ok(()) => {
                assert!(!self.is_shut && !self.is_closing || len == 0, "sent after the end");
                direction.accepted += len;
                self.largest = self.largest.max(len);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let high_water = self.machine.setting.limits.high_water;
                assert!(unsent >= high_water.min(1), "{unsent} unsent, and it is full");
                self.wants_write = true;
            }
            // The stream closes with it, or was closed.
            Err(_) => {}
        }
    }

    /// Does something, or nothing.
    #[expect(clippy::too_many_lines, reason = "one arm for each action")]
    fn act(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let machine = Rc::clone(&self.machine);
        if self.is_closing || !self.rng.one_in(machine.setting.quiet) {
            return Ok(());
        }
        let actions = &machine.setting.actions;
        let action = actions[self.rng.len(actions.len() as u64)];
        match action {
            Action::Send => {
                let len = self.rng.len(300);
                self.send(io, len);
            }
            Action::SendMuch => {
                for _ in 0..=self.rng.below(3) {
                    let len = self.rng.len(MAX_PIECE);
                    self.send(io, len);
                }
            }
            Action::Pause => {
                io.pause();
                self.is_paused = true;
                let after = self.rng.millis(3000);
                self.set_timer(io, after, Purpose::Resume);
            }
            Action::Unreadable => {
                self.is_unreadable = true;
                let after = self.rng.millis(3000);
                self.set_timer(io, after, Purpose::Resume);
            }
            Action::SetTimer => {
                let after = self.rng.millis(500);
                self.set_timer(io, after, Purpose::Act);
            }
            Action::CancelTimer => {
                let act =
                    |(_, (_, purpose)): &(&TimerId, &(Instant, Purpose))| *purpose == Purpose::Act;
                if let Some((&timer, _)) = self.timers.iter().find(act) {
                    assert!(io.context().cancel(timer), "the timer was there");
                    self.timers.remove(&timer);
                }
            }
            Action::Close if self.rng.one_in(8) => self.close(io),
            Action::Abort if self.rng.one_in(30) => {
                io.abort();
                self.is_closing = true;
            }
            Action::Shutdown if self.rng.one_in(8) => self.shutdown(io)?,
            Action::Fail if self.rng.one_in(30) => {
                return Err(io::Error::other("on purpose"));
            }
            Action::Close | Action::Abort | Action::Shutdown | Action::Fail => {}
            Action::CloseOther => {
                if self.rng.one_in(20)
                    && let Some(other) = self.other(io)
                {
                    io.context().close(other);
                }
            }
            Action::UseOther => {
                if let Some(other) = self.other(io) {
                    let used = io.context().with_stream(other, |actor: &mut Actor, io| {
                        actor.is_usable().then(|| actor.act(io))
                    });
                    if let Some(Some(Err(_))) = used {
                        // As its error was not that of its callback, it has to close itself.
                        io.context().close(other);
                    }
                }
            }
            Action::UseSelf => {
                let own = io.token();
                let used = io.context().with_stream(own, |_: &mut Actor, _| ());
                assert!(used.is_none(), "a stream that is being called was borrowed again");
            }
            Action::PostToOther => self.post_to_other(io),
            Action::SetIdleTimeout => {
                self.idle_timeout = self.rng.one_in(2).then(|| SECOND + self.rng.millis(20_000));
                io.set_idle_timeout(self.idle_timeout);
                self.last_read = Some(io.context().now());
            }
            Action::SetReadRate => {
                let rate = NonZeroU64::new(self.rng.below(3) * 5000);
                io.set_read_rate(rate);
            }
            Action::SetWriteRate => {
                let rate = NonZeroU64::new(self.rng.below(3) * 5000);
                io.set_write_rate(rate);
            }
            Action::Connect => {
                let left = machine.connections_left.get();
                if left > 0 {
                    machine.connections_left.set(left - 1);
                    let seed = self.rng.next();
                    // It fails if the machine drains.
                    let _ = connect(io.context(), &machine, seed);
                }
            }
            Action::PauseListener => {
                let listeners = machine.listeners.borrow();
                if let Some(&token) = listeners.first()
                    && let Some(listener) = io.context().get_mut::<Listener>(token)
                {
                    listener.pause();
                    let after = self.rng.millis(2000);
                    io.context().call_later(after, move |cx| {
                        if let Some(listener) = cx.get_mut::<Listener>(token) {
                            listener.resume();
                        }
                    });
                }
            }
        }
        Ok(())
    }

    fn is_usable(&self) -> bool {
        self.connects == 1 && !self.is_closing && !self.is_closed
    }

    fn close(&mut self, io: &mut Io<'_>) {
        io.close();
        self.is_closing = true;
    }

    fn shutdown(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.shutdown()?;
        self.is_shut = true;
        Ok(())
    }

    fn other(&mut self, io: &Io<'_>) -> Option<Token> {
        let tokens = self.machine.tokens.borrow();
        let token = tokens[self.rng.len(tokens.len() as u64)];
        (token != io.token()).then_some(token)
    }

    /// Uses another stream without its protocol, from a job.
    fn post_to_other(&mut self, io: &mut Io<'_>) {
        let Some(other) = self.other(io) else { return };
        let kind = self.rng.below(4);
        let job = move |cx: &mut Context| {
            let Some(stream) = cx.get_mut::<Stream<Actor>>(other) else { return };
            if !stream.protocol().is_usable() {
                return;
            }
            match kind {
                0 => {
                    stream.resume();
                    stream.protocol_mut().is_paused = false;
                }
                1 => {
                    stream.close();
                    stream.protocol_mut().is_closing = true;
                }
                2 => stream.protocol_mut().is_unreadable = false,
                _ => {
                    let actor = stream.protocol_mut();
                    let (Some(key), is_client) = (actor.key, actor.is_client) else { return };
                    let pair = Rc::clone(&actor.pair);
                    let direction = &mut pair.borrow_mut()[usize::from(!is_client)];
                    let from = direction.accepted;
                    let data: Vec<_> =
                        (from..from + 100).map(|at| byte(key, is_client, at)).collect();
                    if stream.send(&data).is_ok() {
                        direction.accepted += 100;
                        stream.protocol_mut().largest = stream.protocol().largest.max(100);
                    }
                }
            }
        };
        // It fails only if the loop ends.
        let _ = io.context().handle().post(job);
    }
}

impl Protocol for Actor {
    fn readable(&self) -> bool {
        !self.is_unreadable
    }

    fn writable(&self) -> bool {
        self.wants_write
    }

    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.connects += 1;
        if self.is_client {
            let Ok(Address::Inet(local)) = io.local_addr() else {
                return Err(ErrorKind::NotConnected.into());
            };
            self.key = Some(local);
            self.pair = Rc::clone(self.machine.pairs.borrow_mut().entry(local).or_default());
        }
        self.last_read = Some(io.context().now());
        self.enter(io);
        self.machine.tokens.borrow_mut().push(io.token());
        let life = self.rng.millis(20_000);
        self.set_timer(io, life, Purpose::End);
        self.set_timer(io, 60 * SECOND, Purpose::Abort);
        for _ in 0..5 {
            let after = self.rng.millis(10_000);
            self.set_timer(io, after, Purpose::Act);
        }
        let len = self.rng.len(MAX_PIECE);
        self.send(io, len);
        self.act(io)
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.enter(io);
        assert!(!self.is_paused, "handle_read while it is paused");
        assert!(!self.is_unreadable, "handle_read while it is not readable");
        assert!((1..=65_536).contains(&data.len()));
        self.last_read = Some(io.context().now());
        let key = self.key.expect("it is connected");
        {
            let mut pair = self.pair.borrow_mut();
            let direction = &mut pair[usize::from(self.is_client)];
            assert!(!direction.has_ended, "handle_read after handle_eof");
            let from = direction.received;
            direction.received += data.len();
            assert!(direction.received <= direction.accepted, "more has come than was sent");
            let is_equal = data
                .iter()
                .enumerate()
                .all(|(index, &found)| found == byte(key, !self.is_client, from + index));
            assert!(is_equal, "the bytes from {from} on are not those that were sent");
        }
        self.act(io)?;
        self.act(io)
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.enter(io);
        assert!(self.wants_write, "handle_write without being writable");
        self.wants_write = false;
        let len = 1 + self.rng.len(MAX_PIECE);
        self.send(io, len);
        self.act(io)
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.enter(io);
        assert!(!self.is_paused, "handle_eof while it is paused");
        {
            let mut pair = self.pair.borrow_mut();
            let direction = &mut pair[usize::from(self.is_client)];
            assert!(!direction.has_ended, "handle_eof twice");
            direction.has_ended = true;
            let (received, accepted) = (direction.received, direction.accepted);
            assert_eq!(received, accepted, "a clean end, and not all has arrived");
        }
        match self.rng.below(3) {
            0 => self.act(io),
            1 => self.shutdown(io),
            _ => {
                self.close(io);
                Ok(())
            }
        }
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, timer: TimerId) -> io::Result<()> {
        self.enter(io);
        let (due, purpose) = self.timers.remove(&timer).expect("a timer that was set");
        assert!(io.context().now() >= due, "a timer was early");
        match purpose {
            Purpose::Act => self.act(io),
            Purpose::Resume => {
                io.resume();
                self.is_paused = false;
                self.is_unreadable = false;
                Ok(())
            }
            Purpose::End => {
                if self.rng.one_in(4) {
                    self.shutdown(io)
                } else {
                    self.close(io);
                    Ok(())
                }
            }
            Purpose::Abort => {
                io.abort();
                self.is_closing = true;
                Ok(())
            }
        }
    }

    fn handle_drain(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.enter(io);
        if self.rng.one_in(2) {
            self.close(io);
        }
        Ok(())
    }

    fn handle_error(&mut self, io: &mut Io<'_>, cause: &Cause) {
        assert!(!self.is_closed, "handle_error after handle_close");
        assert!(!matches!(cause, Cause::Panicked(_)), "{cause}");
        if self.rng.one_in(2) && self.connects == 1 {
            let len = self.rng.len(1000);
            // Of a stream that was closed, none is accepted.
            self.send(io, len);
        }
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        assert!(!self.is_closed, "handle_close twice");
        self.is_closed = true;
        let own = io.token();
        self.machine.tokens.borrow_mut().retain(|&token| token != own);
        let mut pair = self.pair.borrow_mut();
        let direction = &mut pair[usize::from(!self.is_client)];
        direction.unsent = reason.unsent;
        let accepted = direction.accepted;
        assert!(reason.unsent <= accepted, "{} unsent, of {accepted}", reason.unsent);
        assert!(io.send(b"x").is_err(), "it is closed");
        if let (Cause::TimedOut(TimeoutKind::Idle), Some(timeout), Some(last)) =
            (&reason.cause, self.idle_timeout, self.last_read)
        {
            let idle = io.context().now().duration_since(last);
            // What has passed a filter may have arrived long before it is read.
            let is_exact = self.machine.setting.filter == FilterKind::None;
            assert!(idle >= timeout || !is_exact, "idle for {idle:?}, of {timeout:?}");
        }
    }
}

fn connect(cx: &mut Context, machine: &Rc<Machine>, seed: u64) -> io::Result<()> {
    let actor = Actor::new(machine, seed, None);
    let setting = &machine.setting;
    let stream = Stream::connect([server_addr()], actor).with_limits(setting.limits);
    cx.add(setting.filter.connect(stream)).map(drop)
}

fn listener(machine: &Rc<Machine>, max_connections: usize) -> io::Result<Listener> {
    let (setting, rng) = (&machine.setting, RefCell::new(machine.setting.rng.clone()));
    let accepting = Rc::clone(machine);
    let accept = move |peer: &Address| {
        let seed = rng.borrow_mut().next();
        Ok(Actor::new(&accepting, seed, peer.as_inet()))
    };
    let listener = Listener::bind(server_addr(), accept)?
        .with_limits(setting.limits)
        .with_max_connections(max_connections);
    Ok(setting.filter.listen(listener))
}

fn new_machine(pairs: &Pairs, setting: &Setting) -> Rc<Machine> {
    Rc::new(Machine {
        tokens: RefCell::default(),
        listeners: RefCell::default(),
        connections_left: Cell::new(5),
        pairs: Rc::clone(pairs),
        setting: setting.clone(),
    })
}

pub(crate) fn scenario(sim: &mut Sim, rng: &mut Rng) -> ScenarioResult {
    sim.set_link(link(rng));
    sim.set_faults(some_faults(rng));

    let mut actions: Vec<_> = ACTIONS.into_iter().filter(|_| rng.one_in(2)).collect();
    actions.push(Action::Send);
    let filter = FilterKind::random(rng);
    let quiet = 1 + rng.below(3);
    let pairs = Pairs::default();
    let setting = |rng: &mut Rng| Setting {
        rng: Rng(rng.next()),
        limits: limits(rng),
        actions: actions.clone(),
        quiet,
        filter,
    };
    let max_connections = if rng.one_in(4) { 1 + rng.len(4) } else { 1000 };
    let drains = rng.one_in(3).then(|| (rng.millis(30_000), rng.millis(10_000)));
    let server_setting = setting(rng);
    let all = Rc::clone(&pairs);
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor: &mut Reactor| {
        let machine = new_machine(&all, &server_setting);
        let token = reactor.add(listener(&machine, max_connections)?)?;
        machine.listeners.borrow_mut().push(token);
        if let Some((at, timeout)) = drains {
            reactor.context().call_later(at, move |cx| cx.drain(timeout));
        }
        Ok(())
    })?;
    sim.allow_crashes(server);
    let mut clients = Vec::new();
    for number in 2..2 + 1 + u8::try_from(rng.below(4))? {
        let client_setting = setting(rng);
        let starts: Vec<_> = (0..=rng.below(3)).map(|_| (rng.millis(20_000), rng.next())).collect();
        let all = Rc::clone(&pairs);
        let client =
            sim.machine(&format!("client {number}"), [10, 0, 0, number], move |reactor| {
                let machine = new_machine(&all, &client_setting);
                for &(at, seed) in &starts {
                    let machine = Rc::clone(&machine);
                    // It fails only if the loop ends.
                    reactor.context().call_later(at, move |cx| drop(connect(cx, &machine, seed)));
                }
                Ok(())
            })?;
        sim.allow_crashes(client);
        clients.push(client);
    }

    sim.chaos(30 * SECOND)?;
    sim.rest(24 * 3600 * SECOND)?;
    for client in clients {
        if !sim.has_ended(client) {
            return Err("a client has not ended".into());
        }
    }
    let left = sim.with_reactor(server, |reactor| {
        let channels = reactor.context().channels();
        channels.iter().filter(|channel| channel.type_name.contains("Stream")).count()
    });
    match left {
        Some(1..) => return Err("a stream of the server is left".into()),
        Some(0) if drains.is_some() => return Err("the server has not drained".into()),
        _ => {}
    }
    for pair in pairs.borrow().values() {
        for Direction { accepted, unsent, received, has_ended } in &*pair.borrow() {
            if received + unsent > *accepted {
                let text = format!("{received} received, {unsent} unsent, of {accepted}");
                return Err(text.into());
            }
            sim.note(if *has_ended { "ended" } else { "not ended" });
        }
    }
    Ok(())
}
