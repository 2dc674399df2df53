//! Running a program.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use crate::{DEADLINE, report_skip, wait_until};

/// Creates a command for a program, without the log settings of the test's
/// environment.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG");
    command
}

/// Creates a command for a shell that runs `prelude` and then becomes the
/// program.
pub fn through_shell(program: &str, prelude: &str, redirection: &str) -> Command {
    let mut command = command("sh");
    let script = format!("{prelude} exec \"$0\" \"$@\" {redirection}");
    command.args(["-c", &script, program]);
    command
}

/// Creates a command for a program whose system calls `calls` fail as strace's
/// `fault` describes. strace writes its log to `record`.
///
/// Returns `None`, and reports the skip, if strace is not available.
pub fn with_fault(program: &str, calls: &str, fault: &str, record: &Path) -> Option<Command> {
    let probe = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        report_skip("strace is not available or not permitted");
        return None;
    }
    // 32-bit Linux has calls of their own for connected sockets. With `?` strace ignores
    // a name that the system lacks.
    let calls = calls.replace("sendto", "sendto,?send").replace("recvfrom", "recvfrom,?recv");
    // -D: the program is our child process, and strace ends with it.
    let mut command = command("strace");
    command
        .args(["-D", "-f", "-q", "-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject={calls}:{fault}")])
        .arg("-o")
        .arg(record)
        .arg(program);
    Some(command)
}

/// Returns `true` if a program runs with `option`. Otherwise reports that a test is
/// skipped.
pub fn is_installed(program: &str, option: &str) -> bool {
    let probe = Command::new(program).arg(option).output();
    let is_installed = probe.is_ok_and(|output| output.status.success());
    if !is_installed {
        report_skip(format_args!("{program} is not installed"));
    }
    is_installed
}

/// Creates a command for a Python that has asyncore, which 3.12 removed.
///
/// Returns `None`, and reports the skip, if there is none.
pub fn python_with_asyncore() -> Option<Command> {
    // Without the module's deprecation warning. Unbuffered, so that a test can
    // wait for its output.
    const OPTIONS: [&str; 3] = ["-W", "ignore", "-u"];
    for name in ["python3.11", "python3"] {
        let probe = Command::new(name).args(OPTIONS).args(["-c", "import asyncore"]).output();
        if probe.is_ok_and(|output| output.status.success()) {
            let mut python = Command::new(name);
            python.args(OPTIONS);
            return Some(python);
        }
    }
    report_skip("no Python with asyncore is available (3.11 is the last to include it)");
    None
}

/// Runs a command to its end, and returns its exit code, standard output and
/// standard error.
#[track_caller]
pub fn run(command: &mut Command) -> (i32, Vec<String>, Vec<String>) {
    let mut process = Process::start(command.stdout(Stdio::piped()));
    let mut stdout = Lines::from_reader(process.take_stdout());
    (process.exit_code(), stdout.rest(), process.stderr.rest())
}

/// A running process. It is killed when dropped.
pub struct Process {
    child: Child,
    /// Its standard error.
    pub stderr: Lines,
}

impl Process {
    /// Starts `command`, which determines standard input and output.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = Lines::from_reader(child.stderr.take().unwrap());
        Process { child, stderr }
    }

    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Takes its standard input.
    ///
    /// # Panics
    ///
    /// Panics if it is not a pipe, or was taken.
    #[track_caller]
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Takes its standard output.
    ///
    /// # Panics
    ///
    /// Panics if it is not a pipe, or was taken.
    #[track_caller]
    pub fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// Waits for it to exit, and returns its exit code.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        let mut status = None;
        wait_until(
            || {
                status = self.child.try_wait().unwrap();
                status
            },
            Option::is_some,
        );
        let status = status.unwrap();
        status.code().unwrap_or_else(|| panic!("terminated by a signal: {status}"))
    }

    /// Returns `true` if it has exited.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Returns `true` if it has at least `count` threads, or if the system is
    /// not Linux.
    pub fn has_threads(&self, count: usize) -> bool {
        match fs::read_dir(format!("/proc/{}/task", self.id())) {
            Ok(tasks) => tasks.count() >= count,
            Err(_) => !cfg!(target_os = "linux"),
        }
    }

    /// Kills it, as `kill -9` does.
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has exited, as in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that a process writes.
pub struct Lines(Receiver<String>);

impl Lines {
    /// Creates the lines of `source`, which is read on a separate thread.
    pub fn from_reader(source: impl Read + Send + 'static) -> Self {
        let (line_tx, line_rx) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                if line_tx.send(line).is_err() {
                    break;
                }
            }
        });
        Lines(line_rx)
    }

    /// Skips lines until one contains `part`, and returns it.
    #[track_caller]
    pub fn next_with(&mut self, part: &str) -> String {
        let mut skipped = Vec::new();
        while let Some(line) = self.receive() {
            if line.contains(part) {
                return line;
            }
            skipped.push(line);
        }
        panic!("no line contains {part:?}: {skipped:#?}")
    }

    /// Returns all lines until the end.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.receive() {
            lines.push(line);
        }
        lines
    }

    #[track_caller]
    fn receive(&mut self) -> Option<String> {
        match self.0.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {DEADLINE:?}"),
        }
    }
}

/// `next` returns `None` at the end, and panics if no line arrives in time.
impl Iterator for Lines {
    type Item = String;

    #[track_caller]
    fn next(&mut self) -> Option<String> {
        self.receive()
    }
}

/// Returns a field of `/proc/PID/status` that is in KiB, such as `VmRSS` for
/// the memory in use or `VmHWM` for its maximum.
///
/// Returns `None` if the process has exited or the system is not Linux.
pub fn status_kib(id: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}
