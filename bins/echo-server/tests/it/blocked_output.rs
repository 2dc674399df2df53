//! Standard output and the log, blocked or broken: the server continues, and
//! signals end it.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Instant;

use testing::{DEADLINE, Lines, Process, wait_until};

use crate::common::{Server, command, connect, echo, send_signal};

/// Fills a pipe, whose reader must not be read meanwhile.
fn fill(mut writer: &io::PipeWriter) {
    rustix::io::ioctl_fionbio(writer, true).unwrap();
    while writer.write(&[b'x'; 512]).is_ok() {}
    rustix::io::ioctl_fionbio(writer, false).unwrap();
}

/// Reads the `Listening` line, and nothing more.
fn listening_addr(reader: impl Read) -> SocketAddr {
    read_line(reader).strip_prefix("Listening on ").unwrap().parse().unwrap()
}

/// Reads a line without buffering more.
fn read_line(mut reader: impl Read) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

/// Ends the server, which must not wait long for output that nobody reads.
#[track_caller]
fn expect_prompt_end(server: &mut Process) {
    let started_at = Instant::now();
    send_signal(server.id(), "TERM");
    assert_eq!(server.exit_code(), 0);
    let took = started_at.elapsed();
    eprintln!("ended {took:?} after SIGTERM");
    assert!(took < DEADLINE / 2, "{took:?}");
}

/// The pipe holds 64 KiB, so the server cannot write all lines before they are
/// read. The lines that it wrote are whole, and it counts the others.
#[test]
fn unread_stdout_does_not_stop_server() {
    const PEERS: usize = 10_000;
    let (reader, writer) = io::pipe().unwrap();
    let mut server = Process::start(command().args(["--port", "0"]).stdout(writer));
    let addr = listening_addr(&reader);
    for _ in 0..PEERS {
        echo(&connect(addr), b"hello");
    }
    // Output resumes.
    let mut lines = Lines::from_reader(reader);
    let note = lines.next_with("lines dropped");
    let dropped: usize = note.rsplit(' ').next().unwrap().parse().unwrap();
    eprintln!("lines dropped {dropped} of {PEERS}");
    let last = connect(addr);
    echo(&last, b"and after");
    lines.next_with(&format!("Incoming connection from {}", last.local_addr().unwrap()));
    expect_prompt_end(&mut server);
}

#[test]
fn lines_of_unread_stdout_are_whole() {
    const PEERS: usize = 3_000;
    let (reader, writer) = io::pipe().unwrap();
    let mut server = Process::start(command().args(["--port", "0"]).stdout(writer));
    let addr = listening_addr(&reader);
    for _ in 0..PEERS {
        echo(&connect(addr), b"hello");
    }
    expect_prompt_end(&mut server);
    let mut text = String::new();
    (&reader).read_to_string(&mut text).unwrap();
    assert!(text.ends_with('\n'), "{:?}", text.lines().last());
    for line in text.lines() {
        let peer = line.strip_prefix("Incoming connection from 127.0.0.1:");
        assert!(peer.is_some_and(|port| port.parse::<u16>().is_ok()), "{line:?}");
    }
}

#[test]
fn unread_log_does_not_stop_server() {
    let (reader, writer) = io::pipe().unwrap();
    let mut command = command();
    // At this level, each connection is several lines.
    command.args(["--port", "0", "-vvv"]).stdout(Stdio::piped()).stderr(writer);
    let mut server = command.spawn().unwrap();
    let addr = listening_addr(server.stdout.take().unwrap());
    drop(command);
    // More lines than fit in the pipe.
    for _ in 0..3_000 {
        echo(&connect(addr), b"hello");
    }
    let started_at = Instant::now();
    send_signal(server.id(), "TERM");
    let ended = || server.try_wait().unwrap().map(|status| status.code());
    wait_until(ended, Option::is_some);
    assert_eq!(server.wait().unwrap().code(), Some(0));
    eprintln!("ended {:?} after SIGTERM", started_at.elapsed());
    drop(reader);
}

#[test]
fn output_that_was_full_before_the_start_does_not_stop_server() {
    let (reader, writer) = io::pipe().unwrap();
    fill(&writer);
    let mut server = Process::start(command().args(["--port", "0", "-v"]).stdout(writer));
    let line = server.stderr.next_with("listening on ");
    let addr = line.rsplit(' ').next().unwrap().parse().unwrap();
    echo(&connect(addr), b"hello");
    expect_prompt_end(&mut server);
    drop(reader);
}

#[test]
#[cfg(target_os = "linux")]
fn full_device_does_not_stop_server() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut server = Process::start(command().args(["--port", "0", "-vv"]).stdout(full()));
    server.stderr.next_with("cannot write standard output: No space left on device");
    send_signal(server.id(), "TERM");
    assert_eq!(server.exit_code(), 0);

    let mut command = command();
    command.args(["--port", "0", "-vvv"]).stdout(Stdio::piped()).stderr(full());
    let mut server = command.spawn().unwrap();
    let addr = listening_addr(server.stdout.take().unwrap());
    for _ in 0..20 {
        echo(&connect(addr), b"hello");
    }
    send_signal(server.id(), "TERM");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

/// As with Ctrl-S. Python has pseudoterminals, and std does not.
#[test]
#[cfg(target_os = "linux")]
fn stopped_terminal_does_not_stop_server() {
    const SCRIPT: &str = r#"
import os, pty, re, signal, socket, subprocess, sys, termios, time
master, slave = pty.openpty()
server = subprocess.Popen([sys.argv[1], "--port", "0", "-vvv"], stdin=slave, stdout=slave, stderr=slave)
text = b""
while not (found := re.search(rb"Listening on [^\n]*:(\d+)\r?\n", text)):
    text += os.read(master, 4096)
termios.tcflow(slave, termios.TCOOFF)
for _ in range(300):
    with socket.create_connection(("127.0.0.1", int(found.group(1))), 5) as peer:
        peer.sendall(b"hello")
        assert peer.recv(5) == b"hello"
server.terminate()
print("exit code", server.wait(10))
"#;
    if !testing::command("python3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        testing::report_skip("no python3 is available");
        return;
    }
    let mut python = testing::command("python3");
    let (code, stdout, stderr) = testing::run(python.args(["-c", SCRIPT, crate::common::SERVER]));
    assert_eq!((code, stdout), (0, vec!["exit code 0".to_owned()]), "{stderr:#?}");
}

/// The parent must find the descriptors as it left them, in any case.
#[test]
fn nonblocking_stdout_keeps_all_lines() {
    let (reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let parents = writer.try_clone().unwrap();
    let mut command = command();
    command.args(["--port", "0"]).stdout(OwnedFd::from(writer));
    let mut server = Process::start(&mut command);
    drop(command);
    let addr = listening_addr(&reader);
    let peers: Vec<_> = (0..2_000)
        .map(|_| {
            let peer = connect(addr);
            echo(&peer, b"hello");
            peer.local_addr().unwrap()
        })
        .collect();
    let mut lines = Lines::from_reader(reader);
    for peer in peers {
        assert_eq!(lines.next(), Some(format!("Incoming connection from {peer}")));
    }
    expect_prompt_end(&mut server);
    let error = (&parents).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "the mode is unchanged");
}

#[test]
fn server_runs_without_any_standard_stream() {
    let mut server =
        Server::spawn(crate::common::through_shell("", "0<&- 2>&-").args(["--port", "0", "-vvv"]));
    echo(&server.connect(), b"unseen");
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
}
