//! TLS, with servers that exist: `openssl s_server` and Python.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use test_certificates::{Authority, CertFiles, Validity};
use testing::{Lines, Process, is_installed, pattern, run};

use crate::common::{CLIENT, Server, client, echo, failure, ten_lines, to_host};

/// Creates the command for the client, for a server whose certificate is for `localhost`.
fn tls_client(addr: SocketAddr, ca: &Path) -> Command {
    let mut command = client(addr);
    command.args(["--tls", "--tls-name", "localhost", "--tls-ca"]).arg(ca);
    command
}

/// An echo server for one connection. It reads nothing until its peer does not send any
/// more, echoes until the peer has ended its output by `close_notify`, then ends its own.
const PYTHON_SERVER: &str = r#"
import hashlib, select, socket, ssl, sys

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.minimum_version = context.maximum_version = ssl.TLSVersion[sys.argv[3]]
listener = socket.create_server(("127.0.0.1", 0))
print("Listening on", "%s:%d" % listener.getsockname(), flush=True)
peer = context.wrap_socket(listener.accept()[0], server_side=True, suppress_ragged_eofs=False)
peer.setblocking(False)
queue, sum, ended = bytearray(), hashlib.sha256(), False
while queue or not ended:
    wants_read = not ended and len(queue) < 1 << 20
    if not (wants_read and peer.pending()):
        select.select([peer] if wants_read else [], [peer] if queue else [], [], 20)
    try:
        if wants_read:
            data = peer.recv(1 << 16)
            ended = not data
            sum.update(data)
            queue += data
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        pass
    try:
        if queue:
            del queue[:peer.send(queue[:30_000])]
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        pass
peer.settimeout(20)
peer.unwrap()
print(sum.hexdigest(), flush=True)
"#;

struct PythonServer {
    process: Process,
    output: Lines,
    addr: SocketAddr,
}

impl PythonServer {
    fn start(files: &CertFiles, version: &str) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON_SERVER]).arg(&files.cert).arg(&files.key).arg(version);
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let mut output = Lines::from_reader(process.take_stdout());
        let line = output.next().unwrap_or_else(|| panic!("{:#?}", process.stderr.rest()));
        let addr = line.strip_prefix("Listening on ").unwrap().parse().unwrap();
        PythonServer { process, output, addr }
    }
}

#[test]
fn python_echoes_messages_and_100_mb_up_to_a_half_close() {
    if !is_installed("python3", "--version") {
        return;
    }
    let authority = Authority::new();
    let files = authority.issue("server");
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("input"), directory.path().join("output"));
    let piece = pattern(1_000_000);
    let mut file = File::create(&input).unwrap();
    for _ in 0..100 {
        file.write_all(&piece).unwrap();
    }
    for version in ["TLSv1_2", "TLSv1_3"] {
        let server = PythonServer::start(&files, version);
        let result = run(&mut tls_client(server.addr, &authority.ca()));
        assert_eq!(result, (0, ten_lines(), vec![]), "{version}");

        let mut server = PythonServer::start(&files, version);
        let mut command = tls_client(server.addr, &authority.ca());
        command.arg("--stdin").stdin(File::open(&input).unwrap());
        let mut process = Process::start(command.stdout(File::create(&output).unwrap()));
        assert_eq!(process.exit_code(), 0, "{:#?}", process.stderr.rest());
        let sum = server.output.next();
        assert_eq!(server.process.exit_code(), 0, "{:#?}", server.process.stderr.rest());
        assert!(sum.is_some_and(|sum| sum.len() == 64));
        assert!(fs::read(&input).unwrap() == fs::read(&output).unwrap(), "{version}");
    }
}

/// `openssl s_server` writes what it receives, and sends what it reads.
#[test]
fn openssl_server_is_used() {
    if !is_installed("openssl", "version") {
        return;
    }
    let authority = Authority::new();
    let files = authority.issue("server");
    // Free for now; whoever takes it in between makes this test fail, not pass.
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command = Command::new("openssl");
        command
            .args(["s_server", "-quiet", "-naccept", "1", version])
            .args(["-accept", &addr.to_string(), "-cert"])
            .arg(&files.cert)
            .arg("-key")
            .arg(&files.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut server = Process::start(&mut command);
        let (mut from, mut to) = (server.take_stdout(), server.take_stdin());
        thread::spawn(move || io::copy(&mut from, &mut to));
        // It does not report that it listens.
        testing::wait_until(
            || {
                assert!(!server.has_exited(), "{:#?}", server.stderr.rest());
                TcpListener::bind(addr).is_err()
            },
            |&listens| listens,
        );
        let result = run(&mut tls_client(addr, &authority.ca()));
        assert_eq!(result, (0, ten_lines(), vec![]), "{version}");
    }
}

#[test]
fn certificate_that_is_not_trusted_is_explained() {
    if !is_installed("python3", "--version") {
        return;
    }
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.issue("server");
    let expired = authority.issue_for("expired", &["localhost"], Validity::Expired);
    for (files, ca, name, problem) in [
        (&good, other.ca(), "localhost", "the peer's certificate is signed by an unknown issuer"),
        (
            &good,
            authority.ca(),
            "example.org",
            "the peer's certificate is not for example.org, but for localhost, 127.0.0.1",
        ),
        (&expired, authority.ca(), "localhost", "the peer's certificate expired on 2002-02-02"),
    ] {
        let server = PythonServer::start(files, "TLSv1_3");
        let mut command = client(server.addr);
        command.args(["--tls", "--tls-name", name, "--tls-ca"]).arg(ca);
        let line = failure(&mut command, &[]);
        let expected = format!("echo-client: cannot connect to {}: {problem}", server.addr);
        assert!(line.starts_with(&expected), "{line}");
        let hint =
            "; check the server's certificate, --tls-ca and --tls-name, and that it serves TLS";
        assert!(line.ends_with(hint), "{line}");
    }
}

#[test]
fn host_is_the_name_in_the_certificate() {
    if !is_installed("python3", "--version") {
        return;
    }
    let authority = Authority::new();
    let files = authority.issue("server");
    for host in ["localhost", "127.0.0.1"] {
        let server = PythonServer::start(&files, "TLSv1_3");
        let mut command = to_host(testing::command(CLIENT), host, server.addr.port());
        let result = run(command.args(["-4", "--tls", "--tls-ca"]).arg(authority.ca()));
        assert_eq!(result, (0, ten_lines(), vec![]), "{host}");
    }
}

#[test]
fn server_without_tls_is_explained() {
    let authority = Authority::new();
    // It sends the start of the handshake back.
    let server = Server::start(|peer| echo(&peer, |_| {}));
    let line = failure(&mut tls_client(server.addr, &authority.ca()), &[]);
    assert!(line.ends_with("and that it serves TLS"), "{line}");
    // It greets.
    let server = Server::start(|mut peer| {
        peer.write_all(b"220 hello\r\n").unwrap();
        let _ = io::copy(&mut peer, &mut io::sink());
    });
    let line = failure(&mut tls_client(server.addr, &authority.ca()), &[]);
    assert!(line.contains(": not TLS: the peer sent another protocol, or plain text; "), "{line}");
    // It closes.
    let server = Server::start(|mut peer| {
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = io::copy(&mut peer, &mut io::sink());
    });
    let line = failure(&mut tls_client(server.addr, &authority.ca()), &[]);
    assert!(line.contains("during the TLS handshake; does the server serve TLS?"), "{line}");
    // It is silent.
    let server = Server::start(|mut peer| {
        let _ = io::copy(&mut peer, &mut io::sink());
    });
    let mut command = tls_client(server.addr, &authority.ca());
    let line = failure(command.args(["--timeout", "300ms"]), &[]);
    assert!(line.contains(": no TLS handshake within 300ms; does the server serve TLS?"), "{line}");
}

#[test]
fn unusable_options_are_explained() {
    let authority = Authority::new();
    let addr = "127.0.0.1:1".parse().unwrap();
    let missing = authority.path("missing.pem");
    let line = failure(&mut tls_client(addr, &missing), &[]);
    let expected = format!("echo-client: cannot use TLS: {}: cannot read ", missing.display());
    assert!(line.starts_with(&expected), "{line}");
    let mut command = client(addr);
    command.args(["--tls", "--tls-name", "not a name", "--tls-ca"]).arg(authority.ca());
    let line = failure(&mut command, &[]);
    assert!(line.ends_with("specify the one in the certificate with --tls-name"), "{line}");
    #[cfg(unix)] // Unix sockets
    {
        let mut command = testing::command(CLIENT);
        command.args(["-U", "/nonexistent", "--tls", "--tls-ca"]).arg(authority.ca());
        let line = failure(command.stdin(Stdio::null()), &[]);
        assert!(line.ends_with("the name in the server's certificate with --tls-name"), "{line}");
    }
}

/// The end of the connection is not that of the reply.
#[test]
fn truncated_reply_is_an_error() {
    if !is_installed("python3", "--version") {
        return;
    }
    let authority = Authority::new();
    let mut server = PythonServer::start(&authority.issue("server"), "TLSv1_3");
    let mut command = tls_client(server.addr, &authority.ca());
    command.arg("--stdin").stdin(Stdio::piped());
    let mut client = Process::start(command.stdout(Stdio::piped()));
    let mut output = Lines::from_reader(client.take_stdout());
    let mut input = client.take_stdin();
    input.write_all(b"hello\n").unwrap();
    assert_eq!(output.next().as_deref(), Some("hello"));
    server.process.kill();
    assert_eq!(client.exit_code(), 1);
    let line = client.stderr.next().unwrap();
    assert!(line.contains(": connection lost after "), "{line}");
    assert!(line.contains(": truncated: the connection ended unexpectedly; "), "{line}");
    drop(input);
}
