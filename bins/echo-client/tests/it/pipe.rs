//! `--stdin`: standard input through the server to standard output.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use testing::{Process, expect, pattern, reports_resets, reset, with_fault};
#[cfg(target_os = "linux")]
use testing::{status_kib, wait_until};

use crate::common::{
    CLIENT, Output, Server, client, echo_server, failure, run_bytes, to_server, wait_for_close,
};

/// Maximum memory with `--stdin`, in KiB: at most 1 MiB is in flight; the rest
/// is for the program.
#[cfg(target_os = "linux")]
const MAX_MEMORY: u64 = 16 * 1024;

/// Returns a file that contains `piece` `pieces` times.
fn file_with(piece: &[u8], pieces: usize) -> File {
    let mut file = tempfile::tempfile().unwrap();
    for _ in 0..pieces {
        file.write_all(piece).unwrap();
    }
    io::Seek::rewind(&mut file).unwrap();
    file
}

/// Starts the client with `--stdin`, and pipes for both streams.
#[track_caller]
fn start_piped(command: &mut Command) -> Process {
    Process::start(command.arg("--stdin").stdin(Stdio::piped()).stdout(Stdio::piped()))
}

/// Row 7 and the promise of `--help`: any size, in bounded memory.
#[test]
#[cfg(target_os = "linux")]
fn large_file_uses_bounded_memory() {
    /// A little less than 1 MiB, so that it is no multiple of a buffer.
    const PIECE: usize = 1_048_573;
    const PIECES: usize = 101;

    let piece = pattern(PIECE);
    let server = echo_server();
    let mut command = client(server.addr);
    command.arg("--stdin").stdin(file_with(&piece, PIECES)).stdout(Stdio::piped());
    let mut process = Process::start(&mut command);
    let mut output = Output::from_reader(process.take_stdout());

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
        // The maximum so far; not available after the process has exited.
        peak = status_kib(process.id(), "VmHWM").unwrap_or(peak);
    }
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    assert_eq!(count, PIECES * PIECE);
    assert_eq!(server.join(), count as u64);
    eprintln!("{count} bytes were echoed, with at most {peak} KiB");
    assert!((1..MAX_MEMORY).contains(&peak), "{peak} KiB");
}

/// The server reads everything and never replies. The data in flight is kept for
/// comparison, and must be bounded.
#[cfg(unix)] // device files
#[test]
#[cfg(target_os = "linux")]
fn endless_input_uses_bounded_memory() {
    let server = Server::start(|peer| wait_for_close(&peer));
    let mut command = client(server.addr);
    command.args(["--stdin", "--timeout", "1s"]).stdin(File::open("/dev/zero").unwrap());
    let process = Process::start(command.stdout(Stdio::null()));
    let mut peak = 0;
    wait_until(
        || status_kib(process.id(), "VmHWM").inspect(|current| peak = *current),
        // The process has exited.
        Option::is_none,
    );
    assert!(error_line(process).contains("no reply for 1s"));
    server.join();
    eprintln!("at most {peak} KiB");
    assert!((1..MAX_MEMORY).contains(&peak), "{peak} KiB");
}

/// The server replies only after the end of the input.
#[test]
fn end_of_input_reaches_server_before_last_echo() {
    let input = pattern(1_000_000);
    let server = Server::start(|mut peer: TcpStream| {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        peer.write_all(&all).unwrap();
        all.len()
    });
    let (code, output, stderr) =
        run_bytes(client(server.addr).arg("--stdin").stdin(file_with(&input, 1)));
    assert_eq!((code, stderr), (0, vec![]));
    assert_eq!(server.join(), input.len());
    assert!(output == input, "{} bytes", output.len());
}

/// As when a person types.
#[test]
fn pause_in_input_does_not_time_out() {
    let server = echo_server();
    let mut process = start_piped(client(server.addr).args(["--timeout", "1s"]));
    let (mut input, mut output) =
        (process.take_stdin(), Output::from_reader(process.take_stdout()));
    for word in [&b"first\n"[..], b"second\n", b"third"] {
        input.write_all(word).unwrap();
        output.expect(word);
        // Not to wait for a result: this is the fault.
        thread::sleep(Duration::from_millis(1500));
    }
    drop(input);
    assert_eq!(output.next(), None);
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    assert_eq!(server.join(), 18);
}

/// While its own output blocks, the client does not read from the server. This
/// must not count as a missing reply.
#[test]
fn slow_stdout_reader_does_not_time_out() {
    let input = pattern(3_000_000);
    let server = echo_server();
    let mut command = client(server.addr);
    command.args(["--stdin", "--timeout", "1s"]).stdin(file_with(&input, 1));
    let mut process = Process::start(command.stdout(Stdio::piped()));
    let stdout = process.take_stdout();
    // Not to wait for a result: this is the fault.
    thread::sleep(Duration::from_millis(2500));
    let output = Output::from_reader(stdout).rest();
    assert_eq!((process.exit_code(), process.stderr.rest()), (0, vec![]));
    assert!(output == input, "{} bytes", output.len());
    server.join();
}

/// Row 5.
#[cfg(unix)] // strace
#[test]
fn interrupted_io_loses_no_bytes() {
    let input = pattern(3_000_000);
    let calls = "recvfrom,sendto,sendmsg";
    let name = format!("strace-EINTR-{}", std::process::id());
    let record = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let Some(command) = with_fault(CLIENT, calls, "error=EINTR:when=1+3", &record) else { return };
    let server = echo_server();
    let mut command = to_server(command, server.addr);
    let (code, output, stderr) = run_bytes(command.arg("--stdin").stdin(file_with(&input, 1)));
    assert_eq!((code, stderr), (0, vec![]));
    assert!(output == input, "{} bytes", output.len());
    let count = std::fs::read_to_string(&record).unwrap().matches("(INJECTED)").count();
    std::fs::remove_file(record).unwrap();
    eprintln!("{count} calls were interrupted");
    assert!(count > 10, "{count}");
}

// --- servers that are not echo servers ---------------------------------------

/// With a server that reads and with one that does not, while input continues.
#[cfg(unix)] // device files
#[test]
fn silent_server_times_out() {
    for reads in [true, false] {
        let (exit_tx, exit_rx) = mpsc::channel::<()>();
        let server = Server::start(move |peer: TcpStream| {
            if reads {
                wait_for_close(&peer);
            }
            let _ = exit_rx.recv();
        });
        let mut command = client(server.addr);
        let command = command.args(["--stdin", "--timeout", "500ms"]);
        let line = failure(command.stdin(File::open("/dev/zero").unwrap()), &[]);
        drop(exit_tx);
        let what = format!("{}: no reply for 500ms after 0 bytes of echo; ", server.addr);
        assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
        server.join();
    }
}

/// Runs the client with a server that echoes five bytes and then runs `end`.
/// Returns the server's address and the error line, which the client prints
/// although its input is still open.
#[track_caller]
fn error_after(end: fn(TcpStream)) -> (SocketAddr, String) {
    let server = Server::start(move |mut peer: TcpStream| {
        expect(&peer, b"hello");
        peer.write_all(b"hello").unwrap();
        end(peer);
    });
    let mut process = start_piped(&mut client(server.addr));
    let (mut input, mut output) =
        (process.take_stdin(), Output::from_reader(process.take_stdout()));
    input.write_all(b"hello").unwrap();
    output.expect(b"hello");
    assert_eq!(output.next(), None);
    let line = error_line(process);
    server.join();
    drop(input);
    (server.addr, line)
}

/// Waits for the process, which must fail with exit code 1, and returns the
/// error line.
#[track_caller]
fn error_line(mut process: Process) -> String {
    let (code, mut stderr) = (process.exit_code(), process.stderr.rest());
    assert_eq!((code, stderr.len()), (1, 1), "{stderr:#?}");
    stderr.remove(0)
}

#[test]
fn early_close_is_reported() {
    let half_close = |peer: TcpStream| {
        peer.shutdown(Shutdown::Write).unwrap();
        wait_for_close(&peer);
    };
    for end in [drop, half_close] {
        let (addr, line) = error_after(end);
        let what = format!("echo-client: {addr}: closed the connection after 5 bytes of echo; ");
        assert!(line.starts_with(&what), "{line}");
    }
}

#[test]
fn reset_is_reported() {
    if !reports_resets() {
        return;
    }
    let (addr, line) = error_after(reset);
    let what = format!("echo-client: {addr}: connection lost after 5 bytes of echo: ");
    assert!(line.starts_with(&format!("{what}Connection reset by peer; ")), "{line}");
}

/// Row 8: the client writes to a peer that has closed.
#[cfg(unix)] // device files
#[test]
fn close_during_input_is_reported() {
    let server = Server::start(|peer: TcpStream| {
        let _ = io::copy(&mut (&peer).take(1_000_000), &mut &peer);
    });
    let mut command = client(server.addr);
    let mut process = Process::start(
        command.arg("--stdin").stdin(File::open("/dev/zero").unwrap()).stdout(Stdio::piped()),
    );
    let output = Output::from_reader(process.take_stdout()).rest();
    let line = error_line(process);
    let count = format!(" after {} bytes of echo", output.len());
    assert!(line.contains(&server.addr.to_string()) && line.contains(&count), "{line}");
    assert!(output.iter().all(|&byte| byte == 0));
    server.join();
}

#[test]
fn wrong_byte_is_reported_and_not_written() {
    let server = Server::start(|mut peer: TcpStream| {
        expect(&peer, b"hello");
        peer.write_all(b"help!").unwrap();
        wait_for_close(&peer);
    });
    let mut process = start_piped(&mut client(server.addr));
    let (mut input, mut output) =
        (process.take_stdin(), Output::from_reader(process.take_stdout()));
    input.write_all(b"hello").unwrap();
    assert_eq!(output.rest(), b"hel");
    let line = error_line(process);
    let what = format!("{}: reply differs from the data sent: at offset 3, ", server.addr);
    assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
    server.join();
}

/// A server of another protocol that sends a greeting.
#[test]
fn unsolicited_data_is_reported() {
    let server = Server::start(|mut peer: TcpStream| {
        peer.write_all(b"220 hello\r\n").unwrap();
        wait_for_close(&peer);
    });
    let mut process = start_piped(&mut client(server.addr));
    let (input, mut output) = (process.take_stdin(), Output::from_reader(process.take_stdout()));
    assert_eq!(output.next(), None);
    let line = error_line(process);
    let what = format!("{}: received more than the 0 bytes sent; ", server.addr);
    assert!(line.starts_with(&format!("echo-client: {what}")), "{line}");
    server.join();
    drop(input);
}
