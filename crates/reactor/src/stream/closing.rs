//! [`CloseState`]: how a stream ends.

use std::time::Duration;

use crate::sys::socket::SendQueue;

/// How long a closing stream waits without progress: first for its last bytes to be sent,
/// then for the peer to send more or to close.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// State machine for the end of a stream.
///
/// The kernel sends a reset if a socket is closed while received data is unread, or if
/// data arrives after it was closed. That discards what the kernel has not sent yet, and may
/// overtake what the peer has not read yet (RFC 1122, section 4.2.2.13). So a stream
/// closes in steps.
///
/// | from | event | to |
/// | --- | --- | --- |
/// | `Open` | `close()` | `Flushing` |
/// | any | `abort()` | `Aborted`; the peer sees a reset |
/// | any | `handle_close` | `Closed` |
/// | `Flushing`, `AwaitingTransmit` | flushed; read half at `Eof`, or still connecting, or not a socket; or one read returns 0 | the channel ends |
/// | the same | flushed; one read fails | the channel ends, `Error` |
/// | the same | flushed; the kernel still holds output | `AwaitingTransmit` |
/// | the same | flushed; the kernel cannot tell | `Lingering`, write half `Shut` |
/// | the same | flushed; the kernel holds nothing; no input was discarded | the channel ends, `Local` |
/// | the same | flushed; the kernel holds nothing; input was discarded | `Lingering`, write half `Shut` |
/// | `AwaitingTransmit`, `Lingering` | input | the same; the input is discarded |
/// | the same | end of input | `Closed` |
/// | `AwaitingTransmit` | [`LINGER_TIMEOUT`] without output that leaves | `Closed` |
/// | `Lingering` | [`LINGER_TIMEOUT`] without input | `Closed` |
/// | `AwaitingTransmit`, `Lingering` | the close timeout | the channel ends, `TimedOut` |
/// | `Open` | read half `Eof` and write half `Shut` | the channel ends, `PeerClosed` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseState {
    Open,
    /// The kernel must accept all output first.
    Flushing,
    /// The kernel must send all output. Input is discarded.
    AwaitingTransmit,
    /// The write half is shut. Input is discarded until the peer closes its side.
    Lingering,
    /// What was not sent is lost.
    Aborted,
    Closed,
}

/// What one read found, after all output was flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnreadInput {
    /// The peer has closed its side, or closing cannot reset anything.
    Eof,
    /// Input arrived that the user does not read.
    Discarded,
    /// No input has arrived.
    None,
}

/// The next step of a stream that is closing and flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseStep {
    End,
    Enter(CloseState),
}

impl CloseState {
    pub(super) fn is_open(self) -> bool {
        self == CloseState::Open
    }

    /// Returns `true` if nothing more is read or written.
    pub(super) fn has_ended(self) -> bool {
        matches!(self, CloseState::Aborted | CloseState::Closed)
    }

    /// Returns `true` if input is to be discarded.
    pub(super) fn discards_input(self) -> bool {
        matches!(self, CloseState::AwaitingTransmit | CloseState::Lingering)
    }

    /// Returns `true` if the stream ends as soon as its output allows.
    pub(super) fn ends_when_flushed(self) -> bool {
        matches!(self, CloseState::Flushing | CloseState::AwaitingTransmit)
    }

    /// The state after `close()`.
    pub(super) fn after_close(self) -> Self {
        if self == CloseState::Open { CloseState::Flushing } else { self }
    }

    /// The step to take once all output is flushed.
    pub(super) fn next(unread: UnreadInput, queue: SendQueue) -> CloseStep {
        match (unread, queue) {
            (UnreadInput::Eof, _) | (UnreadInput::None, SendQueue::Empty) => CloseStep::End,
            (_, SendQueue::Unsent) => CloseStep::Enter(CloseState::AwaitingTransmit),
            (_, SendQueue::Unknown) | (UnreadInput::Discarded, SendQueue::Empty) => {
                CloseStep::Enter(CloseState::Lingering)
            }
        }
    }

    /// The state after the end of input, or after [`LINGER_TIMEOUT`].
    pub(super) fn after_linger(self) -> Self {
        if self.discards_input() { CloseState::Closed } else { self }
    }
}

/// State machine for the write half: `Open`, then `shutdown()`, then `ShuttingDown`
/// until all output is flushed, then `Shut`. `Failed` when a write fails because the
/// connection is lost: input that has arrived is then read to its end, and the channel
/// ends with the error of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteHalf {
    Open,
    ShuttingDown,
    Shut,
    Failed,
}

/// State machine for the read half: `Open` and `Paused` by `pause` and `resume`; `Eof`
/// at the end of input, which is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadHalf {
    Open,
    Paused,
    Eof,
}

impl ReadHalf {
    pub(super) fn paused(self) -> Self {
        if self == ReadHalf::Open { ReadHalf::Paused } else { self }
    }

    pub(super) fn resumed(self) -> Self {
        if self == ReadHalf::Paused { ReadHalf::Open } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [CloseState; 6] = [
        CloseState::Open,
        CloseState::Flushing,
        CloseState::AwaitingTransmit,
        CloseState::Lingering,
        CloseState::Aborted,
        CloseState::Closed,
    ];

    /// The rows of the table that do not need a socket; those that do are in the test
    /// `close_state_follows_its_table` of `ending.rs`.
    #[test]
    fn each_step_of_a_flushed_stream_is_as_documented() {
        use CloseState::{AwaitingTransmit, Lingering};
        use CloseStep::{End, Enter};
        let table = [
            (UnreadInput::Eof, SendQueue::Empty, End),
            (UnreadInput::Eof, SendQueue::Unsent, End),
            (UnreadInput::Eof, SendQueue::Unknown, End),
            (UnreadInput::None, SendQueue::Empty, End),
            (UnreadInput::None, SendQueue::Unsent, Enter(AwaitingTransmit)),
            (UnreadInput::None, SendQueue::Unknown, Enter(Lingering)),
            (UnreadInput::Discarded, SendQueue::Empty, Enter(Lingering)),
            (UnreadInput::Discarded, SendQueue::Unsent, Enter(AwaitingTransmit)),
            (UnreadInput::Discarded, SendQueue::Unknown, Enter(Lingering)),
        ];
        for (unread, queue, step) in table {
            assert_eq!(CloseState::next(unread, queue), step, "{unread:?}, {queue:?}");
        }
    }

    #[test]
    fn close_and_linger_change_only_their_own_states() {
        use CloseState::{Aborted, AwaitingTransmit, Closed, Flushing, Lingering, Open};
        let after_close = [Flushing, Flushing, AwaitingTransmit, Lingering, Aborted, Closed];
        let after_linger = [Open, Flushing, Closed, Closed, Aborted, Closed];
        let ends_when_flushed = [false, true, true, false, false, false];
        for (index, state) in ALL.into_iter().enumerate() {
            assert_eq!(state.after_close(), after_close[index]);
            assert_eq!(state.after_linger(), after_linger[index]);
            assert_eq!(state.ends_when_flushed(), ends_when_flushed[index]);
        }
    }

    #[test]
    fn end_of_input_is_final() {
        for half in [ReadHalf::Open, ReadHalf::Paused] {
            assert_eq!(half.paused(), ReadHalf::Paused);
            assert_eq!(half.resumed(), ReadHalf::Open);
        }
        assert_eq!(ReadHalf::Eof.paused(), ReadHalf::Eof);
        assert_eq!(ReadHalf::Eof.resumed(), ReadHalf::Eof);
    }
}
