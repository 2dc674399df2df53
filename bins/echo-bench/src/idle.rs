//! [`Idle`]: a connection without messages.

use std::io;
use std::rc::Rc;

use reactor::{Cause, CloseReason, Io, Protocol};

use crate::workload::Workload;

/// Holds a connection open and sends nothing.
pub(crate) struct Idle(Rc<Workload>);

impl Idle {
    pub(crate) fn new(workload: Rc<Workload>) -> Self {
        Idle(workload)
    }
}

impl Protocol for Idle {
    fn handle_connect(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        self.0.record_mut().record_connection();
        Ok(())
    }

    fn handle_drain(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.close();
        Ok(())
    }

    fn handle_read(&mut self, _io: &mut Io<'_>, _data: &[u8]) -> io::Result<()> {
        Err(io::Error::other("received data without a request"))
    }

    /// Does nothing: `handle_close` follows and records the same cause.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, _io: &mut Io<'_>, reason: &CloseReason) {
        if !matches!(reason.cause, Cause::Local | Cause::Shutdown) {
            self.0.record_mut().record_error(format!("idle connection: {}", reason.cause));
        }
    }
}
