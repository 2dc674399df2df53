//! [`Workers`]: the server on further threads, a reactor each.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, anyhow};
use reactor::{Address, Handle, Io, Protocol, Reactor, Stream};

use crate::options::Options;
use crate::server::{Share, listen, plain};

/// Threads that serve the same address. What they have in common is only that:
/// the kernel distributes the connections, and a handle tells each the end.
pub(crate) struct Workers(Vec<Worker>);

struct Worker {
    handle: Handle,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Workers {
    /// Starts a worker for each of `shares`, on `addr`. `main` runs for as long
    /// as any of them does.
    pub(crate) fn start(
        main: &mut Reactor,
        shares: &[Share],
        addr: &Address,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let addr = addr.as_inet().context("only TCP can be served on several threads")?;
        let workers = shares.iter().map(|&share| {
            let (ours, theirs) = UnixStream::pair().map_err(cannot_start)?;
            let worker = Worker::start(theirs, addr, share, options)?;
            main.add(Stream::new(ours, UntilClosed)?)?;
            Ok(worker)
        });
        workers.collect::<anyhow::Result<_>>().map(Workers)
    }

    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.0.iter().map(|worker| worker.handle.clone()).collect()
    }

    /// Waits for all of them, which the end of the main reactor says will not
    /// be long.
    pub(crate) fn join(self) -> anyhow::Result<()> {
        for worker in self.0 {
            worker.thread.join().map_err(|_| anyhow!("a thread panicked; see the log"))??;
        }
        Ok(())
    }
}

impl Worker {
    /// Returns once it listens. It holds `alive` open for as long as it runs.
    fn start(
        alive: UnixStream,
        addr: SocketAddr,
        share: Share,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let (ready, is_ready) = mpsc::channel();
        let options = options.clone();
        let thread = thread::Builder::new().name("worker".to_owned()).spawn(move || {
            share.pin()?;
            let mut reactor =
                Reactor::builder().busy_poll(options.busy_poll).build().map_err(cannot_start)?;
            let listener = listen(&[addr], share.connections, &options).map_err(cannot_start)?;
            reactor.add(listener)?;
            // Nobody waits for it only where the program is ending.
            let _ = ready.send(reactor.handle());
            let outcome = reactor.run().context("cannot wait for events");
            drop(alive);
            outcome
        });
        let thread = thread.map_err(cannot_start)?;
        match is_ready.recv() {
            Ok(handle) => Ok(Worker { handle, thread }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => Err(anyhow!("a thread ended before it listened; see the log")),
            },
        }
    }
}

/// The address can be had, or the main thread would not have it: what a further
/// thread lacks is something that each of them takes.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
fn cannot_start(error: io::Error) -> anyhow::Error {
    anyhow!(
        "cannot start a thread: {}; \
         ask for fewer --threads, or raise the limit on open files (ulimit -n)",
        plain(&error)
    )
}

/// Keeps the main reactor running until the other end closes.
struct UntilClosed;

impl Protocol for UntilClosed {
    fn handle_read(&mut self, _io: &mut Io<'_>, _data: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
