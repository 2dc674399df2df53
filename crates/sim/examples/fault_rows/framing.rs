//! Messages that a hostile peer sends, or that the network cuts.

use std::io;
use std::rc::Rc;

use anyhow::ensure;
use reactor::{
    Chat, ChatIo, ChatProtocol, CloseReason, Filter, Flow, Io, Limits, Listener, Protocol,
    Terminator,
};
use sim::{Fault, Faults, Link, Sim};

use crate::common::{LATENCY, server_addr};
use crate::support::{Shared, add_stream, choose, choose_byte, open_channels, rest};

/// The longest message.
const MAX: usize = 1000;

#[derive(Debug, Default)]
struct Received {
    messages: Vec<Vec<u8>>,
    closed: Option<String>,
}

struct Collect(Shared<Received>);

impl ChatProtocol for Collect {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let message = chat.take_collected();
        chat.push(b"ok")?;
        self.0.borrow_mut().messages.push(message);
        Ok(())
    }

    fn handle_close(&mut self, _: &mut ChatIo<'_>, reason: &CloseReason) {
        self.0.borrow_mut().closed = Some(reason.to_string());
    }
}

/// Sends `data`, one piece after the other.
struct Pieces {
    data: Vec<u8>,
    pieces: Vec<usize>,
}

impl Protocol for Pieces {
    fn writable(&self) -> bool {
        !self.data.is_empty()
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let len = self.pieces.pop().unwrap_or(1).min(self.data.len());
        let piece: Vec<_> = self.data.drain(..len).collect();
        io.send(&piece)?;
        if self.data.is_empty() {
            io.shutdown()?;
        }
        Ok(())
    }

    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// How the messages of a world are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Line,
    Crlf,
    U16,
    U32,
}

impl Framing {
    fn terminator(self) -> Terminator {
        match self {
            Framing::Line => "\n".into(),
            Framing::Crlf => "\r\n.\r\n".into(),
            Framing::U16 => Terminator::prefixed_u16_be(),
            Framing::U32 => Terminator::prefixed_u32_be(MAX),
        }
    }

    fn frame(self, message: &[u8]) -> Vec<u8> {
        let len = message.len();
        match self {
            Framing::Line => [message, b"\n"].concat(),
            Framing::Crlf => [message, b"\r\n.\r\n"].concat(),
            Framing::U16 => {
                [&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes(), message].concat()
            }
            Framing::U32 => {
                [&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes(), message].concat()
            }
        }
    }
}

/// Adds a server that collects messages. Returns what it collects of the last connection.
fn add_collector(
    sim: &mut Sim,
    framing: Framing,
) -> anyhow::Result<(sim::MachineId, Shared<Received>)> {
    let received = Shared::<Received>::default();
    let noted = Rc::clone(&received);
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let noted = Rc::clone(&noted);
        let accept = move |_: &_| {
            Ok(Chat::new(framing.terminator(), Collect(Rc::clone(&noted))).with_max_message(MAX))
        };
        reactor.add(Listener::bind(server_addr(), accept)?).map(drop)
    })?;
    Ok((server, received))
}

/// Returns a part of a terminator, or something else.
fn hostile_byte(sim: &mut Sim) -> u8 {
    match sim.choose(4) {
        0 => b'\r',
        1 => b'.',
        2 => b"\r\n.\r\n"[choose(sim, 5)],
        _ => choose_byte(sim, 256),
    }
}

/// Messages arrive whole, however they are cut, and one that is too long is an error.
pub(crate) fn hostile_messages(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_link(Link::default().with_latency(LATENCY, LATENCY));
    // Cut down to single bytes.
    let rate = [0, 500_000, 1_000_000][choose(sim, 3)];
    sim.set_faults(Faults::none().with(Fault::ShortRead, rate).with(Fault::ShortWrite, 500_000));
    let framing = [Framing::Line, Framing::Crlf, Framing::U16, Framing::U32][choose(sim, 4)];
    let (server, received) = add_collector(sim, framing)?;
    let mut messages = Vec::new();
    for _ in 0..=sim.choose(20) {
        let message: Vec<_> = (0..sim.choose(60)).map(|_| hostile_byte(sim)).collect();
        let message: Vec<_> = match framing {
            Framing::Line => message.into_iter().filter(|&byte| byte != b'\n').collect(),
            // No part of it and the terminator may look like a terminator.
            Framing::Crlf => message.into_iter().filter(|&byte| byte != b'.').collect(),
            _ => message,
        };
        messages.push(message);
    }
    let mut data: Vec<_> = messages.iter().flat_map(|message| framing.frame(message)).collect();
    let is_endless = framing != Framing::U16 && sim.choose(2) == 0;
    if is_endless {
        data.extend(match framing {
            Framing::U32 => u32::try_from(MAX + 1)?.to_be_bytes().to_vec(),
            _ => vec![b'x'; MAX + 1],
        });
        let more = [2000, 100_000][choose(sim, 2)];
        data.extend(vec![b'x'; choose(sim, more)]);
    }
    let pieces = (0..30).map(|_| 1 + choose(sim, 4)).chain([100_000; 3]).rev().collect();
    add_stream(sim, 2, LATENCY, Limits::default(), Pieces { data, pieces })?;
    rest(sim)?;
    let received = received.borrow();
    ensure!(
        received.messages == messages,
        "{framing:?}: {:?} instead of {messages:?}",
        received.messages
    );
    let closed = received.closed.as_deref().unwrap_or_default();
    let expected = if is_endless { "longer than 1000 bytes" } else { "closed by the peer" };
    ensure!(closed.contains(expected), "{closed}");
    ensure!(open_channels(sim, server) == 1, "a channel is left");
    Ok(())
}

/// A filter that changes every byte, and is ready at once.
struct Complement;

impl Filter for Complement {
    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        flow.plain.extend(raw.iter().map(|byte| !byte));
        Ok(())
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain.iter().map(|byte| !byte));
        Ok(())
    }
}

struct StartFilter(Shared<Received>);

impl ChatProtocol for StartFilter {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let message = chat.take_collected();
        if message == b"STARTTLS" {
            chat.start_filter(Complement)?;
        }
        self.0.borrow_mut().messages.push(message);
        Ok(())
    }

    fn handle_close(&mut self, _: &mut ChatIo<'_>, reason: &CloseReason) {
        self.0.borrow_mut().closed = Some(reason.to_string());
    }
}

/// Plain text behind the message that starts encryption never counts as encrypted.
pub(crate) fn plain_text_behind_starttls(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_link(Link::default().with_latency(LATENCY, LATENCY));
    sim.set_faults(Faults::none().with(Fault::ShortRead, 300_000));
    let received = Shared::<Received>::default();
    let noted = Rc::clone(&received);
    sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let noted = Rc::clone(&noted);
        let accept = move |_: &_| Ok(Chat::new("\n", StartFilter(Rc::clone(&noted))));
        reactor.add(Listener::bind(server_addr(), accept)?).map(drop)
    })?;
    let data = b"hello\nSTARTTLS\nMAIL FROM:<attacker>\n".to_vec();
    let cut = 1 + choose(sim, data.len() as u64 - 1);
    add_stream(sim, 2, LATENCY, Limits::default(), Pieces { data, pieces: vec![100, cut] })?;
    rest(sim)?;
    let received = received.borrow();
    let injected = received.messages.iter().any(|message| message.starts_with(b"MAIL"));
    ensure!(!injected, "{received:?}");
    ensure!(received.messages[0] == b"hello", "{received:?}");
    // Rejected as what follows, or as what it becomes once it is decrypted.
    ensure!(received.closed.is_some(), "{received:?}");
    sim.note(if received.messages.len() == 1 { "rejected" } else { "taken for encrypted" });
    Ok(())
}
