//! [`Input`]: standard input, read on a separate thread.
//!
//! Standard input may be a file, which cannot be polled, or be shared with
//! other processes, whose reads would fail if it became non-blocking. A thread
//! that blocks in read(2) works for all kinds.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use reactor::ReactorClosed;

use crate::limits::SEND_CHUNK;

/// Number of buffers: one is filled while the other is sent.
const BUFFERS: usize = 2;

/// What the thread delivers. `Eof` or `Error` is the last event.
pub(crate) enum InputEvent {
    /// Data. Return the buffer with [`Input::return_buffer`].
    Data(Vec<u8>),
    /// The end of the input.
    Eof,
    /// A read failed.
    Error(io::Error),
}

/// The handle of the reading thread.
///
/// The thread reads only while it has an empty buffer, so it is at most
/// [`BUFFERS`] buffers ahead of the connection.
pub(crate) struct Input {
    buffer_tx: Sender<Vec<u8>>,
}

impl Input {
    /// Starts the thread, which passes each event to `deliver`.
    ///
    /// The thread is never joined, since it may be blocked in read(2) when the
    /// program ends.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread cannot be started.
    pub(crate) fn start(
        deliver: impl Fn(InputEvent) -> Result<(), ReactorClosed> + Send + 'static,
    ) -> io::Result<Self> {
        let (buffer_tx, buffer_rx) = mpsc::channel();
        let input = Input { buffer_tx };
        for _ in 0..BUFFERS {
            input.return_buffer(Vec::with_capacity(SEND_CHUNK));
        }
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_all(&buffer_rx, deliver))?;
        Ok(input)
    }

    /// Returns a buffer to the thread, which fills it again.
    pub(crate) fn return_buffer(&self, buffer: Vec<u8>) {
        // The thread needs no more buffers if it has ended.
        let _ = self.buffer_tx.send(buffer);
    }
}

/// Reads standard input until its end, until an error, or until the reactor or the
/// [`Input`] is dropped.
fn read_all(
    buffer_rx: &Receiver<Vec<u8>>,
    deliver: impl Fn(InputEvent) -> Result<(), ReactorClosed>,
) {
    while let Ok(mut buffer) = buffer_rx.recv() {
        buffer.resize(SEND_CHUNK, 0);
        let event = match cli::stdio::read(&mut buffer) {
            Ok(0) => InputEvent::Eof,
            Ok(read) => {
                buffer.truncate(read);
                InputEvent::Data(buffer)
            }
            Err(error) => InputEvent::Error(error),
        };
        let is_last = !matches!(event, InputEvent::Data(_));
        if deliver(event).is_err() || is_last {
            return;
        }
    }
}
