//! [`Outcome`]: converts the end of a connection to the result of the program.

use std::io;
use std::sync::mpsc::Sender;
use std::time::Duration;

use cli::error::without_errno;
use reactor::{Cause, CloseReason, Io, TimeoutKind};

use crate::failure::Failure;

/// Tracks a conversation and sends its result when the connection closes.
///
/// The reactor owns a protocol and drops it when the connection closes, so the
/// result leaves through a channel.
pub(crate) struct Outcome {
    server: String,
    timeout: Duration,
    state: State,
    result_tx: Sender<Result<(), Failure>>,
}

/// State machine for a conversation: `Connecting` → `Connected` → `Complete`.
/// A connection can close in each state.
enum State {
    /// The connection is not established.
    Connecting,
    /// The connection is established, and replies are missing.
    Connected,
    /// All replies were received. However the connection closes, the
    /// conversation has succeeded.
    Complete,
}

impl Outcome {
    /// Creates the outcome of a connection to `server`, as error texts name it.
    pub(crate) fn new(
        server: String,
        timeout: Duration,
        result_tx: Sender<Result<(), Failure>>,
    ) -> Self {
        Outcome { server, timeout, state: State::Connecting, result_tx }
    }

    /// Records that the connection is established. Called from
    /// `handle_connect`.
    pub(crate) fn on_connected(&mut self, io: &Io<'_>) {
        self.state = State::Connected;
        log::info!("connected to {}", io.peer_addr());
    }

    /// Records that all replies were received, and closes the connection.
    pub(crate) fn finish(&mut self, io: &mut Io<'_>) {
        self.state = State::Complete;
        io.close();
    }

    /// Sends the result. Called from `handle_close`. `progress` describes what
    /// was received, such as "3 of 10 replies".
    pub(crate) fn on_closed(&self, io: &Io<'_>, reason: &CloseReason, progress: String) {
        log::info!("{}: {reason}", io.peer_addr());
        let result = match self.state {
            State::Connecting => Err(self.connect_failure(&reason.cause)),
            State::Connected => Err(self.conversation_failure(io, reason, progress)),
            State::Complete => Ok(()),
        };
        // The receiver exists while the reactor runs.
        let _ = self.result_tx.send(result);
    }

    fn connect_failure(&self, cause: &Cause) -> Failure {
        let server = self.server.clone();
        match cause {
            Cause::TimedOut(TimeoutKind::Connect) => {
                Failure::ConnectTimeout { server, timeout: self.timeout }
            }
            Cause::TimedOut(TimeoutKind::Handshake) => {
                Failure::HandshakeTimeout { server, timeout: self.timeout }
            }
            Cause::Error(error) => Failure::connect(server, error),
            other => Failure::connect(server, &io::Error::other(other.to_string())),
        }
    }

    fn conversation_failure(&self, io: &Io<'_>, reason: &CloseReason, progress: String) -> Failure {
        let server = io.peer_addr().to_string();
        match &reason.cause {
            Cause::TimedOut(_) => Failure::ReplyTimeout { server, timeout: self.timeout, progress },
            Cause::PeerClosed => Failure::Closed { server, progress },
            Cause::Error(error) => match Failure::from_io_error(error) {
                Some(failure) => failure.clone(),
                None => Failure::Lost { server, progress, cause: without_errno(error) },
            },
            other => Failure::Lost { server, progress, cause: other.to_string() },
        }
    }
}
