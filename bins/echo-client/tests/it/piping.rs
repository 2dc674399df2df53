//! Standard input through the server to standard output.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use testing::{Process, expect, injected, pattern, reset};
#[cfg(target_os = "linux")]
use testing::{memory, until};

use crate::common::{
    CLIENT, Output, Server, client, echo_server, failure, stay, to_server, written,
};

/// What `--stdin` may take, in KiB: 1 MiB is under way at the most; the rest
/// is the program.
#[cfg(target_os = "linux")]
const MOST_MEMORY: u64 = 16 * 1024;

/// A file with `pieces` times `piece`, at its beginning.
fn file_of(piece: &[u8], pieces: usize) -> File {
    let mut file = tempfile::tempfile().unwrap();
    for _ in 0..pieces {
        file.write_all(piece).unwrap();
    }
    io::Seek::rewind(&mut file).unwrap();
    file
}

/// The client with `--stdin`, started with pipes on both sides.
#[track_caller]
fn piped(command: &mut Command) -> Process {
    Process::start(command.arg("--stdin").stdin(Stdio::piped()).stdout(Stdio::piped()))
}

/// Row 7 and the promise of `--help`: any size, in bounded memory.
#[test]
#[cfg(target_os = "linux")]
fn a_large_file_comes_back_in_little_memory() {
    /// Of 1 MiB but for a bit, so that no buffer's length divides it.
    const PIECE: usize = 1_048_573;
    const PIECES: usize = 101;

    let piece = pattern(PIECE);
    let server = echo_server();
    let mut command = client(server.addr);
    command.arg("--stdin").stdin(file_of(&piece, PIECES)).stdout(Stdio::piped());
    let mut process = Process::start(&mut command);
    let mut output = Output::of(process.stdout());

    let (mut count, mut peak) = (0, 0);
    while let Some(bytes) = output.next() {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let at = count % PIECE;
            let (some, others) = rest.split_at(rest.len().min(PIECE - at));
            assert!(piece[at..].starts_with(some), "wrong after {count} bytes");
            count += some.len();
            rest = others;
        }
        // The most so far; at the end the process is gone.
        peak = memory(process.id(), "VmHWM").unwrap_or(peak);
    }
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    assert_eq!(count, PIECES * PIECE);
    assert_eq!(server.outcome(), count as u64);
    eprintln!("{count} bytes came back, with {peak} KiB at the most");
    assert!((1..MOST_MEMORY).contains(&peak), "{peak} KiB");
}

/// The server takes everything and answers nothing: what it owes must be
/// known, and may not grow.
#[test]
#[cfg(target_os = "linux")]
fn an_endless_input_takes_little_memory() {
    let server = Server::start(|peer| stay(&peer));
    let mut command = client(server.addr);
    command.args(["--stdin", "--timeout", "1s"]).stdin(File::open("/dev/zero").unwrap());
    let process = Process::start(command.stdout(Stdio::null()));
    let mut peak = 0;
    until(
        || memory(process.id(), "VmHWM").inspect(|most| peak = *most),
        // The process is gone.
        Option::is_none,
    );
    assert!(one_line(process).contains("no reply for 1s"));
    server.outcome();
    eprintln!("{peak} KiB at the most");
    assert!((1..MOST_MEMORY).contains(&peak), "{peak} KiB");
}

/// The server sees the end of the input while the client still waits for the
/// rest of its echo.
#[test]
fn the_end_of_the_input_reaches_the_server_before_the_echo_is_back() {
    let input = pattern(1_000_000);
    let server = Server::start(|mut peer: TcpStream| {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        peer.write_all(&all).unwrap();
        all.len()
    });
    let (code, output, stderr) =
        written(client(server.addr).arg("--stdin").stdin(file_of(&input, 1)));
    assert_eq!((code, stderr), (0, vec![]));
    assert_eq!(server.outcome(), input.len());
    assert!(output == input, "{} bytes", output.len());
}

/// A person types, thinks, and types on.
#[test]
fn an_input_that_pauses_longer_than_the_timeout_is_no_error() {
    let server = echo_server();
    let mut process = piped(client(server.addr).args(["--timeout", "1s"]));
    let (mut input, mut output) = (process.stdin(), Output::of(process.stdout()));
    for word in [&b"first\n"[..], b"second\n", b"third"] {
        input.write_all(word).unwrap();
        output.expect(word);
        // Not for an outcome: this is what is done to the client.
        thread::sleep(Duration::from_millis(1500));
    }
    drop(input);
    assert_eq!(output.next(), None);
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    assert_eq!(server.outcome(), 18);
}

/// While nobody takes what the client writes it fetches nothing; that is not
/// the server's silence.
#[test]
fn a_reader_slower_than_the_timeout_is_no_error() {
    let input = pattern(3_000_000);
    let server = echo_server();
    let mut command = client(server.addr);
    command.args(["--stdin", "--timeout", "1s"]).stdin(file_of(&input, 1));
    let mut process = Process::start(command.stdout(Stdio::piped()));
    let stdout = process.stdout();
    // Not for an outcome: this is what is done to the client.
    thread::sleep(Duration::from_millis(2500));
    let output = Output::of(stdout).rest();
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    assert!(output == input, "{} bytes", output.len());
    server.outcome();
}

/// Row 5.
#[test]
fn interrupted_calls_lose_nothing() {
    let input = pattern(3_000_000);
    let calls = "recvfrom,sendto,sendmsg";
    let name = format!("strace-EINTR-{}", std::process::id());
    let record = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let Some(command) = injected(CLIENT, calls, "error=EINTR:when=1+3", &record) else { return };
    let server = echo_server();
    let mut command = to_server(command, server.addr);
    let (code, output, stderr) = written(command.arg("--stdin").stdin(file_of(&input, 1)));
    assert_eq!((code, stderr), (0, vec![]));
    assert!(output == input, "{} bytes", output.len());
    let count = std::fs::read_to_string(&record).unwrap().matches("(INJECTED)").count();
    std::fs::remove_file(record).unwrap();
    eprintln!("{count} calls were interrupted");
    assert!(count > 10, "{count}");
}

// --- a server that is no echo server -----------------------------------------

/// Whether it takes what it is sent or not, and though the input goes on.
#[test]
fn a_silent_server_is_given_up() {
    for takes in [true, false] {
        let (client_gone, gone) = mpsc::channel::<()>();
        let server = Server::start(move |peer: TcpStream| {
            if takes {
                stay(&peer);
            }
            let _ = gone.recv();
        });
        let mut command = client(server.addr);
        let command = command.args(["--stdin", "--timeout", "500ms"]);
        let line = failure(command.stdin(File::open("/dev/zero").unwrap()), &[]);
        drop(client_gone);
        let what = format!("{}: no reply for 500ms after 0 bytes of echo; ", server.addr);
        assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
        server.outcome();
    }
}

/// Sends five bytes, gets them back, and sees the server then do as `end`
/// says: the server's address, and the line that tells of it. It comes though
/// the input is open still, and brings nothing.
#[track_caller]
fn broken_off_by(end: fn(TcpStream)) -> (SocketAddr, String) {
    let server = Server::start(move |mut peer: TcpStream| {
        expect(&peer, b"hello");
        peer.write_all(b"hello").unwrap();
        end(peer);
    });
    let mut process = piped(&mut client(server.addr));
    let (mut input, mut output) = (process.stdin(), Output::of(process.stdout()));
    input.write_all(b"hello").unwrap();
    output.expect(b"hello");
    assert_eq!(output.next(), None);
    let line = one_line(process);
    server.outcome();
    drop(input);
    (server.addr, line)
}

/// The process ends with exit code 1 and this line.
#[track_caller]
fn one_line(mut process: Process) -> String {
    let (code, mut stderr) = (process.exit_code(), process.stderr.rest());
    assert_eq!((code, stderr.len()), (1, 1), "{stderr:#?}");
    stderr.remove(0)
}

#[test]
fn a_server_that_closes_too_early_is_told() {
    let ends_its_side = |peer: TcpStream| {
        peer.shutdown(Shutdown::Write).unwrap();
        stay(&peer);
    };
    for end in [drop, ends_its_side] {
        let (addr, line) = broken_off_by(end);
        let what = format!("echo-client: {addr}: closed the connection after 5 bytes of echo; ");
        assert!(line.starts_with(&what), "{line}");
    }
}

#[test]
fn a_server_that_resets_the_connection_is_told() {
    let (addr, line) = broken_off_by(reset);
    let what = format!("echo-client: {addr}: connection lost after 5 bytes of echo: ");
    assert!(line.starts_with(&format!("{what}Connection reset by peer; ")), "{line}");
}

/// Row 8: the client writes on to a peer that is gone.
#[test]
fn a_server_that_goes_while_the_input_goes_on_is_told() {
    let server = Server::start(|peer: TcpStream| {
        let _ = io::copy(&mut (&peer).take(1_000_000), &mut &peer);
    });
    let mut command = client(server.addr);
    let mut process = Process::start(
        command.arg("--stdin").stdin(File::open("/dev/zero").unwrap()).stdout(Stdio::piped()),
    );
    let output = Output::of(process.stdout()).rest();
    let line = one_line(process);
    let count = format!(" after {} bytes of echo", output.len());
    assert!(line.contains(&server.addr.to_string()) && line.contains(&count), "{line}");
    assert!(output.iter().all(|&byte| byte == 0));
    server.outcome();
}

#[test]
fn a_byte_that_comes_back_as_another_is_told_and_not_written() {
    let server = Server::start(|mut peer: TcpStream| {
        expect(&peer, b"hello");
        peer.write_all(b"help!").unwrap();
        stay(&peer);
    });
    let mut process = piped(&mut client(server.addr));
    let (mut input, mut output) = (process.stdin(), Output::of(process.stdout()));
    input.write_all(b"hello").unwrap();
    assert_eq!(output.rest(), b"hel");
    let line = one_line(process);
    let what = format!("{}: reply differs from the data sent: at offset 3, ", server.addr);
    assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
    server.outcome();
}

/// A server of another protocol, one that greets.
#[test]
fn a_server_that_speaks_first_is_told() {
    let server = Server::start(|mut peer: TcpStream| {
        peer.write_all(b"220 hello\r\n").unwrap();
        stay(&peer);
    });
    let mut process = piped(&mut client(server.addr));
    let (input, mut output) = (process.stdin(), Output::of(process.stdout()));
    assert_eq!(output.next(), None);
    let line = one_line(process);
    let what = format!("{}: received more than the 0 bytes sent; ", server.addr);
    assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
    server.outcome();
    drop(input);
}
