//! A server to test, and peers for it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::process::{Command, Stdio};

use testing::{DEADLINE, Lines, Process, expect, patient};

/// The program under test.
pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_echo-server");

/// A server that runs; killed when dropped.
pub(crate) struct Server {
    process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) stdout: Lines,
}

impl Server {
    /// Starts it on a free port of 127.0.0.1.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::spawn(command().args(options).args(["--port", "0"]))
    }

    /// Runs `command` and waits for the `Listening` line.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let mut stdout = Lines::of(process.stdout());
        let line = stdout.next();
        let addr = match line.as_deref().and_then(|line| line.strip_prefix("Listening on ")) {
            Some(addr) => addr.parse().unwrap(),
            None => panic!("{line:?} in place of the Listening line; {:?}", process.stderr.rest()),
        };
        Server { process, addr, stdout }
    }

    /// A peer of this server.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.addr)
    }

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }
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

/// The server's command.
pub(crate) fn command() -> Command {
    testing::command(SERVER)
}

/// The server, started through a shell that runs `prelude` first.
pub(crate) fn through_shell(prelude: &str, redirection: &str) -> Command {
    testing::through_shell(SERVER, prelude, redirection)
}

/// A peer of the server at `addr`, whose calls fail rather than hang.
pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    patient(TcpStream::connect_timeout(&addr, DEADLINE).unwrap())
}

/// One message there and back.
#[track_caller]
pub(crate) fn echo(mut peer: &TcpStream, message: &[u8]) {
    peer.write_all(message).expect("sending");
    expect(peer, message);
}
