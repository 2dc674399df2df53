//! [`Conversation`]: one connection's messages and answers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use reactor::{Cause, CloseReason, Io, Protocol};

use crate::generator::{PATIENCE, reopen};
use crate::pattern::Pattern;
use crate::record::Record;

/// What all conversations of a thread have in common.
pub(crate) struct Load {
    /// The same for all threads.
    pub(crate) pattern: Arc<Pattern>,
    pub(crate) size: usize,
    pub(crate) pipeline: usize,
    pub(crate) churn: bool,
    pub(crate) addr: SocketAddr,
    /// Connections are to go out from several addresses.
    pub(crate) spreads: bool,
    /// How many connections were opened.
    pub(crate) opened: Cell<u32>,
    pub(crate) record: RefCell<Record>,
}

/// Sends messages and checks the answers, which must be the same bytes in the
/// same order, however they are cut.
pub(crate) struct Conversation {
    load: Rc<Load>,
    /// When it began: in churn, connecting is part of what is measured.
    begun: Instant,
    sent: u64,
    received: u64,
    /// When each message was sent whose answer is not complete.
    under_way: VecDeque<Instant>,
}

impl Conversation {
    pub(crate) fn new(load: Rc<Load>) -> Self {
        let under_way = VecDeque::with_capacity(load.pipeline);
        Conversation { load, begun: Instant::now(), sent: 0, received: 0, under_way }
    }

    fn send(&mut self, io: &mut Io<'_>, now: Instant) -> io::Result<()> {
        let load = &self.load;
        io.send(load.pattern.part(self.sent, load.size))?;
        self.sent += load.size as u64;
        self.under_way.push_back(if load.churn { self.begun } else { now });
        Ok(())
    }
}

impl Protocol for Conversation {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.load.record.borrow_mut().connections += 1;
        let now = Instant::now();
        for _ in 0..self.load.pipeline {
            self.send(io, now)?;
        }
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, mut data: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        let load = Rc::clone(&self.load);
        let size = load.size as u64;
        while !data.is_empty() {
            // As far as this message goes.
            let rest = usize::try_from(size - self.received % size).unwrap_or(data.len());
            let (part, more) = data.split_at(rest.min(data.len()));
            if self.received + part.len() as u64 > self.sent {
                return Err(io::Error::other("more came back than was sent"));
            }
            if part != load.pattern.part(self.received, part.len()) {
                return Err(io::Error::other("other bytes came back than were sent"));
            }
            self.received += part.len() as u64;
            data = more;
            if !self.received.is_multiple_of(size) {
                continue;
            }
            let Some(sent) = self.under_way.pop_front() else { continue };
            let goes_on = {
                let mut record = load.record.borrow_mut();
                record.answered(sent, now);
                record.goes_on()
            };
            if goes_on && !load.churn {
                self.send(io, now)?;
            } else if self.under_way.is_empty() {
                // All has come back: there is nothing that a close would flush.
                io.abort();
            }
        }
        Ok(())
    }

    fn handle_eof(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        Err(io::Error::other("the server closed the connection"))
    }

    /// Told, and counted, by `handle_close`.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        let load = Rc::clone(&self.load);
        match &reason.cause {
            Cause::Local => {}
            // Its answer was not in when the time was up.
            Cause::Shutdown if self.under_way.is_empty() => {}
            Cause::Shutdown => {
                let seconds = PATIENCE.as_secs();
                let kind = format!("no answer within {seconds} s of the end");
                load.record.borrow_mut().failed(kind);
            }
            cause => load.record.borrow_mut().failed(cause.to_string()),
        }
        if load.churn && load.record.borrow().goes_on() {
            reopen(io.context(), &load);
        }
    }
}

/// A connection that is open, and nothing else.
pub(crate) struct Idle(Rc<Load>);

impl Idle {
    pub(crate) fn new(load: Rc<Load>) -> Self {
        Idle(load)
    }
}

impl Protocol for Idle {
    fn handle_connect(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        self.0.record.borrow_mut().connections += 1;
        Ok(())
    }

    fn handle_drain(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.close();
        Ok(())
    }

    fn handle_read(&mut self, _io: &mut Io<'_>, _data: &[u8]) -> io::Result<()> {
        Err(io::Error::other("something came that was not asked for"))
    }

    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, _io: &mut Io<'_>, reason: &CloseReason) {
        if !matches!(reason.cause, Cause::Local | Cause::Shutdown) {
            self.0.record.borrow_mut().failed(format!("idle connection: {}", reason.cause));
        }
    }
}
