//! [`Idle`]: a connection without messages.

use std::io;
use std::rc::Rc;

use reactor::{Cause, CloseReason, Context, Io, Protocol};

use crate::workload::Workload;

/// Holds a connection open and sends nothing, until the run ends.
pub(crate) struct Idle(Rc<Workload>);

impl Idle {
    /// Opens an idle connection and adds it to the reactor.
    ///
    /// # Errors
    ///
    /// Returns an error if the reactor accepts no more channels.
    pub(crate) fn open(cx: &mut Context, workload: &Rc<Workload>) -> io::Result<()> {
        workload.open(cx, Idle(Rc::clone(workload)))
    }
}

impl Protocol for Idle {
    fn handle_connect(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        self.0.record_mut().record_connection();
        Ok(())
    }

    fn handle_read(&mut self, _io: &mut Io<'_>, _data: &[u8]) -> io::Result<()> {
        Err(io::Error::other("received data without a request"))
    }

    /// Does nothing: `handle_close` follows and records the same cause.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        if !matches!(reason.cause, Cause::Local | Cause::Shutdown) {
            self.0.fail(io.context(), format!("idle connection: {}", reason.cause));
        }
    }
}
