//! The run of a script on this thread: where it runs, what it shares between its two
//! programs, and what they noted.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use reactor::{Context, Handle, Listener, ReactorClosed, Token};

use crate::log::Log;
use crate::peer::{On, Peer};

/// Where a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Loopback,
    World,
}

/// What the streams of a script run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

/// What a script asks of the one who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Sends the server's process a signal.
    Signal(i32),
}

struct Run {
    place: Place,
    number: u16,
    transport: Transport,
    log: Log,
    /// How many have each name.
    names: BTreeMap<&'static str, u32>,
    programs: BTreeMap<&'static str, Handle>,
    /// The streams by their names.
    streams: BTreeMap<String, (Handle, Token)>,
    /// Those that are to be cued once they exist.
    early_cues: BTreeSet<String>,
    listener: Option<Token>,
    shared: Option<SocketAddr>,
    requests: Vec<Request>,
    has_ended: bool,
}

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
    /// Whose callback is running.
    static SPEAKER: RefCell<String> = const { RefCell::new(String::new()) };
    static AWAITED_INPUT: Cell<Option<u64>> = const { Cell::new(None) };
}

fn with<R>(f: impl FnOnce(&mut Run) -> R) -> R {
    RUN.with_borrow_mut(|run| f(run.as_mut().expect("a script runs")))
}

/// Starts a run of the script with this number.
pub(crate) fn start(place: Place, number: u16, transport: Transport) {
    RUN.set(Some(Run {
        place,
        number,
        transport,
        log: Log::default(),
        names: BTreeMap::new(),
        programs: BTreeMap::new(),
        streams: BTreeMap::new(),
        early_cues: BTreeSet::new(),
        listener: None,
        shared: None,
        requests: Vec::new(),
        has_ended: false,
    }));
}

/// Ends the run: what happens while its programs are dropped is not noted.
pub(crate) fn end() {
    with(|run| run.has_ended = true);
}

// --- for those who run scripts ------------------------------------------------

pub(crate) fn log() -> Log {
    with(|run| run.log.clone())
}

pub(crate) fn add_program(name: &'static str, handle: Handle) {
    with(|run| run.programs.insert(name, handle));
}

pub(crate) fn take_requests() -> Vec<Request> {
    with(|run| std::mem::take(&mut run.requests))
}

// --- for peers ----------------------------------------------------------------

pub(crate) fn transport() -> Transport {
    with(|run| run.transport)
}

/// Returns `name`, with a number if it is not the first one.
pub(crate) fn number_name(name: &'static str) -> String {
    with(|run| {
        let count = run.names.entry(name).or_default();
        *count += 1;
        if *count == 1 { name.to_owned() } else { format!("{name} {count}") }
    })
}

pub(crate) fn add_stream(name: &str, handle: Handle, token: Token) {
    with(|run| run.streams.insert(name.to_owned(), (handle, token)));
    if with(|run| run.early_cues.remove(name)) {
        cue(name);
    }
}

pub(crate) fn note_read(name: &str, data: &[u8]) {
    with(|run| {
        if !run.has_ended {
            run.log.add_read(name, data);
        }
    });
}

/// Calls `f` as `name`, for [`note`].
pub(crate) fn speak_as<R>(name: &str, f: impl FnOnce() -> R) -> R {
    struct Restore(String);
    impl Drop for Restore {
        fn drop(&mut self) {
            SPEAKER.set(std::mem::take(&mut self.0));
        }
    }
    let _restore = Restore(SPEAKER.replace(name.to_owned()));
    f()
}

pub(crate) fn take_awaited_input() -> Option<u64> {
    AWAITED_INPUT.take()
}

/// Notes a line for `name`. Nothing is noted once the run has ended.
pub(crate) fn note_as(name: &str, line: impl Into<String>) {
    RUN.with_borrow_mut(|run| {
        if let Some(run) = run.as_mut().filter(|run| !run.has_ended) {
            let line = line.into().replace(&*path_of(run.number).to_string_lossy(), "PATH");
            run.log.add(name, line);
        }
    });
}

// --- for scripts --------------------------------------------------------------

/// Notes a line for the peer whose callback is running.
pub(crate) fn note(line: impl Into<String>) {
    let name = SPEAKER.with_borrow(Clone::clone);
    note_as(if name.is_empty() { "setup" } else { &name }, line);
}

/// Notes the result of a call.
pub(crate) fn note_result<T>(call: &str, result: io::Result<T>) {
    match result {
        Ok(_) => note(format!("{call}: ok")),
        // The text has the number of queued bytes, which depends on the kernel's buffers.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            note(format!("{call}: would block"));
        }
        Err(error) => note(format!("{call}: {error}")),
    }
}

/// Returns the script's address: one of its own, as all of 127.0.0.0/8 is this host.
pub(crate) fn addr() -> SocketAddr {
    let [script, group] = with(|run| run.number).to_le_bytes();
    let [low, high, ..] = process::id().to_le_bytes();
    SocketAddr::from(([127, 1 + high % 64 + 64 * group.min(2), low, script], 2007))
}

/// Returns the address of this host at which nobody listens.
pub(crate) fn dead_addr() -> SocketAddr {
    SocketAddr::new(addr().ip(), 1)
}

/// Returns the script's path, at which a Unix socket may be bound.
pub(crate) fn path() -> PathBuf {
    with(|run| path_of(run.number))
}

fn path_of(number: u16) -> PathBuf {
    std::env::temp_dir().join(format!("conformance-{}-{number}", process::id()))
}

pub(crate) fn is_real() -> bool {
    with(|run| run.place == Place::Loopback)
}

/// Returns a time that passes while nothing else happens: short on loopback, where it takes
/// real time, and longer in a world than all that happens there.
pub(crate) fn moment() -> Duration {
    if is_real() { Duration::from_millis(20) } else { Duration::from_secs(100) }
}

/// Runs `job` in the loop of a program, if it has not ended.
pub(crate) fn post(program: &str, job: impl FnOnce(&mut Context) + Send + 'static) {
    let _ = try_post(program, job);
}

/// Runs `job` in the loop of a program.
pub(crate) fn try_post(
    program: &str,
    job: impl FnOnce(&mut Context) + Send + 'static,
) -> Result<(), ReactorClosed> {
    with(|run| run.programs[program].clone()).post(job)
}

/// Calls the reaction of a stream with [`On::Cue`], from a job of its program, once it is
/// connected.
pub(crate) fn cue(stream: &str) {
    let Some((handle, token)) = with(|run| run.streams.get(stream).cloned()) else {
        with(|run| run.early_cues.insert(stream.to_owned()));
        return;
    };
    let job = move |cx: &mut Context| {
        cx.with_stream(token, |peer: &mut Peer, io| peer.react(On::Cue, "cue", io));
    };
    // A program that has ended needs no cues.
    let _ = handle.post(job);
}

pub(crate) fn set_listener(token: Token) {
    with(|run| run.listener = Some(token));
}

/// Calls `f` with the listener of the server, from a job.
pub(crate) fn with_listener(f: impl FnOnce(&mut Context, Token) + Send + 'static) {
    if let Some(token) = with(|run| run.listener) {
        post("server", move |cx| f(cx, token));
    }
}

/// Lets a paused listener accept.
pub(crate) fn resume_listener() {
    with_listener(|cx, token| {
        if let Some(listener) = cx.get_mut::<Listener>(token) {
            listener.resume();
        }
    });
}

/// Calls the reaction of this stream with [`On::Unread`], once the kernel holds `count`
/// bytes of input that the stream has not read.
pub(crate) fn await_input(count: u64) {
    AWAITED_INPUT.set(Some(count));
}

/// Sends a signal to the server, soon.
pub(crate) fn signal_server(signal: i32) {
    with(|run| run.requests.push(Request::Signal(signal)));
}

/// Shares an address that the system has selected.
pub(crate) fn share(addr: SocketAddr) {
    with(|run| run.shared = Some(addr));
}

/// Returns the address that was shared.
pub(crate) fn shared() -> SocketAddr {
    with(|run| run.shared).expect("an address is shared")
}
