//! The server: a protocol, a listener that speaks it, and two signals.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Once;

use anyhow::{Context as _, anyhow, bail};
use reactor::signal::{SIGINT, SIGTERM, Signals};
use reactor::{Address, Handle, Io, Limits, Listener, Protocol, Reactor};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::options::Options;
use crate::processor::Processor;
use crate::workers::Workers;

/// One conversation. The reactor does the rest: a peer that sends faster than
/// it reads is slowed down, one that ends its side gets what it is still owed,
/// and one that breaks off costs nobody else anything.
struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

/// Serves until a signal asks for the end.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    const NO_DESCRIPTORS: &str = "raise the limit on open files (ulimit -n)";
    let mut reactor = Reactor::builder()
        .busy_poll(options.busy_poll)
        .build()
        .map_err(|error| anyhow!("cannot start: {}; {NO_DESCRIPTORS}", plain(&error)))?;

    raise_limit(options);

    let addrs = resolve(&options.host, options.port)?;
    let shares = shares(options)?;
    let listener = listen(&addrs, shares[0].connections, options).map_err(|error| {
        // The reactor's message begins with the address.
        anyhow!("cannot listen on {}; {}", plain(&error), hint(&error))
    })?;
    let addr = listener.local_addr().clone();
    reactor.add(listener)?;
    let workers = Workers::start(&mut reactor, &shares[1..], &addr, options)?;
    shares[0].pin()?;

    // Before the `Listening` line: whoever has read that may send a signal.
    let signals_seen = Rc::new(Cell::new(0));
    let signals = on_signals(Rc::clone(&signals_seen), workers.handles(), options)
        .map_err(|error| anyhow!("cannot catch signals: {}; {NO_DESCRIPTORS}", plain(&error)))?;
    reactor.add(signals)?;

    print_line(format_args!("Listening on {addr}"));
    log::info!("listening on {addr}");

    // Returns when the last channel has closed, or at the second signal.
    reactor.run().context("cannot wait for events")?;
    workers.join()?;
    match signals_seen.get() {
        // Nobody asked for it: the log says what the listening socket met.
        0 => bail!("stopped listening on {addr}: the socket failed; start the server again"),
        1 => Ok(()),
        _ => bail!("a second signal: peers were cut off; send one only to let them finish"),
    }
}

/// Takes as many descriptors as the system grants: each peer needs one, and the
/// limit that a shell sets by default, 1,024 mostly, is for programs that wait
/// by select(2).
fn raise_limit(options: &Options) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("cannot raise the limit on open files: {error}");
    }
    let Some(files) = getrlimit(Resource::Nofile).current else { return };
    log::info!("the limit on open files is {files}: so many peers at the most, less a few");
    if options.max_connections.is_some_and(|most| most.get() as u64 >= files) {
        log::warn!(
            "--max-connections is beyond the limit on open files, which is {files}: \
             peers beyond that wait (ulimit -Hn)"
        );
    }
}

/// The first signal drains, the second one stops, whatever is left.
fn on_signals(seen: Rc<Cell<u32>>, workers: Vec<Handle>, options: &Options) -> io::Result<Signals> {
    let drain_timeout = options.drain_timeout;
    Signals::new([SIGINT, SIGTERM], move |cx, _signal| {
        seen.set(seen.get() + 1);
        let first = seen.get() == 1;
        if first {
            cx.drain(drain_timeout);
        } else {
            cx.stop();
        }
        for worker in &workers {
            // One that is gone already needs neither.
            let _ = if first { worker.drain(drain_timeout) } else { worker.stop() };
        }
    })
}

/// What one thread is to serve, and where.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    /// How many connections it may have open.
    pub(crate) connections: usize,
    processor: Option<Processor>,
}

impl Share {
    /// Pins the calling thread, if it is to be.
    pub(crate) fn pin(&self) -> anyhow::Result<()> {
        let Some(processor) = self.processor else { return Ok(()) };
        processor.pin().map_err(|error| cannot_pin(&error))?;
        log::info!("a thread is pinned to {processor:?}");
        Ok(())
    }
}

fn cannot_pin(error: &io::Error) -> anyhow::Error {
    anyhow!("cannot pin threads: {}; leave out --pin", plain(error))
}

/// A share for each thread. Of --max-connections, none is left without any.
fn shares(options: &Options) -> anyhow::Result<Vec<Share>> {
    let most = options.max_connections.map_or(usize::MAX, NonZeroUsize::get);
    let threads = options.threads.get().min(most);
    let processors = if options.pin {
        Processor::allowed().map_err(|error| cannot_pin(&error))?
    } else {
        Vec::new()
    };
    let share = |thread| Share {
        connections: most / threads + usize::from(thread < most % threads),
        processor: processors.get(thread % processors.len().max(1)).copied(),
    };
    Ok((0..threads).map(share).collect())
}

/// Binds one of `addrs`, for at most `most` connections at a time. Nobody is
/// accepted before the listener is in a reactor, and that runs.
pub(crate) fn listen(addrs: &[SocketAddr], most: usize, options: &Options) -> io::Result<Listener> {
    let quiet = options.quiet;
    let greet = move |peer: &Address| {
        if !quiet {
            print_line(format_args!("Incoming connection from {peer}"));
        }
        Ok(Echo)
    };
    // A port that others may share is one that another server can steal from.
    let listener = match options.threads.get() {
        1 => Listener::bind(addrs, greet),
        _ => Listener::bind_reuse_port(addrs, greet),
    }?;

    Ok(listener
        .with_limits(Limits {
            idle_timeout: options.idle_timeout,
            stall_timeout: Some(options.stall_timeout),
            ..Limits::default()
        })
        .with_max_connections(most))
}

/// Looks the host up here and not in `Listener::bind`, so that an unknown name
/// can be told from an address that cannot be had.
fn resolve(host: &str, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
    let addrs = (host, port).to_socket_addrs().map_err(|error| {
        anyhow!(
            "cannot find the host {host:?}: {}; check the name, \
             or give an address with --host, such as 127.0.0.1",
            plain(&error)
        )
    })?;
    Ok(addrs.collect())
}

/// What to do where an address cannot be had.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "stop the other server, or choose another port with --port (0 takes a free one)"
        }
        ErrorKind::AddrNotAvailable => {
            "it is not an address of this machine: choose one that is with --host \
             (0.0.0.0 or :: takes all)"
        }
        ErrorKind::PermissionDenied => {
            "low ports are for privileged users: choose one from 1024 on with --port \
             (0 takes a free one)"
        }
        _ => {
            "choose another address with --host or port with --port, \
             or raise the limit that was met (ulimit -a)"
        }
    }
}

/// The error in words, without its number.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// Prints a line. Not `println!`, which panics once nobody reads it any more:
/// that is no reason to stop serving.
fn print_line(line: impl Display) {
    static FIRST_FAILURE: Once = Once::new();
    // A standard output that is line-buffered writes it out at once.
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        FIRST_FAILURE.call_once(|| log::debug!("cannot write to standard output: {error}"));
    }
}
