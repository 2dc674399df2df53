//! TLS, with clients that exist: openssl, curl, Python, `HAProxy`.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use test_certificates::{Authority, Validity};
use testing::{Lines, Process, is_installed, run};

use crate::common::{Server, command, echo};
use crate::proxies::Haproxy;

/// A server with a certificate of an authority of its own.
struct TlsServer {
    authority: Authority,
    server: Server,
}

impl TlsServer {
    fn start(options: &[&str]) -> Self {
        let authority = Authority::new();
        let files = authority.issue("server");
        let mut command = command();
        command.arg("--tls-cert").arg(files.cert).arg("--tls-key").arg(files.key);
        let server = Server::spawn(command.args(options).args(["--port", "0"]));
        TlsServer { authority, server }
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// Ends the server, and returns what it has logged.
    fn log(mut self) -> Vec<String> {
        self.server.signal("TERM");
        assert_eq!(self.server.exit_code(), 0);
        self.server.stderr.rest()
    }
}

/// A connection of `openssl s_client`, which ends when its input ends.
struct OpensslClient {
    process: Process,
    input: Option<ChildStdin>,
    output: Lines,
}

impl OpensslClient {
    fn start(addr: SocketAddr, ca: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-quiet", "-no_ign_eof", "-verify_return_error"])
            .args(["-verify_hostname", "localhost", "-servername", "localhost"])
            .args(["-connect", &addr.to_string(), "-CAfile"])
            .arg(ca)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let input = Some(process.take_stdin());
        let output = Lines::from_reader(process.take_stdout());
        OpensslClient { process, input, output }
    }

    #[track_caller]
    fn echo(&mut self, line: &str) {
        writeln!(self.input.as_ref().unwrap(), "{line}").unwrap();
        assert_eq!(self.output.next().as_deref(), Some(line));
    }

    /// Ends its input, and so the connection. Returns its exit code.
    fn end(mut self) -> i32 {
        self.input = None;
        self.process.exit_code()
    }
}

#[test]
fn openssl_uses_both_versions() {
    if !is_installed("openssl", "version") {
        return;
    }
    let mut tls = TlsServer::start(&["-vv"]);
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = OpensslClient::start(tls.addr(), &tls.authority.ca(), &[version]);
        client.echo("hello");
        client.echo("over TLS");
        assert_eq!(client.end(), 0);
        // It has sent close_notify.
        tls.server.stderr.next_with(": closed by the peer");
    }
    assert!(tls.server.stdout.next().unwrap().starts_with("Incoming connection from 127.0.0.1:"));
}

#[test]
fn curl_receives_its_request() {
    if !is_installed("curl", "--version") {
        return;
    }
    let tls = TlsServer::start(&[]);
    // A request that is a response, too, when it comes back.
    let (code, stdout, stderr) = run(Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(tls.authority.ca())
        .args(["--request", "HTTP/1.1 200", "--data", "hello"])
        .arg(format!("https://localhost:{}/", tls.addr().port()))
        .args(["--resolve", &format!("localhost:{}:127.0.0.1", tls.addr().port())]));
    assert_eq!((code, stdout), (0, vec!["hello".to_owned()]), "{stderr:?}");
}

/// Sends 100 MB, reads slowly at first, and compares the SHA-256.
const PYTHON_CLIENT: &str = r#"
import hashlib, random, select, socket, ssl, sys

port, ca, version = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
plain = socket.create_connection(("127.0.0.1", port), 20)
peer = context.wrap_socket(plain, server_hostname="localhost")
assert peer.version() == version.replace("_", "."), peer.version()
peer.setblocking(False)
block = random.randbytes(1 << 20)
total, sent, received = 100_000_000, 0, 0
sent_sum, received_sum = hashlib.sha256(), hashlib.sha256()
reads = False
while received < total:
    readable, writable, _ = select.select([peer] if reads or sent == total else [],
                                          [peer] if sent < total else [], [], 1)
    # It reads only once the server does not read any more.
    reads = reads or not writable
    if writable:
        start = sent % len(block)
        data = block[start:start + min(50_000, total - sent)]
        try:
            count = peer.send(data)
            sent_sum.update(data[:count])
            sent += count
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
    if reads:
        try:
            data = peer.recv(1000 if received < 1_000_000 else 1 << 20)
            if not data:
                sys.exit(f"ended after {received} bytes")
            received_sum.update(data)
            received += len(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
assert sent_sum.digest() == received_sum.digest()
peer.settimeout(20)
# Sends close_notify, and fails unless the server answers it.
peer.unwrap()
print(sent_sum.hexdigest())
"#;

#[test]
fn python_receives_100_mb_with_equal_sum() {
    if !is_installed("python3", "--version") {
        return;
    }
    let tls = TlsServer::start(&[]);
    for version in ["TLSv1_2", "TLSv1_3"] {
        let (code, stdout, stderr) = run(Command::new("python3")
            .args(["-c", PYTHON_CLIENT, &tls.addr().port().to_string()])
            .arg(tls.authority.ca())
            .arg(version));
        assert_eq!(code, 0, "{version}: {stderr:#?}");
        assert_eq!(stdout.len(), 1);
    }
    assert_eq!(tls.log(), [""; 0], "no warnings");
}

#[test]
fn haproxy_connects_with_tls_and_names_the_client() {
    let authority = Authority::new();
    let ca = authority.ca();
    let files = authority.issue("server");
    let mut command = command();
    command.arg("--tls-cert").arg(files.cert).arg("--tls-key").arg(files.key);
    let mut server = Server::spawn(command.args(["--port", "0", "--proxy-protocol"]));
    let ssl =
        format!("ssl verify required ca-file {} verifyhost localhost send-proxy-v2", ca.display());
    let Some(haproxy) = Haproxy::start(server.addr, &ssl) else { return };
    let peer = haproxy.connect();
    echo(&peer, b"hello through HAProxy and TLS");
    server.stdout.next_with(&format!("Incoming connection from {}", peer.local_addr().unwrap()));
}

#[test]
fn sighup_loads_the_files_again() {
    if !is_installed("openssl", "version") {
        return;
    }
    let mut tls = TlsServer::start(&["-v"]);
    let mut open = OpensslClient::start(tls.addr(), &tls.authority.ca(), &[]);
    open.echo("before");
    // A certificate of another authority takes its place.
    let other = Authority::new();
    let files = other.issue("server");
    fs::copy(&files.cert, tls.authority.path("server.pem")).unwrap();
    fs::copy(&files.key, tls.authority.path("server.key")).unwrap();
    tls.server.signal("HUP");
    tls.server.stderr.next_with("loaded the certificate again");
    open.echo("a connection that was open continues");
    OpensslClient::start(tls.addr(), &other.ca(), &[]).echo("with the new certificate");
    let rejected = OpensslClient::start(tls.addr(), &tls.authority.ca(), &[]);
    assert_eq!(rejected.end(), 1, "it trusts the previous one");
    // A file that cannot be used changes nothing.
    fs::write(tls.authority.path("server.key"), "").unwrap();
    tls.server.signal("HUP");
    let line = tls.server.stderr.next_with("the previous certificate stays in use: ");
    assert!(line.ends_with("server.key: the file is empty"), "{line}");
    OpensslClient::start(tls.addr(), &other.ca(), &[]).echo("still served");
}

#[test]
fn client_without_certificate_is_rejected_if_one_is_required() {
    if !is_installed("openssl", "version") {
        return;
    }
    let clients = Authority::new();
    let ca = clients.ca();
    let mut tls = TlsServer::start(&["--tls-client-ca", ca.to_str().unwrap()]);
    let good = clients.issue("client");
    let (cert, key) = (good.cert.to_str().unwrap(), good.key.to_str().unwrap());
    let options = ["-cert", cert, "-key", key];
    OpensslClient::start(tls.addr(), &tls.authority.ca(), &options).echo("with a certificate");
    let mut rejected = OpensslClient::start(tls.addr(), &tls.authority.ca(), &[]);
    assert_eq!(rejected.output.next(), None);
    tls.server.stderr.next_with(": the peer presented no certificate");
    let wrong = tls.authority.issue("client");
    let (cert, key) = (wrong.cert.to_str().unwrap(), wrong.key.to_str().unwrap());
    let options = ["-cert", cert, "-key", key];
    let mut rejected = OpensslClient::start(tls.addr(), &tls.authority.ca(), &options);
    assert_eq!(rejected.output.next(), None);
    tls.server.stderr.next_with(": the peer's certificate is signed by an unknown issuer");
}

#[test]
fn plain_http_and_truncation_are_named_in_the_log() {
    let mut tls = TlsServer::start(&["-vv"]);
    let mut peer = tls.server.connect();
    let addr = peer.local_addr().unwrap();
    peer.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    tls.server.stderr.next_with(&format!("{addr}: not TLS: the peer sent plain HTTP"));
    if !is_installed("openssl", "version") {
        return;
    }
    let mut client = OpensslClient::start(tls.addr(), &tls.authority.ca(), &[]);
    client.echo("cut off");
    // It cannot send close_notify.
    client.process.kill();
    tls.server.stderr.next_with(": truncated: the connection ended unexpectedly");
}

/// Each of them is one line, with the path and a remedy.
#[test]
fn unusable_files_end_the_server() {
    let authority = Authority::new();
    let (good, other) = (authority.issue("good"), authority.issue("other"));
    let expired = authority.issue_for("expired", &["localhost"], Validity::Expired);
    let (missing, empty) = (authority.path("missing.pem"), authority.write("empty.pem", ""));
    let pem = |path: &Path| fs::read_to_string(path).unwrap();
    let chain = authority.write("chain.pem", pem(&other.cert) + &pem(&good.cert));
    let encrypted = authority.write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    for (cert, key, file, problem) in [
        (&missing, &good.key, &missing, "cannot read the file: "),
        (&empty, &good.key, &empty, "the file is empty"),
        (&good.cert, &empty, &empty, "the file is empty"),
        (&chain, &good.key, &chain, "the certificates are in the wrong order; put "),
        (&good.cert, &encrypted, &encrypted, "the key is encrypted; decrypt it with: openssl "),
        (&good.cert, &other.key, &other.key, "the key does not belong to the certificate in "),
        (&good.key, &good.cert, &good.key, "contains a private key, but no certificate; "),
        (&expired.cert, &expired.key, &expired.cert, "the certificate expired on "),
    ] {
        let mut command = command();
        command.arg("--tls-cert").arg(cert).arg("--tls-key").arg(key).args(["--port", "0"]);
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!((code, stdout, stderr.len()), (1, vec![], 1), "{stderr:#?}");
        let expected = format!("echo-server: cannot use TLS: {}: {problem}", file.display());
        assert!(stderr[0].starts_with(&expected), "{} instead of {expected}", stderr[0]);
    }
}

#[cfg(target_os = "linux")] // memory in /proc
#[test]
#[ignore = "takes half a minute; run by scripts/faults.sh"]
fn ten_thousand_half_open_handshakes_are_bounded() {
    use std::io::Read;
    use std::time::Instant;

    use crate::common::open_descriptors;

    const COUNT: usize = 10_000;
    /// The start of a `ClientHello` of 512 bytes.
    const START: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    cli::limits::raise_open_files();
    let mut tls = TlsServer::start(&["--handshake-timeout", "20s"]);
    let id = tls.server.id();
    let mut healthy = OpensslClient::start(tls.addr(), &tls.authority.ca(), &[]);
    healthy.echo("before");
    let before = testing::status_kib(id, "VmRSS").unwrap();
    let started_at = Instant::now();
    // Each stops at another byte.
    let crowd: Vec<_> = (0..COUNT)
        .map(|number| {
            let mut peer = tls.server.connect();
            peer.write_all(&START[..number % START.len()]).unwrap();
            peer
        })
        .collect();
    testing::wait_until(|| open_descriptors(id), |&open| open > COUNT);
    let each = (testing::status_kib(id, "VmRSS").unwrap() - before) * 1024 / COUNT as u64;
    healthy.echo("among them");
    let mut other = OpensslClient::start(tls.addr(), &tls.authority.ca(), &[]);
    other.echo("a handshake among them");
    let took = started_at.elapsed();
    for mut peer in crowd {
        // An end, or a reset if the start of a message was not read.
        assert!(!matches!(peer.read(&mut [0; 64]), Ok(1..)), "nothing to read");
    }
    let closed = tls.server.stderr.by_ref().take(COUNT);
    assert_eq!(closed.filter(|line| line.ends_with("timed out: handshake timeout")).count(), COUNT);
    healthy.echo("after");
    eprintln!("{COUNT} half-open handshakes: {each} bytes each, others served after {took:?}");
    assert!(each < 8 * 1024, "{each} bytes");
}
