//! A server that returns everything, and clients that wait for it, while both pause, change
//! their rates and reach their limits. Nothing loses a connection, so everything arrives.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::rc::Rc;

use reactor::{Cause, CloseReason, Io, Limits, Listener, Protocol, Stream, TimerId};
use sim::{ScenarioResult, Sim};

use crate::filters::FilterKind;
use crate::rng::Rng;
use crate::setting::{SECOND, harmless_faults, link, patient_limits, server_addr};

/// What a stream does besides sending and receiving.
#[derive(Clone, Debug)]
struct Whims {
    rng: Rng,
    pauses: bool,
    is_unreadable: bool,
    changes_rates: bool,
}

impl Whims {
    fn random(rng: &mut Rng) -> Self {
        Whims {
            pauses: rng.one_in(2),
            is_unreadable: rng.one_in(3),
            changes_rates: rng.one_in(4),
            rng: Rng(rng.next()),
        }
    }

    /// Does something, in a callback. Returns `true` if the stream is not to be readable until
    /// the next timer.
    fn act(&mut self, io: &mut Io<'_>) -> bool {
        if self.changes_rates && self.rng.one_in(10) {
            let rate = NonZeroU64::new(self.rng.below(3) * 20_000);
            if self.rng.one_in(2) { io.set_read_rate(rate) } else { io.set_write_rate(rate) }
        }
        if !self.rng.one_in(8) {
            return false;
        }
        if self.pauses {
            io.pause();
        }
        if self.pauses || self.is_unreadable {
            let after = self.rng.millis(500);
            io.set_timer(after);
        }
        self.is_unreadable
    }
}

struct Echo {
    whims: Whims,
    is_unreadable: bool,
    replies: usize,
}

impl Protocol for Echo {
    fn readable(&self) -> bool {
        !self.is_unreadable
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        assert!(!self.is_unreadable, "handle_read while it is not readable");
        io.send(data)?;
        self.replies += data.len();
        self.is_unreadable = self.whims.act(io);
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        io.resume();
        self.is_unreadable = false;
        Ok(())
    }

    fn handle_error(&mut self, io: &mut Io<'_>, cause: &Cause) {
        panic!("{cause}, with {} bytes unsent", io.unsent());
    }
}

#[derive(Debug, Default)]
struct Result {
    sent: usize,
    received: usize,
    eof: bool,
    closed: Option<String>,
}

struct Client {
    whims: Whims,
    is_unreadable: bool,
    len: usize,
    half_closes: bool,
    result: Rc<RefCell<Result>>,
}

fn byte(index: usize) -> u8 {
    (index.wrapping_mul(0x9e37_79b1) >> 7).to_le_bytes()[0]
}

impl Client {
    fn send(&mut self, io: &mut Io<'_>, len: usize) -> io::Result<()> {
        let mut result = self.result.borrow_mut();
        let end = self.len.min(result.sent + len);
        let data: Vec<_> = (result.sent..end).map(byte).collect();
        match io.send(&data) {
            Ok(()) => result.sent = end,
            // It is continued in `handle_write`.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if result.sent == self.len && self.half_closes {
            io.shutdown()?;
        }
        Ok(())
    }
}

impl Protocol for Client {
    fn readable(&self) -> bool {
        !self.is_unreadable
    }

    fn writable(&self) -> bool {
        self.result.borrow().sent < self.len
    }

    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        for _ in 0..self.whims.rng.below(4) {
            if self.result.borrow().sent < self.len {
                let len = self.whims.rng.len(30_000);
                self.send(io, len)?;
            }
        }
        Ok(())
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let len = 1 + self.whims.rng.len(30_000);
        let before = self.result.borrow().sent;
        self.send(io, len)?;
        assert!(self.result.borrow().sent > before, "handle_write without room");
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        assert!(!self.is_unreadable, "handle_read while it is not readable");
        let is_complete = {
            let mut result = self.result.borrow_mut();
            let from = result.received;
            let is_equal = data.iter().zip(from..).all(|(&found, at)| found == byte(at));
            assert!(is_equal && !result.eof, "the bytes from {from} on");
            result.received += data.len();
            assert!(result.received <= result.sent, "more than was sent");
            result.received == self.len
        };
        if is_complete && !self.half_closes {
            io.close();
        } else {
            self.is_unreadable = self.whims.act(io);
        }
        Ok(())
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.result.borrow_mut().eof = true;
        io.close();
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        io.resume();
        self.is_unreadable = false;
        Ok(())
    }

    fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
        let closed = self.result.borrow_mut().closed.replace(reason.to_string());
        assert_eq!(closed, None, "handle_close twice");
    }
}

pub(crate) fn scenario(sim: &mut Sim, rng: &mut Rng) -> ScenarioResult {
    sim.set_link(link(rng));
    sim.set_faults(harmless_faults(rng));
    let filter = FilterKind::random(rng);
    // Otherwise its queue is full at some time.
    let limits = Limits { read_while_congested: false, ..patient_limits(rng) };
    let whims = Whims::random(rng);
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let mut whims = whims.clone();
        let accept = move |_: &_| {
            let whims = Whims { rng: Rng(whims.rng.next()), ..whims.clone() };
            Ok(Echo { whims, is_unreadable: false, replies: 0 })
        };
        let listener = Listener::bind(server_addr(), accept)?.with_limits(limits);
        reactor.add(filter.listen(listener)).map(drop)
    })?;
    let mut results = Vec::new();
    for number in 2..=2 + u8::try_from(rng.below(3))? {
        let result = Rc::new(RefCell::new(Result::default()));
        // It reads whatever the server does.
        let limits = Limits { read_while_congested: true, ..patient_limits(rng) };
        let (len, starts) = (1 + rng.len_of([100, 10_000, 150_000]), rng.millis(20_000));
        let (half_closes, whims) = (rng.one_in(2), Whims::random(rng));
        let for_client = Rc::clone(&result);
        let client =
            sim.machine(&format!("client {number}"), [10, 0, 0, number], move |reactor| {
                let client = Client {
                    whims: whims.clone(),
                    is_unreadable: false,
                    len,
                    half_closes,
                    result: Rc::clone(&for_client),
                };
                reactor.context().call_later(starts, move |cx| {
                    let stream = Stream::connect([server_addr()], client).with_limits(limits);
                    // It fails only if the loop ends.
                    let _ = cx.add(filter.connect(stream));
                });
                Ok(())
            })?;
        results.push((client, len, half_closes, result));
    }
    sim.chaos(30 * SECOND)?;
    sim.rest(24 * 3600 * SECOND)?;
    for (client, len, half_closes, result) in results {
        let result = result.borrow();
        let is_complete = result.received == len && result.eof == half_closes;
        if !sim.has_ended(client) || !is_complete {
            return Err(format!("not complete: {result:?} of {len}").into());
        }
        let expected = if half_closes { "closed by the peer" } else { "closed" };
        if result.closed.as_deref() != Some(expected) {
            return Err(format!("closed in another way: {result:?}").into());
        }
        sim.note("echoed");
    }
    let left = sim.with_reactor(server, |reactor| reactor.context().channels().len());
    if left == Some(1) { Ok(()) } else { Err(format!("{left:?} channels are left").into()) }
}
