//! Standard input, output and error of all kinds, also closed: rows 32 and 33.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use testing::{DEADLINE, Process, expect, expect_reset, pattern, run, through_shell, wait_until};

use crate::common::{
    CLIENT, Refusing, Server, WIRE, client, echo_server, failure, run_bytes, ten_lines, to_server,
    wait_for_close,
};

/// Creates a command for a shell with `redirection` that becomes the client.
fn redirected(redirection: &str, server: &Server<u64>) -> Command {
    to_server(through_shell(CLIENT, "", redirection), server.addr)
}

/// Starts a server that echoes the first data, and then waits until the client
/// closes.
fn echo_once() -> Server<()> {
    Server::start(|mut peer: TcpStream| {
        let mut buffer = [0; 64];
        let read = peer.read(&mut buffer).unwrap();
        peer.write_all(&buffer[..read]).unwrap();
        wait_for_close(&peer);
    })
}

#[test]
fn messages_are_sent_with_any_stdin() {
    for redirection in ["<&-", "</dev/null", "</dev/zero", "<Cargo.toml", "<."] {
        let server = echo_server();
        assert_eq!(
            run(&mut redirected(redirection, &server)),
            (0, ten_lines(), vec![]),
            "{redirection}"
        );
        server.join();
    }
}

#[test]
fn closed_or_empty_stdin_sends_nothing() {
    for redirection in ["<&-", "</dev/null"] {
        let server = echo_server();
        let outcome = run(redirected(redirection, &server).arg("--stdin"));
        assert_eq!(outcome, (0, vec![], vec![]), "{redirection}");
        assert_eq!(server.join(), 0, "{redirection}");
    }
}

#[test]
fn file_as_stdin_is_echoed() {
    let server = echo_server();
    let input = fs::read("Cargo.toml").unwrap();
    let outcome = run_bytes(redirected("<Cargo.toml", &server).arg("--stdin"));
    assert_eq!(server.join(), input.len() as u64);
    assert_eq!(outcome, (0, input, vec![]));
}

#[test]
fn unreadable_stdin_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::on(listener, |peer| expect_reset(&peer));
    let line = failure(client(server.addr).arg("--stdin").stdin(File::open(".").unwrap()), &[]);
    let what = "echo-client: cannot read standard input: Is a directory; ";
    assert!(line.starts_with(what), "{line}");
    // The server can tell that this is not all of the input.
    server.join();
}

/// std opens `/dev/null` in its place, so all writes succeed.
#[test]
fn closed_stdout_exits_with_0() {
    for mode in [&[][..], &["--stdin"]] {
        let server = echo_server();
        let outcome = run(redirected("<Cargo.toml >&-", &server).args(mode));
        assert_eq!(outcome, (0, vec![], vec![]), "{mode:?}");
        server.join();
    }
}

#[test]
fn stdout_without_reader_exits_with_0() {
    for mode in [&[][..], &["--stdin"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let server = echo_once();
        let mut command = client(server.addr);
        command.args(mode).stdin(File::open("Cargo.toml").unwrap()).stdout(writer);
        let mut process = Process::start(&mut command);
        assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]), "{mode:?}");
        server.join();
    }
}

/// As with `| head -1`.
#[test]
fn stdout_closed_early_exits_with_0() {
    let (reply_tx, reply_rx) = mpsc::channel();
    let server = Server::start(move |mut peer: TcpStream| {
        expect(&peer, WIRE);
        for reply in reply_rx {
            peer.write_all(reply).unwrap();
        }
        wait_for_close(&peer);
    });
    let (mut reader, writer) = io::pipe().unwrap();
    let mut process = Process::start(client(server.addr).stdout(writer));
    reply_tx.send(&b"1"[..]).unwrap();
    let mut line = [0; 2];
    reader.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"1\n");
    drop(reader);
    reply_tx.send(b"2345678910").unwrap();
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    drop(reply_tx);
    server.join();
}

#[test]
#[cfg(target_os = "linux")]
fn full_stdout_device_is_reported() {
    for mode in [&[][..], &["--stdin"]] {
        let server = echo_once();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = client(server.addr);
        command.args(mode).stdin(File::open("Cargo.toml").unwrap()).stdout(full);
        let mut process = Process::start(&mut command);
        let (code, stderr) = (process.exit_code(), process.stderr.rest());
        assert_eq!((code, stderr.len()), (1, 1), "{mode:?} {stderr:#?}");
        let what = "echo-client: cannot write standard output: No space left on device; ";
        assert!(stderr[0].starts_with(what), "{mode:?} {stderr:#?}");
        server.join();
    }
}

#[test]
fn closed_stderr_exits_with_1() {
    let refusing = Refusing::new();
    let outcome = run(&mut to_server(through_shell(CLIENT, "", "2>&-"), refusing.addr));
    assert_eq!(outcome, (1, vec![], vec![]));
}

/// Standard input and output may be shared with a parent that uses them in
/// non-blocking mode. No data arrives at first, and later the output is full.
#[test]
fn nonblocking_streams_work_and_stay_nonblocking() {
    let data = pattern(700_000);
    for (input, output) in [(true, false), (false, true), (true, true)] {
        let server = echo_server();
        let (mut feed, stdin) = UnixStream::pair().unwrap();
        let (stdout, mut drain) = UnixStream::pair().unwrap();
        stdin.set_nonblocking(input).unwrap();
        stdout.set_nonblocking(output).unwrap();
        let parents = [stdin.try_clone().unwrap(), stdout.try_clone().unwrap()];
        let mut command = client(server.addr);
        command.arg("--stdin").stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout));
        let mut process = Process::start(&mut command);
        drop(command);

        feed.write_all(&data[..1000]).unwrap();
        let mut received = vec![0; data.len()];
        drain.set_read_timeout(Some(DEADLINE)).unwrap();
        drain.read_exact(&mut received[..1000]).unwrap();
        // Until the client has sent what it does not yet write.
        let sent = data[1000..].to_vec();
        let feeder = thread::spawn(move || feed.write_all(&sent).unwrap());
        wait_until(|| unread_bytes(&drain), |unread| *unread > 50_000);
        drain.read_exact(&mut received[1000..]).unwrap();
        feeder.join().unwrap();

        assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
        assert!(received == data, "wrong data");
        assert_eq!(server.join(), data.len() as u64);
        let modes = parents.map(|parents| is_nonblocking(&parents));
        assert_eq!(modes, [input, output], "unchanged modes");
    }
}

/// Each stream is a duplicate of one socket, as under inetd.
#[test]
fn one_nonblocking_socket_serves_as_all_streams() {
    let server = echo_server();
    let (mut parent, child) = UnixStream::pair().unwrap();
    child.set_nonblocking(true).unwrap();
    let stream = || OwnedFd::from(child.try_clone().unwrap());
    let mut command = client(server.addr);
    command.args(["--stdin", "-vvv"]).stdin(stream()).stdout(stream()).stderr(stream());
    let mut process = command.spawn().unwrap();
    drop((command, child));
    parent.set_read_timeout(Some(DEADLINE)).unwrap();
    // By then, the client mostly has found nothing to read.
    let mut output = String::new();
    while !output.contains("connected to") {
        let mut buffer = [0; 4096];
        let read = parent.read(&mut buffer).unwrap();
        output.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    parent.write_all(b"needle").unwrap();
    parent.shutdown(Shutdown::Write).unwrap();
    parent.read_to_string(&mut output).unwrap();
    assert!(output.contains("needle"), "{output}");
    assert_eq!(process.wait().unwrap().code(), Some(0), "{output}");
    server.join();
}

fn unread_bytes(socket: &UnixStream) -> u64 {
    rustix::io::ioctl_fionread(socket).unwrap()
}

fn is_nonblocking(socket: &UnixStream) -> bool {
    rustix::fs::fcntl_getfl(socket).unwrap().contains(rustix::fs::OFlags::NONBLOCK)
}
