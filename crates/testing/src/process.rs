//! Driving a program.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use crate::{DEADLINE, skipped, until};

/// A program's command, undisturbed by the environment of the tests.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG");
    command
}

/// A program, started through a shell that runs `prelude` first.
pub fn through_shell(program: &str, prelude: &str, redirection: &str) -> Command {
    let mut command = command("sh");
    let script = format!("{prelude} exec \"$0\" \"$@\" {redirection}");
    command.args(["-c", &script, program]);
    command
}

/// A program of which system calls fail as `fault` says; `None`, said visibly,
/// where that cannot be had. What was done to it stands in the file `record`.
pub fn injected(program: &str, calls: &str, fault: &str, record: &Path) -> Option<Command> {
    let probe = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skipped("no strace here, or it may not trace");
        return None;
    }
    // -D: the program itself is our child, and takes strace with it.
    let mut command = command("strace");
    command
        .args(["-D", "-f", "-q", "-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject={calls}:{fault}")])
        .arg("-o")
        .arg(record)
        .arg(program);
    Some(command)
}

/// A Python that has asyncore, as the last one had that is 3.11; `None`, said
/// visibly, where there is none.
pub fn python_with_asyncore() -> Option<Command> {
    // Its module's warning that it will go is no news to us. Unbuffered, so
    // that what it prints can be waited for.
    const OPTIONS: [&str; 3] = ["-W", "ignore", "-u"];
    for name in ["python3.11", "python3"] {
        let probe = Command::new(name).args(OPTIONS).args(["-c", "import asyncore"]).output();
        if probe.is_ok_and(|output| output.status.success()) {
            let mut python = Command::new(name);
            python.args(OPTIONS);
            return Some(python);
        }
    }
    skipped("no Python with asyncore here (3.11 is the last that has it)");
    None
}

/// Runs a command to its end: its exit code and what it wrote.
#[track_caller]
pub fn run(command: &mut Command) -> (i32, Vec<String>, Vec<String>) {
    let mut process = Process::start(command.stdout(Stdio::piped()));
    let mut stdout = Lines::of(process.stdout());
    (process.exit_code(), stdout.rest(), process.stderr.rest())
}

/// A process that runs; killed when dropped.
pub struct Process {
    child: Child,
    /// What it writes to standard error.
    pub stderr: Lines,
}

impl Process {
    /// Starts it. Its standard input and output are as `command` says.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = Lines::of(child.stderr.take().unwrap());
        Process { child, stderr }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, if that is a pipe. To be taken once.
    #[track_caller]
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Its standard output, if that is a pipe. To be taken once.
    #[track_caller]
    pub fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// Waits for it to end by itself and returns its exit code.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        let mut end = None;
        until(
            || {
                end = self.child.try_wait().unwrap();
                end
            },
            Option::is_some,
        );
        let status = end.unwrap();
        status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"))
    }

    /// Kills it, as with `kill -9`.
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, as it should have in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process writes, line by line.
pub struct Lines(Receiver<String>);

impl Lines {
    /// Reads `source`, on a thread of its own.
    pub fn of(source: impl Read + Send + 'static) -> Self {
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

    /// The next line with `part` in it; those before are skipped.
    #[track_caller]
    pub fn next_with(&mut self, part: &str) -> String {
        let mut skipped = Vec::new();
        while let Some(line) = self.receive() {
            if line.contains(part) {
                return line;
            }
            skipped.push(line);
        }
        panic!("no line with {part:?} among {skipped:#?}")
    }

    /// All lines up to the end.
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
            Err(RecvTimeoutError::Timeout) => panic!("no line came"),
        }
    }
}

/// Fails where a line is long in coming; `None` is the end.
impl Iterator for Lines {
    type Item = String;

    #[track_caller]
    fn next(&mut self) -> Option<String> {
        self.receive()
    }
}

/// The memory of a process, in KiB: `VmRSS` is what it holds now, `VmHWM` the
/// most that it ever held. `None` where the process has ended, and where
/// there is no Linux to tell.
pub fn memory(id: u32, what: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}
