//! The protocol under test: it reports each callback to the model, then performs
//! the planned action.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use reactor::{Cause, CloseReason, Io, Protocol, TimerId};

use crate::actions::{Reach, act, send};
use crate::schedule::{Target, Trigger};
use crate::world::world;

pub(crate) struct Subject {
    pub(crate) id: usize,
    pub(crate) wants_write: Rc<Cell<bool>>,
    pub(crate) answers: bool,
    pub(crate) stays: bool,
}

impl Subject {
    fn called(&self, on: Trigger, io: &mut Io<'_>) -> io::Result<()> {
        let unsent = io.unsent();
        world(|world| world.enter(self.id, on, unsent));
        self.act(on, io)
    }

    fn act(&self, on: Trigger, io: &mut Io<'_>) -> io::Result<()> {
        match world(|world| world.channels[self.id].take_plan(on)) {
            Some(action) => act(&mut Reach::Callback(io, self.id, on), &action),
            None => Ok(()),
        }
    }
}

impl Protocol for Subject {
    fn writable(&self) -> bool {
        self.wants_write.get()
    }

    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.called(Trigger::Connect, io)
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let unsent = io.unsent();
        world(|world| {
            world.enter(self.id, Trigger::Read, unsent);
            world.received(self.id, data);
        });
        if self.answers {
            send(&mut Reach::Callback(io, self.id, Trigger::Read), Target::Own, data.len());
        }
        self.act(Trigger::Read, io)
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let outcome = self.called(Trigger::Write, io);
        // Otherwise it would be called repeatedly.
        self.wants_write.set(false);
        outcome
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let outcome = self.called(Trigger::Eof, io);
        if !self.stays && outcome.is_ok() {
            io.close();
            world(|world| world.channels[self.id].close());
        }
        outcome
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, timer: TimerId) -> io::Result<()> {
        let unsent = io.unsent();
        world(|world| {
            world.enter(self.id, Trigger::Timer, unsent);
            world.channel_timer_fired(self.id, timer);
        });
        self.act(Trigger::Timer, io)
    }

    fn handle_drain(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.called(Trigger::Drain, io)
    }

    fn handle_error(&mut self, io: &mut Io<'_>, cause: &Cause) {
        world(|world| world.error_reported(self.id, cause));
        let _ = self.called(Trigger::Error, io);
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        world(|world| {
            world.enter(self.id, Trigger::Close, reason.unsent);
            world.closed(self.id, reason);
        });
        let _ = self.act(Trigger::Close, io);
    }
}
