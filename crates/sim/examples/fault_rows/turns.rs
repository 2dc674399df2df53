//! What one turn of the loop does to channels, timers and jobs.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use reactor::{
    Cause, CloseReason, Context, Io, Limits, Listener, Protocol, SendError, Stream, TimerId, Token,
    inbox,
};
use sim::{Fault, Faults, Sim};

use crate::common::{LATENCY, SECOND, server_addr};
use crate::support::{
    Shared, Talk, add_peer, add_peers, add_stream, all_served, choose, none_delayed, open_channels,
    rest, server_port, stats, up_to,
};

/// Streams of one server that close each other, themselves, and the listener, in their
/// callbacks.
struct Closer {
    /// The streams so far, with what their peers send.
    others: Shared<Vec<(Token, u8)>>,
    listener: Shared<Option<Token>>,
    /// What the peer sends: all of it must be the same.
    tag: Option<u8>,
    replaces: bool,
    is_closing: bool,
    is_closed: bool,
    closed: Rc<Cell<usize>>,
}

impl Closer {
    fn close_another(&mut self, io: &mut Io<'_>, len: usize) -> io::Result<()> {
        // It may be closed, and its slot in use by another one.
        let index = len % self.others.borrow().len();
        let (victim, tag) = self.others.borrow()[index];
        if victim == io.token() {
            return Ok(());
        }
        io.context().with_stream(victim, |victim: &mut Closer, _| {
            assert!(victim.tag.is_none_or(|found| found == tag), "another stream");
        });
        io.context().close(victim);
        if self.replaces {
            let quiet = Quiet { closes: false, is_closed: false };
            io.context().add(Stream::connect([server_port(8)], quiet))?;
        }
        Ok(())
    }
}

impl Protocol for Closer {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        assert!(!self.is_closed && !self.is_closing, "handle_read after the end");
        if self.tag.is_none() {
            self.others.borrow_mut().push((io.token(), data[0]));
        }
        let tag = *self.tag.get_or_insert(data[0]);
        assert!(data.iter().all(|&byte| byte == tag), "input of another stream");
        io.send(data)?;
        self.close_another(io, data.len())?;
        if data.len().is_multiple_of(5) {
            // It takes longer than the timer.
            io.set_timer(LATENCY / 2);
            io.send(&vec![tag; 150_000])?;
            io.close();
            self.is_closing = true;
        }
        if data.len().is_multiple_of(7)
            && let Some(listener) = self.listener.take()
        {
            io.context().close(listener);
        }
        Ok(())
    }

    fn handle_timer(&mut self, _: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        panic!("handle_timer after close")
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        assert!(!self.is_closed && !self.is_closing, "handle_eof after the end");
        io.close();
        Ok(())
    }

    fn handle_close(&mut self, _: &mut Io<'_>, _: &CloseReason) {
        assert!(!self.is_closed, "handle_close twice");
        self.is_closed = true;
        self.closed.set(self.closed.get() + 1);
    }
}

/// Connects, receives nothing, and closes.
struct Quiet {
    closes: bool,
    is_closed: bool,
}

impl Protocol for Quiet {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        assert!(!self.is_closed, "handle_connect after handle_close");
        io.set_timer(SECOND);
        Ok(())
    }

    fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        panic!("received {} bytes that were sent to another", data.len())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        assert!(!self.is_closed, "handle_timer after handle_close");
        self.closes = true;
        io.close();
        Ok(())
    }

    fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
        assert!(!self.is_closed, "handle_close twice");
        self.is_closed = true;
        let is_local = matches!(reason.cause, Cause::Local);
        assert!(self.closes || !is_local, "closed by the token of another");
    }
}

fn close_each_other(sim: &mut Sim, replaces: bool) -> anyhow::Result<()> {
    sim.set_faults(Faults::none().with(Fault::Spurious, 100_000).with(Fault::ShortRead, 300_000));
    let closed = Rc::new(Cell::new(0));
    let counted = Rc::clone(&closed);
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let (others, token) =
            (Shared::<Vec<(Token, u8)>>::default(), Shared::<Option<Token>>::default());
        let (counted, listener) = (Rc::clone(&counted), Rc::clone(&token));
        let bound = Listener::bind(server_addr(), move |_| {
            Ok(Closer {
                others: Rc::clone(&others),
                listener: Rc::clone(&listener),
                tag: None,
                replaces,
                is_closing: false,
                is_closed: false,
                closed: Rc::clone(&counted),
            })
        })?;
        token.replace(Some(reactor.add(bound)?));
        // For those that replace others: it sends nothing.
        let silent =
            Listener::bind(server_port(8), |_| Ok(Quiet { closes: false, is_closed: false }))?;
        reactor.add(silent).map(drop)
    })?;
    struct Tagged {
        tag: u8,
        left: u32,
        every: Duration,
        len: usize,
    }
    impl Protocol for Tagged {
        fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            io.set_timer(self.every);
            Ok(())
        }
        fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
            if self.left == 0 {
                io.close();
                return Ok(());
            }
            self.left -= 1;
            io.set_timer(self.every);
            io.send(&vec![self.tag; self.len])
        }
        fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            assert!(data.iter().all(|&byte| byte == self.tag), "output of another stream");
            Ok(())
        }
    }
    // Many of them send at the same moment.
    let every = Duration::from_millis(10 + 10 * sim.choose(3));
    for number in 2..12 {
        let len = 1 + choose(sim, 60);
        let tagged = Tagged { tag: number, left: 5, every, len };
        let starts = every * u32::try_from(sim.choose(4))?;
        add_stream(sim, number, starts, Limits::default(), tagged)?;
    }
    rest(sim)?;
    let left = open_channels(sim, server);
    // The listeners, unless one was closed.
    ensure!((1..=2).contains(&left), "{left} channels are left");
    ensure!(closed.get() as u64 <= stats(sim, server)?.accepted, "{} closed", closed.get());
    Ok(())
}

pub(crate) fn closed_in_a_callback(sim: &mut Sim) -> anyhow::Result<()> {
    close_each_other(sim, false)
}

pub(crate) fn slot_used_again(sim: &mut Sim) -> anyhow::Result<()> {
    close_each_other(sim, true)
}

/// Thousands of jobs and messages from outside: all arrive, in order, with few wake-ups, and
/// peers do not wait for them.
pub(crate) fn wake_storm(sim: &mut Sim) -> anyhow::Result<()> {
    const MAX_JOBS_PER_TURN: u64 = 1024;
    let handled = Rc::new(RefCell::new(Vec::new()));
    let (noted, capacity) = (Rc::clone(&handled), 100 + choose(sim, 3000));
    let sender = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&sender);
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let noted = Rc::clone(&noted);
        let (sender, messages) = inbox(capacity, move |_: &mut Context, message: u64| {
            noted.borrow_mut().push(message);
            Ok(())
        });
        *kept.borrow_mut() = Some(sender);
        reactor.add(messages)?;
        reactor.add(Listener::bind(server_addr(), |_| Ok(Returns))?).map(drop)
    })?;
    struct Returns;
    impl Protocol for Returns {
        fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            io.send(data)
        }
    }
    let peers = add_peers(sim, 2..4, SECOND / 10)?;
    let ran = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (mut posted, mut accepted, mut bursts) = (0, Vec::new(), 0);
    sim.run(Duration::ZERO)?;
    let before = stats(sim, server)?;
    for burst in 0..5 {
        let handle = sim.with_reactor(server, |reactor| reactor.handle());
        let handle = handle.ok_or_else(|| anyhow::anyhow!("the program has ended"))?;
        for _ in 0..sim.choose(4000) {
            let (ran, number) = (std::sync::Arc::clone(&ran), posted);
            handle.post(move |_| {
                if let Ok(mut ran) = ran.lock() {
                    ran.push(number);
                }
            })?;
            posted += 1;
        }
        let sender = sender.borrow();
        for message in 0..sim.choose(4000) {
            let message = burst * 10_000 + message;
            match sender.as_ref().map(|sender| sender.send(message)) {
                Some(Ok(())) => accepted.push(message),
                Some(Err(SendError::Full(_))) => {}
                result => anyhow::bail!("{result:?}"),
            }
        }
        bursts += 1;
        let jobs = stats(sim, server)?.jobs;
        let turned = sim.with_reactor(server, |reactor| reactor.turn(Some(Duration::ZERO)));
        ensure!(matches!(turned, Some(Ok(true))), "{turned:?}");
        let ran = stats(sim, server)?.jobs - jobs;
        ensure!(ran <= MAX_JOBS_PER_TURN, "{ran} jobs in one turn");
        let time = up_to(sim, LATENCY);
        sim.run(time)?;
    }
    sender.take();
    sim.run(SECOND)?;
    all_served(&peers)?;
    none_delayed(&peers)?;
    let ran = ran.lock().map_err(|_| anyhow::anyhow!("a job panicked"))?;
    ensure!(ran.iter().copied().eq(0..posted), "{} of {posted} jobs ran, in order", ran.len());
    ensure!(
        *handled.borrow() == accepted,
        "{} messages of {}",
        handled.borrow().len(),
        accepted.len()
    );
    let after = stats(sim, server)?;
    let (turns, jobs) = (after.turns - before.turns, after.jobs - before.jobs);
    ensure!(jobs <= turns * MAX_JOBS_PER_TURN, "{jobs} jobs in {turns} turns");
    // One turn for a burst, and for each thousand of jobs or messages; the rest is traffic.
    let needed = jobs / MAX_JOBS_PER_TURN + accepted.len() as u64 / 1024 + 2 * bursts;
    let traffic = after.events - before.events;
    ensure!(turns <= needed + traffic + 10, "{turns} turns for {jobs} jobs, {traffic} events");
    Ok(())
}

/// Timers of all lengths, many of which are cancelled: each expires at its time or not at all.
pub(crate) fn timer_extremes(sim: &mut Sim) -> anyhow::Result<()> {
    let fired = Rc::new(RefCell::new(Vec::new()));
    let due = Rc::new(RefCell::new(Vec::new()));
    let (noted, expected) = (Rc::clone(&fired), Rc::clone(&due));
    let plan: Vec<_> =
        (0..300).map(|_| (sim.choose(12), sim.choose(20_000), sim.choose(3))).collect();
    let machine = sim.machine("alone", [10, 0, 0, 1], move |reactor| {
        let cx = reactor.context();
        let (start, mut cancelled) = (cx.clock(), Vec::new());
        for (number, &(kind, millis, fate)) in plan.iter().enumerate() {
            let fired = Rc::clone(&noted);
            let job = move |cx: &mut Context| fired.borrow_mut().push((number, cx.now()));
            let timer = match kind {
                0 => cx.call_later(Duration::MAX, job),
                1 => cx.call_at(start.checked_sub(SECOND).unwrap_or(start), job),
                2 => cx.call_later(Duration::ZERO, job),
                _ => cx.call_later(Duration::from_millis(millis), job),
            };
            if fate == 0 || kind == 0 {
                cancelled.push((timer, millis, kind));
            } else {
                let after = if kind < 3 { Duration::ZERO } else { Duration::from_millis(millis) };
                expected.borrow_mut().push((number, start + after));
            }
        }
        for (timer, millis, kind) in cancelled {
            // At once, or in a callback. One that has expired by then is not there any more.
            if millis % 2 == 0 {
                // One that never expires is not kept.
                assert!(cx.cancel(timer) || kind == 0, "it was there");
                assert!(!cx.cancel(timer), "it was cancelled");
            } else {
                cx.cancel(timer);
                cx.call_later(SECOND, move |cx| assert!(!cx.cancel(timer)));
            }
        }
        Ok(())
    })?;
    rest(sim)?;
    ensure!(sim.has_ended(machine), "a timer is left");
    ensure!(sim.elapsed() <= 20 * SECOND, "it lasted {:?}", sim.elapsed());
    let fired = fired.borrow();
    ensure!(fired.windows(2).all(|pair| pair[0].1 <= pair[1].1), "not in the order of time");
    let mut fired: Vec<_> = fired.clone();
    fired.sort_unstable();
    ensure!(fired == *due.borrow(), "{fired:?} instead of {due:?}");
    Ok(())
}

/// Machines stand still, as after SIGSTOP: no timer is early, and no peer is taken for idle
/// whose bytes have arrived meanwhile.
pub(crate) fn suspended(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_faults(Faults::none().with(Fault::Pause, 300_000));
    let idle_timeout = SECOND + up_to(sim, 2 * SECOND);
    let limits = Limits { idle_timeout: Some(idle_timeout), ..Limits::default() };
    struct Server {
        last: Option<Instant>,
        due: Option<(TimerId, Instant)>,
        idle_timeout: Duration,
    }
    impl Protocol for Server {
        fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            self.last = Some(io.context().now());
            let timer = io.set_timer(SECOND / 3);
            self.due = Some((timer, io.context().now() + SECOND / 3));
            Ok(())
        }
        fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            self.last = Some(io.context().now());
            io.send(data)
        }
        fn handle_timer(&mut self, io: &mut Io<'_>, timer: TimerId) -> io::Result<()> {
            let Some((set, due)) = self.due else { panic!("no timer is set") };
            assert_eq!(set, timer);
            assert!(io.context().now() >= due, "a timer was early");
            self.handle_connect_again(io);
            Ok(())
        }
        fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
            if reason.to_string().contains("idle")
                && let Some(last) = self.last
            {
                let silent = io.context().now().duration_since(last);
                assert!(silent >= self.idle_timeout, "taken for idle after {silent:?}");
            }
        }
    }
    impl Server {
        fn handle_connect_again(&mut self, io: &mut Io<'_>) {
            let timer = io.set_timer(SECOND / 3);
            self.due = Some((timer, io.context().now() + SECOND / 3));
        }
    }
    sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let accept = move |_: &_| Ok(Server { last: None, due: None, idle_timeout });
        reactor.add(Listener::bind(server_addr(), accept)?.with_limits(limits)).map(drop)
    })?;
    // Its bytes are there each time that the server continues.
    let talk = Talk { starts: Duration::ZERO, pieces: 40, len: 10, pause: SECOND / 4 };
    let seen = add_peer(sim, 2, talk)?;
    sim.chaos(10 * SECOND)?;
    rest(sim)?;
    let seen = seen.borrow();
    let is_idle = seen.closed.as_ref().is_some_and(|reason| reason.contains("reset"));
    ensure!(seen.is_complete || is_idle, "{seen:?}");
    sim.note(if seen.is_complete { "complete" } else { "idle, as the peer was suspended" });
    Ok(())
}
