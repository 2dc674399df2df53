//! [`Pipe`]: standard input through the server to standard output.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use reactor::{Cause, CloseReason, Io, Protocol, Stream, TimerId};

use crate::ending::Ending;
use crate::failure::{Failure, plain};
use crate::input::{Input, Piece};
use crate::output;

/// How many bytes may be under way, at least: no chunk is sent while so many
/// have not come back. It takes this much memory to know what they were.
const WINDOW: usize = 1024 * 1024;

/// Sends what [`Input`] delivers, and writes what comes back.
///
/// Nothing in it can grow: input is delivered in two buffers that come back to
/// it only when they were sent, and they are not sent while the window is full.
pub(crate) struct Pipe {
    /// The reading thread. It starts when there is a connection: what no
    /// server will ever get is left to whoever reads the same input next.
    input: Option<Input>,
    /// Read and not sent.
    unsent: VecDeque<Piece>,
    /// Sent and not come back.
    owed: VecDeque<u8>,
    /// How many bytes came back, and were what they should be.
    checked: u64,
    /// The input has ended, and all of it was sent.
    ended: bool,
    patience: Patience,
    ending: Ending,
}

impl Pipe {
    pub(crate) fn new(timeout: Duration, ending: Ending) -> Self {
        Pipe {
            input: None,
            unsent: VecDeque::new(),
            owed: VecDeque::new(),
            checked: 0,
            ended: false,
            patience: Patience::new(timeout),
            ending,
        }
    }

    /// How many bytes at the beginning of `data` are those that are owed next.
    fn equal(&self, data: &[u8]) -> usize {
        let (front, back) = self.owed.as_slices();
        let (first, second) = data.split_at(data.len().min(front.len()));
        // Equality of slices, which is the rule, is far quicker than a search.
        if front.starts_with(first) && back.starts_with(second) {
            return data.len();
        }
        self.owed.iter().zip(data).take_while(|(sent, came)| sent == came).count()
    }

    fn progress(&self) -> String {
        format!("{} bytes of echo", self.checked)
    }
}

impl Protocol for Pipe {
    /// Starts the reading thread, which posts to this very stream.
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.ending.connected(io);
        let token = io.token();
        let handle = io.context().handle();
        self.input = Some(Input::start(move |piece| {
            handle.post(move |cx| {
                // Reached by its name, the stream is asked afterwards whether
                // it is `writable` now. It may be gone: then so is the piece.
                if let Some(stream) = cx.get_mut::<Stream<Pipe>>(token) {
                    stream.protocol_mut().unsent.push_back(piece);
                }
            })
        })?);
        Ok(())
    }

    fn writable(&self) -> bool {
        match self.unsent.front() {
            Some(Piece::Data(_)) => self.owed.len() < WINDOW,
            // Ends need no room.
            Some(Piece::End | Piece::Failed(_)) => true,
            None => false,
        }
    }

    /// Sends the next piece, or ends the sending side.
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        match self.unsent.pop_front() {
            Some(Piece::Data(buffer)) => {
                io.send(&buffer)?;
                log::debug!("sent {} bytes", buffer.len());
                if self.owed.is_empty() {
                    self.patience.begin(io);
                }
                self.owed.extend(&buffer);
                if let Some(input) = &self.input {
                    input.give_back(buffer);
                }
            }
            Some(Piece::End) => {
                log::debug!("the input has ended");
                self.ended = true;
                if self.owed.is_empty() {
                    self.ending.complete(io);
                } else {
                    io.shutdown()?;
                }
            }
            Some(Piece::Failed(error)) => return Err(Failure::Input(plain(&error)).into()),
            None => {}
        }
        Ok(())
    }

    /// Writes what came back, up to the first byte that is wrong.
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        log::debug!("received {} bytes", data.len());
        let equal = self.equal(data);
        output::write(&data[..equal])?;
        self.owed.drain(..equal);
        self.checked += equal as u64;

        if let Some(&came) = data.get(equal) {
            let sent = self.owed.front().copied();
            return Err(Failure::wrong(&io.peer_addr(), self.checked, sent, came).into());
        }
        self.patience.renew();
        if self.owed.is_empty() && self.ended {
            self.ending.complete(io);
        }
        Ok(())
    }

    /// The server will send nothing more, and it is not done: else we would
    /// have closed first.
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let server = io.peer_addr().to_string();
        Err(Failure::Closed { server, progress: self.progress() }.into())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _timer: TimerId) -> io::Result<()> {
        if self.patience.is_over(io, !self.owed.is_empty()) {
            let server = io.peer_addr().to_string();
            let (timeout, progress) = (self.patience.timeout, self.progress());
            return Err(Failure::Silent { server, timeout, progress }.into());
        }
        Ok(())
    }

    /// Nothing: `handle_close` follows with the same cause, and tells it once.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        self.ending.closed(io, reason, self.progress());
    }
}

/// Measures how long the server has owed an answer without a byte of it.
///
/// Not the stream's own idle timeout: that runs also when nothing is owed,
/// and what we send would start it anew, so that whoever types on would never
/// hear that the server does not listen.
struct Patience {
    timeout: Duration,
    since: Instant,
    /// One timer is set, and looks when it falls due whether it has become
    /// too early: cheaper than to move it with each read.
    is_set: bool,
}

impl Patience {
    fn new(timeout: Duration) -> Self {
        Patience { timeout, since: Instant::now(), is_set: false }
    }

    /// Something is owed from now on.
    fn begin(&mut self, io: &mut Io<'_>) {
        self.renew();
        if !self.is_set {
            io.set_timer(self.timeout);
            self.is_set = true;
        }
    }

    /// The server made progress.
    fn renew(&mut self) {
        self.since = Instant::now();
    }

    /// The timer fell due: whether something is owed, and was for too long.
    fn is_over(&mut self, io: &mut Io<'_>, is_owed: bool) -> bool {
        self.is_set = false;
        if !is_owed {
            return false;
        }
        let left = self.timeout.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            return true;
        }
        io.set_timer(left);
        self.is_set = true;
        false
    }
}
