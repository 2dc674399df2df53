//! [`Input`]: standard input, read by a thread of its own.
//!
//! Standard input may be a file, which no poller can wait for, or be shared
//! with other processes, whose reads would fail if we set it to non-blocking
//! mode. A thread that simply reads it works for all kinds.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use reactor::ReactorClosed;

use crate::CHUNK;

/// How many buffers go round: one is read into while the other is sent.
const BUFFERS: usize = 2;

/// What the thread delivers; `End` or `Failed` comes last.
pub(crate) enum Piece {
    /// Some bytes. The buffer is to be given back.
    Data(Vec<u8>),
    /// There is no more.
    End,
    /// Reading failed.
    Failed(io::Error),
}

/// The reading thread's other end.
///
/// The thread reads when it has an empty buffer, and it has no others than
/// those given to it: so it is never ahead by more than [`BUFFERS`] of them.
pub(crate) struct Input {
    empty: Sender<Vec<u8>>,
}

impl Input {
    /// Begins to read; `deliver` is called on the thread with each piece. The
    /// thread is never waited for: at the end of the program it may well
    /// stand in a `read` that does not return.
    pub(crate) fn start(
        deliver: impl Fn(Piece) -> Result<(), ReactorClosed> + Send + 'static,
    ) -> io::Result<Self> {
        let (empty, empties) = mpsc::channel();
        let input = Input { empty };
        for _ in 0..BUFFERS {
            input.give_back(Vec::with_capacity(CHUNK));
        }
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_all(&mut io::stdin().lock(), &empties, deliver))?;
        Ok(input)
    }

    /// Returns a buffer, to be read into again.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        // The thread is gone where the input has ended: fine.
        let _ = self.empty.send(buffer);
    }
}

/// Reads `source` to its end, or until nobody wants it any more.
fn read_all(
    source: &mut impl Read,
    empties: &Receiver<Vec<u8>>,
    deliver: impl Fn(Piece) -> Result<(), ReactorClosed>,
) {
    while let Ok(mut buffer) = empties.recv() {
        buffer.resize(CHUNK, 0);
        let piece = loop {
            match source.read(&mut buffer) {
                Ok(0) => break Piece::End,
                Ok(read) => {
                    buffer.truncate(read);
                    break Piece::Data(buffer);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Piece::Failed(error),
            }
        };
        let last = !matches!(piece, Piece::Data(_));
        if deliver(piece).is_err() || last {
            return;
        }
    }
}
