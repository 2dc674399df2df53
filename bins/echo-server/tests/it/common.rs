//! A server to test, and peers for it.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// Longer than anything here takes, on however busy a machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The program under test.
pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_echo-server");

/// A server that runs; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Server {
    /// Starts it on a free port of 127.0.0.1.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::spawn(command().args(options).args(["--port", "0"]))
    }

    /// Runs `command` and waits for the `Listening` line.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let (child, stdout, stderr) = spawn(command);
        let mut server = Server { child, addr: ([0; 4], 0).into(), stdout, stderr };
        let line = server.stdout.next();
        let addr = line.as_deref().and_then(|line| line.strip_prefix("Listening on "));
        server.addr = match addr {
            Some(addr) => addr.parse().unwrap(),
            None => panic!("{line:?} in place of the Listening line; {:?}", server.stderr.rest()),
        };
        server
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
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

    /// Waits for it to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Waits for it to end by itself and returns its exit code.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> i32 {
        let status = self.wait();
        status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"))
    }

    /// Kills it, as with `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, as it should have in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's command, undisturbed by the environment of the tests.
pub(crate) fn command() -> Command {
    let mut command = Command::new(SERVER);
    command.env_remove("RUST_LOG");
    command
}

/// The server, started through a shell that runs `prelude` first.
pub(crate) fn through_shell(prelude: &str, redirection: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{prelude} exec \"$0\" \"$@\" {redirection}");
    command.args(["-c", &script, SERVER]).env_remove("RUST_LOG");
    command
}

/// Runs a command to its end: its exit code and what it wrote.
pub(crate) fn run(command: &mut Command) -> (i32, Vec<String>, Vec<String>) {
    let (mut child, mut stdout, mut stderr) = spawn(command);
    let status = wait(&mut child);
    (status.code().unwrap(), stdout.rest(), stderr.rest())
}

fn spawn(command: &mut Command) -> (Child, Lines, Lines) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = Lines::of(child.stdout.take().unwrap());
    let stderr = Lines::of(child.stderr.take().unwrap());
    (child, stdout, stderr)
}

fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    let begin = Instant::now();
    while begin.elapsed() < DEADLINE {
        status = child.try_wait().unwrap();
        if status.is_some() {
            break;
        }
        pause();
    }
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    status.expect("the process did not end")
}

/// What a process writes, line by line.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Lines(receiver)
    }

    /// The next line; `None` at the end.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<String> {
        match self.0.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line came"),
        }
    }

    /// The next line with `part` in it; those before are skipped.
    #[track_caller]
    pub(crate) fn next_with(&mut self, part: &str) -> String {
        let mut skipped = Vec::new();
        while let Some(line) = self.next() {
            if line.contains(part) {
                return line;
            }
            skipped.push(line);
        }
        panic!("no line with {part:?} among {skipped:#?}")
    }

    /// All lines up to the end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.next() {
            lines.push(line);
        }
        lines
    }
}

/// A peer of the server at `addr`, whose calls fail rather than hang.
pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let peer = TcpStream::connect_timeout(&addr, DEADLINE).unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.set_write_timeout(Some(DEADLINE)).unwrap();
    peer
}

/// One message there and back.
#[track_caller]
pub(crate) fn echo(mut peer: &TcpStream, message: &[u8]) {
    peer.write_all(message).expect("sending");
    expect(peer, message);
}

/// Receives exactly `message`.
#[track_caller]
pub(crate) fn expect(mut peer: &TcpStream, message: &[u8]) {
    let mut answer = vec![0; message.len()];
    peer.read_exact(&mut answer).expect("receiving");
    assert!(answer == message, "an answer other than what was sent");
}

/// Receives the end of the conversation and nothing before it.
#[track_caller]
pub(crate) fn expect_end(mut peer: &TcpStream) {
    assert_eq!(peer.read(&mut [0; 64]).expect("receiving the end"), 0);
}

/// Closes a connection by a reset.
pub(crate) fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// Bytes in which every position can be told from its neighbours.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Waits until `state` is as `wanted` says.
#[track_caller]
pub(crate) fn until<T: Debug>(mut state: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) {
    let begin = Instant::now();
    loop {
        let now = state();
        if wanted(&now) {
            return;
        }
        assert!(begin.elapsed() < DEADLINE, "still {now:?}");
        pause();
    }
}

/// Between two looks at a state that nothing reports.
fn pause() {
    thread::sleep(Duration::from_millis(2));
}
