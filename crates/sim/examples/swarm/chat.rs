//! A chat server that replies to each request, at once or later, with data or producers, and
//! clients that wait for the replies. Nothing loses a connection, so all of them arrive.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    Cause, Chat, ChatIo, ChatProtocol, CloseReason, Limits, Listener, Produced, Stream, Terminator,
    TimerId,
};
use sim::{ScenarioResult, Sim};

use crate::filters::{FilterKind, Frames};
use crate::rng::Rng;
use crate::setting::{SECOND, harmless_faults, link, patient_limits, server_addr};

/// How requests are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Line,
    Terminator,
    U16,
    U32,
    /// A line with the length, and then so many bytes.
    Length,
}

const FRAMINGS: [Framing; 5] =
    [Framing::Line, Framing::Terminator, Framing::U16, Framing::U32, Framing::Length];

impl Framing {
    fn terminator(self) -> Terminator {
        match self {
            Framing::Line | Framing::Length => "\n".into(),
            Framing::Terminator => "\r\n.\r\n".into(),
            Framing::U16 => Terminator::prefixed_u16_be(),
            Framing::U32 => Terminator::prefixed_u32_be(100_000),
        }
    }

    fn frame(self, message: &[u8]) -> Vec<u8> {
        let len = message.len();
        match self {
            Framing::Line => [message, b"\n"].concat(),
            Framing::Terminator => [message, b"\r\n.\r\n"].concat(),
            Framing::U16 => {
                let len = u16::try_from(len).expect("a short message").to_be_bytes();
                [&len, message].concat()
            }
            Framing::U32 => framed_reply(message),
            Framing::Length => [format!("{len}\n").as_bytes(), message].concat(),
        }
    }
}

fn framed_reply(reply: &[u8]) -> Vec<u8> {
    let len = u32::try_from(reply.len()).expect("a short message").to_be_bytes();
    [&len, reply].concat()
}

/// Returns message `number`, of a length that follows from it. No part of it is a terminator,
/// but may look like the start of one.
fn message(number: usize, max: usize) -> Vec<u8> {
    let mut rng = Rng(number as u64);
    let len = rng.len(max as u64);
    let byte = |_| b"abcdefgh\r\r.."[rng.len(12)];
    (0..len).map(byte).collect()
}

const MAX_REQUEST: usize = 3000;
const MAX_REPLY: usize = 12_000;

/// What both ends do besides their task.
#[derive(Clone, Debug)]
struct Whims {
    rng: Rng,
    pauses: bool,
    delays: bool,
    produces: bool,
    /// A timer will call a producer that has nothing again.
    tick: Option<TimerId>,
}

impl Whims {
    fn random(rng: &mut Rng) -> Self {
        Whims {
            pauses: rng.one_in(2),
            delays: rng.one_in(2),
            produces: rng.one_in(2),
            tick: None,
            rng: Rng(rng.next()),
        }
    }

    fn act(&mut self, chat: &mut ChatIo<'_>) {
        if self.pauses && self.rng.one_in(5) {
            chat.io().pause();
            let after = self.rng.millis(500);
            chat.io().set_timer(after);
        }
    }

    fn tick(&mut self, chat: &mut ChatIo<'_>) {
        if self.produces && self.tick.is_none() {
            self.tick = Some(chat.io().set_timer(SECOND / 5));
        }
    }

    /// After any timer.
    fn resume(&mut self, chat: &mut ChatIo<'_>, timer: TimerId) {
        chat.io().resume();
        chat.resume_output();
        if self.tick == Some(timer) {
            self.tick = None;
            self.tick(chat);
        }
    }

    /// Pushes `data`, as it is or as a producer that has nothing at times.
    fn push(&mut self, chat: &mut ChatIo<'_>, data: Vec<u8>) -> io::Result<()> {
        if !self.produces || self.rng.one_in(2) {
            return chat.push(&data);
        }
        let (mut rng, mut rest) = (Rng(self.rng.next()), data);
        self.tick(chat);
        chat.push_with_producer(move |buffer: &mut Vec<u8>| {
            let len = rng.len(4000).min(rest.len());
            buffer.extend(rest.drain(..len));
            Ok(match rest.len() {
                0 => Produced::End,
                _ if rng.one_in(4) => Produced::Later,
                _ => Produced::Data,
            })
        })
    }
}

struct Server {
    framing: Framing,
    whims: Whims,
    /// In the data of [`Framing::Length`].
    in_data: bool,
    requests: usize,
    delayed: Vec<usize>,
    has_ended: bool,
    upgrades: bool,
}

impl Server {
    fn reply(&mut self, chat: &mut ChatIo<'_>, number: usize) -> io::Result<()> {
        let number_line = u32::try_from(number).expect("a small number").to_be_bytes();
        let reply = [&number_line, &message(number, MAX_REPLY)[..]].concat();
        self.whims.push(chat, framed_reply(&reply))
    }

    fn on_request(&mut self, chat: &mut ChatIo<'_>, request: &[u8]) -> io::Result<()> {
        if self.upgrades && self.requests == 0 && request == b"STARTTLS" {
            self.upgrades = false;
            chat.push(&framed_reply(b"go"))?;
            return chat.start_filter(Frames::default());
        }
        assert_eq!(request, message(self.requests, MAX_REQUEST), "request {}", self.requests);
        let number = self.requests;
        self.requests += 1;
        self.whims.act(chat);
        if self.whims.delays && self.whims.rng.one_in(3) {
            self.delayed.push(number);
            let after = self.whims.rng.millis(1000);
            chat.io().set_timer(after);
            return Ok(());
        }
        self.reply(chat, number)
    }

    fn close_if_done(&mut self, chat: &mut ChatIo<'_>) {
        if self.has_ended && self.delayed.is_empty() {
            chat.close_when_done();
        }
    }
}

impl ChatProtocol for Server {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let message = chat.take_collected();
        if self.framing != Framing::Length {
            return self.on_request(chat, &message);
        }
        if self.in_data {
            self.in_data = false;
            chat.set_terminator("\n");
            return self.on_request(chat, &message);
        }
        let len = String::from_utf8_lossy(&message).parse().map_err(io::Error::other)?;
        self.in_data = true;
        chat.set_terminator(Terminator::Length(len));
        Ok(())
    }

    fn handle_timer(&mut self, chat: &mut ChatIo<'_>, timer: TimerId) -> io::Result<()> {
        self.whims.resume(chat, timer);
        if let Some(number) = self.delayed.pop() {
            match self.reply(chat, number) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.delayed.push(number);
                    chat.io().set_timer(SECOND);
                }
                result => result?,
            }
        }
        self.close_if_done(chat);
        Ok(())
    }

    fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        assert_eq!(chat.partial_len(), 0, "an incomplete request");
        self.has_ended = true;
        self.close_if_done(chat);
        Ok(())
    }

    fn handle_error(&mut self, _: &mut ChatIo<'_>, cause: &Cause) {
        panic!("{cause}");
    }
}

#[derive(Debug, Default)]
struct Result {
    sent: usize,
    replies: usize,
    eof: bool,
    closed: Option<String>,
}

struct Client {
    framing: Framing,
    whims: Whims,
    count: usize,
    half_closes: bool,
    /// It waits for the reply to the request for a filter, or for the filter.
    upgrades: bool,
    received: Vec<bool>,
    result: Rc<RefCell<Result>>,
}

impl ChatProtocol for Client {
    fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        if self.upgrades {
            return chat.push(&self.framing.frame(b"STARTTLS"));
        }
        Ok(())
    }

    fn writable(&self) -> bool {
        !self.upgrades && self.result.borrow().sent < self.count
    }

    fn handle_write(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        for _ in 0..=self.whims.rng.below(10) {
            let number = self.result.borrow().sent;
            if number == self.count {
                break;
            }
            let request = self.framing.frame(&message(number, MAX_REQUEST));
            match self.whims.push(chat, request) {
                Ok(()) => self.result.borrow_mut().sent += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.result.borrow().sent == self.count && self.half_closes && !self.whims.produces {
            chat.io().shutdown()?;
        }
        Ok(())
    }

    fn handle_upgrade(&mut self, _: &mut ChatIo<'_>) -> io::Result<()> {
        self.upgrades = false;
        Ok(())
    }

    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let reply = chat.take_collected();
        if self.upgrades && reply == b"go" {
            // The server's filter may have said hello already.
            let hello = chat.unparsed().to_vec();
            chat.discard_buffers();
            return chat.io().start_filter(Frames::default(), &hello);
        }
        let (number, text) = reply.split_first_chunk().expect("a number");
        let number = u32::from_be_bytes(*number) as usize;
        assert_eq!(text, message(number, MAX_REPLY), "reply {number}");
        assert!(!std::mem::replace(&mut self.received[number], true), "reply {number} twice");
        self.result.borrow_mut().replies += 1;
        if self.result.borrow().replies == self.count && (!self.half_closes || self.whims.produces)
        {
            chat.close_when_done();
        } else {
            self.whims.act(chat);
        }
        Ok(())
    }

    fn handle_timer(&mut self, chat: &mut ChatIo<'_>, timer: TimerId) -> io::Result<()> {
        self.whims.resume(chat, timer);
        Ok(())
    }

    fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.result.borrow_mut().eof = true;
        chat.close_when_done();
        Ok(())
    }

    fn handle_error(&mut self, _: &mut ChatIo<'_>, cause: &Cause) {
        panic!("{cause}");
    }

    fn handle_close(&mut self, _: &mut ChatIo<'_>, reason: &CloseReason) {
        let closed = self.result.borrow_mut().closed.replace(reason.to_string());
        assert_eq!(closed, None, "handle_close twice");
    }
}

pub(crate) fn scenario(sim: &mut Sim, rng: &mut Rng) -> ScenarioResult {
    sim.set_link(link(rng));
    sim.set_faults(harmless_faults(rng));
    let (filter, framing) = (FilterKind::random(rng), FRAMINGS[rng.len(5)]);
    let upgrades = filter == FilterKind::None && rng.one_in(3);
    // A reply may consist of several pushes.
    let max_excess = Limits::default().max_excess;
    let limits = Limits { max_excess, read_while_congested: false, ..patient_limits(rng) };
    let whims = Whims::random(rng);
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let mut whims = whims.clone();
        let accept = move |_: &_| {
            let whims = Whims { rng: Rng(whims.rng.next()), ..whims.clone() };
            let server = Server {
                framing,
                whims,
                in_data: false,
                requests: 0,
                delayed: Vec::new(),
                has_ended: false,
                upgrades,
            };
            let chat = Chat::new(framing.terminator(), server);
            Ok(chat.with_message_timeout(Duration::from_secs(48 * 3600)))
        };
        let listener = Listener::bind(server_addr(), accept)?.with_limits(limits);
        reactor.add(filter.listen(listener)).map(drop)
    })?;
    let mut results = Vec::new();
    for number in 2..=2 + u8::try_from(rng.below(2))? {
        let result = Rc::new(RefCell::new(Result::default()));
        let limits = Limits { max_excess, read_while_congested: true, ..patient_limits(rng) };
        let (count, starts) = (1 + rng.len(60), rng.millis(20_000));
        let (half_closes, whims) = (rng.one_in(2), Whims::random(rng));
        let eof = half_closes && !whims.produces;
        let for_client = Rc::clone(&result);
        let client =
            sim.machine(&format!("client {number}"), [10, 0, 0, number], move |reactor| {
                let client = Client {
                    framing,
                    whims: whims.clone(),
                    count,
                    half_closes,
                    upgrades,
                    received: vec![false; count],
                    result: Rc::clone(&for_client),
                };
                reactor.context().call_later(starts, move |cx| {
                    let chat = Chat::new(Terminator::prefixed_u32_be(100_000), client);
                    let stream = Stream::connect([server_addr()], chat).with_limits(limits);
                    // It fails only if the loop ends.
                    let _ = cx.add(filter.connect(stream));
                });
                Ok(())
            })?;
        results.push((client, count, eof, result));
    }
    sim.chaos(30 * SECOND)?;
    sim.rest(24 * 3600 * SECOND)?;
    for (client, count, eof, result) in results {
        let result = result.borrow();
        let is_complete = result.replies == count && result.eof == eof;
        if !sim.has_ended(client) || !is_complete {
            return Err(format!("not complete: {result:?} of {count}").into());
        }
        let expected = if eof { "closed by the peer" } else { "closed" };
        if result.closed.as_deref() != Some(expected) {
            return Err(format!("closed in another way: {result:?}").into());
        }
        sim.note("replied");
    }
    let left = sim.with_reactor(server, |reactor| reactor.context().channels().len());
    if left == Some(1) { Ok(()) } else { Err(format!("{left:?} channels are left").into()) }
}
