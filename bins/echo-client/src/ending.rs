//! [`Ending`]: what the end of a connection means for the program.

use std::io;
use std::sync::mpsc::Sender;
use std::time::Duration;

use reactor::{Cause, CloseReason, Io, TimeoutKind};

use crate::failure::{Failure, plain};

/// Follows a conversation to its end, and tells then how it went.
///
/// The reactor owns a protocol until it is closed, and drops it then; so what
/// the rest of the program is to learn of it leaves through a channel.
pub(crate) struct Ending {
    server: String,
    timeout: Duration,
    connected: bool,
    complete: bool,
    tell: Sender<Result<(), Failure>>,
}

impl Ending {
    pub(crate) fn new(
        server: String,
        timeout: Duration,
        tell: Sender<Result<(), Failure>>,
    ) -> Self {
        Ending { server, timeout, connected: false, complete: false, tell }
    }

    /// From `handle_connect`.
    pub(crate) fn connected(&mut self, io: &Io<'_>) {
        self.connected = true;
        log::info!("connected to {}", io.peer_addr());
    }

    /// All has come back: closes the connection. However that goes, the
    /// conversation was a success.
    pub(crate) fn complete(&mut self, io: &mut Io<'_>) {
        self.complete = true;
        io.close();
    }

    /// From `handle_close`: tells how it went. `progress` is how far the
    /// conversation had come, such as "3 of 10 replies".
    pub(crate) fn closed(&self, io: &Io<'_>, reason: &CloseReason, progress: String) {
        log::info!("{}: {reason}", io.peer_addr());
        let outcome = if self.complete {
            Ok(())
        } else if self.connected {
            Err(self.broken_off(io, reason, progress))
        } else {
            Err(self.not_connected(&reason.cause))
        };
        // The receiver waits in `run` for as long as there is a connection.
        let _ = self.tell.send(outcome);
    }

    fn not_connected(&self, cause: &Cause) -> Failure {
        let server = self.server.clone();
        match cause {
            Cause::TimedOut(TimeoutKind::Connect) => {
                Failure::ConnectTimeout { server, timeout: self.timeout }
            }
            Cause::Error(error) => Failure::connect(server, error),
            other => Failure::connect(server, &io::Error::other(other.to_string())),
        }
    }

    fn broken_off(&self, io: &Io<'_>, reason: &CloseReason, progress: String) -> Failure {
        let server = io.peer_addr().to_string();
        match &reason.cause {
            Cause::TimedOut(_) => Failure::Silent { server, timeout: self.timeout, progress },
            Cause::PeerClosed => Failure::Closed { server, progress },
            Cause::Error(error) => match Failure::within(error) {
                Some(failure) => failure.clone(),
                None => Failure::Lost { server, progress, why: plain(error) },
            },
            other => Failure::Lost { server, progress, why: other.to_string() },
        }
    }
}
