//! Follows a pipe (a FIFO given by its path, or standard input) and prints each
//! line with its number until the last writer closes it.
//!
//! ```text
//! (echo one; sleep 1; echo two) | cargo run --package reactor --example follow_pipe
//! mkfifo lines && cargo run --package reactor --example follow_pipe lines
//! ```
//!
//! A pipe is a stream like a socket, so `Chat` splits it into lines in the same
//! way.

#[cfg(unix)]
mod unix {
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
        /// The result for `main`, which waits for the end.
        failed: Sender<String>,
    }

    impl ChatProtocol for Lines {
        fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            self.number += 1;
            // Unchanged, as a line need not be UTF-8.
            let line = [format!("{}: ", self.number).as_bytes(), chat.collected(), b"\n"].concat();
            chat.take_collected();
            // Not `println!`, which panics if standard output is closed.
            io::stdout().write_all(&line)
        }

        fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            chat.close_when_done();
            // A last line without a newline is a line too.
            if chat.partial_len() > 0 { self.found_terminator(chat) } else { Ok(()) }
        }

        fn handle_close(&mut self, _chat: &mut ChatIo<'_>, reason: &CloseReason) {
            if let Cause::Error(error) = &reason.cause {
                // Cannot fail, as `main` still holds the receiver.
                let _ = self.failed.send(error.to_string());
            }
        }
    }

    pub(super) fn main() -> anyhow::Result<()> {
        let mut args = env::args().skip(1);
        let input: OwnedFd = match (args.next(), args.next()) {
            // Opened again, as it is set to non-blocking mode. Standard output may
            // be the same terminal, and must stay in blocking mode.
            (None, None) if io::stdin().is_terminal() => File::open("/dev/tty")?.into(),
            (None, None) => io::stdin().as_fd().try_clone_to_owned()?,
            // Waits for the first writer, before the loop runs.
            (Some(path), None) => {
                File::open(&path).map_err(|error| anyhow!("{path}: {error}"))?.into()
            }
            _ => bail!("usage: follow_pipe [PATH]"),
        };
        let (failed, failure) = mpsc::channel();
        let mut reactor = Reactor::new()?;
        reactor
            .add(FileDispatcher::from_fd(input, Chat::new("\n", Lines { number: 0, failed }))?)?;
        // While the pipe is registered it is in non-blocking mode, also for other
        // processes. Restore the mode on Ctrl-C too.
        reactor.add(Signals::new(&[SIGINT, SIGTERM], |cx, _| cx.stop())?)?;
        reactor.run()?;
        match failure.try_recv() {
            Ok(failure) => bail!(failure),
            Err(_) => Ok(()),
        }
    }
}

#[cfg(unix)]
fn main() -> anyhow::Result<()> {
    unix::main()
}

#[cfg(not(unix))]
fn main() -> anyhow::Result<()> {
    anyhow::bail!("only Unix systems poll pipes")
}
