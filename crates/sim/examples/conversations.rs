//! Four conversations in one world, each of which breaks if the library has a certain
//! defect; `scripts/defects.sh` plants these, one at a time. With the faults that lose no
//! connection, every byte must arrive.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    Cause, CloseReason, Io, Limits, Listener, Protocol, Reactor, Stream, TimerId, Token,
};
use sim::{Fault, Faults, Link, ScenarioResult, Sim};

const COMMAND: &str = "cargo run --release -p sim --example conversations";

const SECOND: Duration = Duration::from_secs(1);

fn server_addr(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// Byte `index` of what everybody sends: no two parts of it are alike.
fn byte(index: usize) -> u8 {
    let mixed = index.wrapping_mul(0x9e37_79b1) >> 7;
    mixed.to_le_bytes()[0]
}

fn bytes(from: usize, to: usize) -> Vec<u8> {
    (from..to).map(byte).collect()
}

fn assert_bytes(from: usize, data: &[u8]) {
    let is_equal = data.iter().enumerate().all(|(index, &found)| found == byte(from + index));
    assert!(is_equal, "the bytes from {from} on are not those that were sent");
}

// --- 1. Echo, to a peer that reads slowly. Every byte comes back, in order, and the server
// reads again as soon as its queue is below the low-water mark.

const HIGH_WATER: usize = 32 * 1024;
const LOW_WATER: usize = 16 * 1024;
const ECHOED: usize = 200_000;

struct Echo {
    received: usize,
    /// How often in a row the timer found nothing received, although there was room.
    idle_checks: u32,
    last_received: usize,
    client: Rc<ClientState>,
}

#[derive(Default)]
struct ClientState {
    /// What the client has given to its stream, and what has come back.
    sent: Cell<usize>,
    returned: Cell<usize>,
    closed: Cell<bool>,
}

impl Protocol for Echo {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.set_timer(SECOND);
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        assert_bytes(self.received, data);
        self.received += data.len();
        io.send(data)
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        let has_room = io.unsent() <= LOW_WATER;
        let is_idle = self.received == self.last_received && self.received < self.client.sent.get();
        self.idle_checks = if has_room && is_idle { self.idle_checks + 1 } else { 0 };
        assert!(self.idle_checks < 30, "reading stopped with {} bytes queued", io.unsent());
        self.last_received = self.received;
        io.set_timer(SECOND);
        Ok(())
    }
}

struct SlowReader(Rc<ClientState>);

impl SlowReader {
    fn fill(&self, io: &mut Io<'_>) -> io::Result<()> {
        while self.0.sent.get() < ECHOED {
            let sent = self.0.sent.get();
            let end = (sent + 10_000).min(ECHOED);
            match io.send(&bytes(sent, end)) {
                Ok(()) => self.0.sent.set(end),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Protocol for SlowReader {
    fn writable(&self) -> bool {
        self.0.sent.get() < ECHOED
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.fill(io)
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        assert_bytes(self.0.returned.get(), data);
        self.0.returned.set(self.0.returned.get() + data.len());
        if self.0.returned.get() == ECHOED {
            io.close();
        } else if data.len() > 1000 {
            io.pause();
            io.set_timer(40 * SECOND);
        }
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        io.resume();
        Ok(())
    }

    fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
        assert!(matches!(reason.cause, Cause::Local), "the slow reader ended: {reason}");
        self.0.closed.set(true);
    }
}

// --- 2. One large reply, and an orderly close, while the client continues to send: the reply
// arrives whole. The server's timer expires after it has closed: it must not be called.

const REPLY: usize = 150_000;

struct Replies {
    has_closed: bool,
}

impl Protocol for Replies {
    fn handle_read(&mut self, io: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        assert!(!self.has_closed, "handle_read after close");
        io.set_timer(Duration::from_millis(5));
        io.send(&bytes(0, REPLY))?;
        io.close();
        self.has_closed = true;
        Ok(())
    }

    fn handle_eof(&mut self, _: &mut Io<'_>) -> io::Result<()> {
        assert!(!self.has_closed, "handle_eof after close");
        Ok(())
    }

    fn handle_timer(&mut self, _: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        assert!(!self.has_closed, "handle_timer after close");
        Ok(())
    }
}

struct Asks {
    received: usize,
    result: Rc<RefCell<Option<(usize, String)>>>,
}

impl Protocol for Asks {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.set_timer(Duration::from_millis(20));
        io.send(b"please")
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        io.set_timer(Duration::from_millis(20));
        // The server may have closed by then.
        let _ = io.send(b"more");
        Ok(())
    }

    fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        assert_bytes(self.received, data);
        self.received += data.len();
        Ok(())
    }

    fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
        *self.result.borrow_mut() = Some((self.received, reason.to_string()));
    }
}

// --- 3. A news server that keeps the tokens of its subscribers, and removes those that name
// no stream any more. News reach only those that have subscribed.

type Subscribers = Rc<RefCell<Vec<Token>>>;

struct News(Subscribers);

impl Protocol for News {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        if data.contains(&b'+') {
            self.0.borrow_mut().push(io.token());
        }
        Ok(())
    }
}

fn publish(cx: &mut reactor::Context, subscribers: &Subscribers) {
    subscribers
        .borrow_mut()
        .retain(|&token| cx.with_stream::<News, _>(token, |_, io| io.send(b"news")).is_some());
    let subscribers = Rc::clone(subscribers);
    cx.call_later(Duration::from_millis(300), move |cx| publish(cx, &subscribers));
}

/// Connects, subscribes or not, and leaves after a while.
struct Reader {
    subscribes: bool,
    stays: Duration,
}

impl Protocol for Reader {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.set_timer(self.stays);
        io.send(if self.subscribes { b"+" } else { b"-" })
    }

    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        assert!(self.subscribes, "news for one who has not subscribed");
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        io.close();
        Ok(())
    }
}

fn server(reactor: &mut Reactor, client: &Rc<ClientState>) -> io::Result<()> {
    let client = Rc::clone(client);
    let echo = Listener::bind(server_addr(1), move |_| {
        Ok(Echo { received: 0, idle_checks: 0, last_received: 0, client: Rc::clone(&client) })
    })?;
    let limits = Limits {
        high_water: HIGH_WATER,
        low_water: LOW_WATER,
        stall_timeout: None,
        ..Limits::default()
    };
    reactor.add(echo.with_limits(limits))?;
    reactor.add(Listener::bind(server_addr(2), |_| Ok(Replies { has_closed: false }))?)?;
    let subscribers = Subscribers::default();
    let list = Rc::clone(&subscribers);
    reactor.add(Listener::bind(server_addr(3), move |_| Ok(News(Rc::clone(&list))))?)?;
    publish(reactor.context(), &subscribers);
    Ok(())
}

fn scenario(sim: &mut Sim) -> ScenarioResult {
    let latency = Duration::from_millis(1 + sim.choose(40));
    let buffer = 4096 + usize::try_from(sim.choose(16 * 1024))?;
    let link = Link::default().with_latency(latency, latency).with_buffers(buffer, buffer);
    sim.set_link(link);
    let losing = [Fault::Reset, Fault::Refuse, Fault::AcceptAborted, Fault::Crash];
    sim.set_faults(losing.into_iter().fold(Faults::of_streams(), Faults::without));

    let state = Rc::new(ClientState::default());
    let for_server = Rc::clone(&state);
    sim.machine("server", [10, 0, 0, 1], move |reactor| server(reactor, &for_server))?;
    let for_client = Rc::clone(&state);
    let slow = sim.machine("slow reader", [10, 0, 0, 2], move |reactor| {
        let limits = Limits { stall_timeout: None, ..Limits::default() };
        let stream = Stream::connect([server_addr(1)], SlowReader(Rc::clone(&for_client)));
        reactor.add(stream.with_limits(limits)).map(drop)
    })?;
    let result = Rc::new(RefCell::new(None));
    let for_asks = Rc::clone(&result);
    let asks = sim.machine("asks", [10, 0, 0, 3], move |reactor| {
        let asks = Asks { received: 0, result: Rc::clone(&for_asks) };
        reactor.add(Stream::connect([server_addr(2)], asks)).map(drop)
    })?;
    let seed = sim.choose(u64::MAX);
    sim.machine("readers", [10, 0, 0, 4], move |reactor| {
        for index in 0..20u64 {
            let reader = Reader {
                subscribes: (seed >> index) & 1 == 1,
                stays: Duration::from_millis(500 + (seed >> (2 * index)) % 2000),
            };
            let at = Duration::from_millis(index * 400);
            reactor.context().call_later(at, move |cx| {
                // It fails only if the loop ends.
                let _ = cx.add(Stream::connect([server_addr(3)], reader));
            });
        }
        Ok(())
    })?;

    sim.chaos(Duration::from_secs(30))?;
    // The news server has a timer, and never rests.
    sim.run(Duration::from_secs(3600))?;

    if !sim.has_ended(slow) || !state.closed.get() {
        let (sent, returned) = (state.sent.get(), state.returned.get());
        return Err(format!("the echo has not ended: {sent} sent, {returned} returned").into());
    }
    if !sim.has_ended(asks) {
        return Err("the request has not ended".into());
    }
    match &*result.borrow() {
        Some((REPLY, _)) => Ok(()),
        Some((received, reason)) => Err(format!("{received} of {REPLY}: {reason}").into()),
        None => Err("the request was not closed".into()),
    }
}

fn main() -> ExitCode {
    sim::main(COMMAND, scenario)
}
