//! Follows a pipe, a FIFO by its path or else standard input, and prints each
//! line with its number until the last writer closes it.
//!
//! ```text
//! (echo one; sleep 1; echo two) | cargo run --package reactor --example follow_pipe
//! mkfifo lines && cargo run --package reactor --example follow_pipe lines
//! ```
//!
//! A pipe is a stream like any other: `Chat`, which splits one into lines, does
//! not know the difference.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Sender};

use anyhow::{anyhow, bail};
use reactor::signal::{SIGINT, SIGTERM, Signals};
use reactor::{Cause, Chat, ChatIo, ChatProtocol, CloseReason, FileDispatcher, Reactor};

struct Lines {
    number: u64,
    /// For `main`, which waits for the end: what went wrong, if anything did.
    failed: Sender<String>,
}

impl ChatProtocol for Lines {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.number += 1;
        // As it came: a line need not be text.
        let line = [format!("{}: ", self.number).as_bytes(), chat.collected(), b"\n"].concat();
        chat.take_collected();
        // Not `println!`, which panics where nobody reads it.
        io::stdout().write_all(&line)
    }

    fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        chat.close_when_done();
        // A last line without its end is a line all the same.
        if chat.partial_len() > 0 { self.found_terminator(chat) } else { Ok(()) }
    }

    fn handle_close(&mut self, _chat: &mut ChatIo<'_>, reason: &CloseReason) {
        if let Cause::Error(error) = &reason.cause {
            // `main` still has the other end.
            let _ = self.failed.send(error.to_string());
        }
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let input: OwnedFd = match (args.next(), args.next()) {
        // Opened anew: it will be in non-blocking mode, which standard output,
        // as the same terminal, must not be.
        (None, None) if io::stdin().is_terminal() => File::open("/dev/tty")?.into(),
        (None, None) => io::stdin().as_fd().try_clone_to_owned()?,
        // Waits for the first writer; nothing runs yet that this would hold up.
        (Some(path), None) => File::open(&path).map_err(|error| anyhow!("{path}: {error}"))?.into(),
        _ => bail!("usage: follow_pipe [PATH]"),
    };
    let (failed, failure) = mpsc::channel();
    let mut reactor = Reactor::new()?;
    reactor.add(FileDispatcher::from_fd(input, Chat::new("\n", Lines { number: 0, failed }))?)?;
    // The pipe is in non-blocking mode as long as it is watched, for whoever
    // else has it too; Ctrl-C must not leave it so.
    reactor.add(Signals::new([SIGINT, SIGTERM], |cx, _| cx.stop())?)?;
    reactor.run()?;
    match failure.try_recv() {
        Ok(failure) => bail!(failure),
        Err(_) => Ok(()),
    }
}
