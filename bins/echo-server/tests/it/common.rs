//! The server under test, and its peers.

#[cfg(target_os = "linux")]
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::process::{Command, Stdio};

use testing::{DEADLINE, Lines, Process, expect, with_timeouts};

/// The program under test.
pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_echo-server");

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) stdout: Lines,
}

impl Server {
    /// Starts a server on a free port of 127.0.0.1.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::spawn(command().args(options).args(["--port", "0"]))
    }

    /// Runs `command` and waits for the `Listening` line.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let mut stdout = Lines::from_reader(process.take_stdout());
        let line = stdout.next();
        let addr = match line.as_deref().and_then(|line| line.strip_prefix("Listening on ")) {
            Some(addr) => addr.parse().unwrap(),
            None => {
                panic!("expected the Listening line, not {line:?}; {:?}", process.stderr.rest())
            }
        };
        Server { process, addr, stdout }
    }

    /// Connects a peer.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.addr)
    }

    /// Sends the signal with this name, without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.id(), name);
    }
}

/// Sends the signal with this name, without `SIG`, to a process.
#[track_caller]
pub(crate) fn send_signal(id: u32, name: &str) {
    let kill = format!("kill -s {name} {id}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Creates the command for the server.
pub(crate) fn command() -> Command {
    testing::command(SERVER)
}

/// Creates a command for a shell that runs `prelude` and then becomes the
/// server.
pub(crate) fn through_shell(prelude: &str, redirection: &str) -> Command {
    testing::through_shell(SERVER, prelude, redirection)
}

/// Connects a peer to `addr`, whose calls fail instead of hanging.
pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    with_timeouts(TcpStream::connect_timeout(&addr, DEADLINE).unwrap())
}

/// Sends a message and receives its echo.
#[track_caller]
pub(crate) fn echo(mut peer: &TcpStream, message: &[u8]) {
    peer.write_all(message).expect("sending");
    expect(peer, message);
}

/// Returns the fields of `/proc/PID/stat` that follow the name: field 3, the
/// state, is the first.
#[cfg(target_os = "linux")]
pub(crate) fn stat_fields(id: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().map(str::to_owned).collect()
}

/// Returns the state of a process, such as `T` for stopped.
#[cfg(target_os = "linux")]
pub(crate) fn process_state(id: u32) -> String {
    stat_fields(id).swap_remove(0)
}

/// Returns the number of descriptors that a process has open.
#[cfg(target_os = "linux")]
pub(crate) fn open_descriptors(id: u32) -> usize {
    fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
}
