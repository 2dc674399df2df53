//! [`Idle`]: a connection without messages.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use reactor::{Cause, CloseReason, Context, Io, Protocol};

use crate::failure::{Failure, FailureKind};
use crate::workload::Workload;

/// Holds a connection open and sends nothing, until the run ends.
pub(crate) struct Idle {
    workload: Rc<Workload>,
    opened_at: Instant,
    is_connected: bool,
}

impl Idle {
    /// Opens an idle connection and adds it to the reactor.
    ///
    /// # Errors
    ///
    /// Returns an error if the reactor accepts no more channels.
    pub(crate) fn open(cx: &mut Context, workload: &Rc<Workload>) -> io::Result<()> {
        let workload = Rc::clone(workload);
        let idle = Idle { workload, opened_at: Instant::now(), is_connected: false };
        Rc::clone(&idle.workload).open(cx, idle)
    }
}

impl Protocol for Idle {
    fn handle_connect(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        self.is_connected = true;
        self.workload.record_mut().record_connection(self.opened_at, Instant::now());
        Ok(())
    }

    fn handle_read(&mut self, _io: &mut Io<'_>, _data: &[u8]) -> io::Result<()> {
        Err(Failure::new(FailureKind::UnexpectedData, "received data without a request").into())
    }

    /// Does nothing: `handle_close` follows and records the same cause.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        let timeout = self.workload.reply_timeout();
        if let Some(failure) = Failure::from_cause(&reason.cause, self.is_connected, timeout) {
            let failure = Failure::new(failure.kind(), format!("idle connection: {failure}"));
            self.workload.fail(io.context(), &failure);
        }
    }
}
