//! The example `starttls`, with Python's smtplib, and with an attacker.

use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use test_certificates::Authority;
use testing::{Lines, Process, command, expect, report_skip, run, with_timeouts};

/// A running example, its output, and where it listens.
struct Example {
    authority: Authority,
    _process: Process,
    output: Lines,
    addr: SocketAddr,
}

impl Example {
    fn start() -> Self {
        let authority = Authority::new();
        let files = authority.issue("server");
        let test = env::current_exe().unwrap();
        let program = test.parent().and_then(Path::parent).unwrap().join("examples/starttls");
        let program = format!("{}{}", program.display(), env::consts::EXE_SUFFIX);
        assert!(
            Path::new(&program).exists(),
            "{program} not found: with the name of a test, `cargo test` does not build the \
             examples; run `cargo build --package tls --examples` first"
        );
        let mut command = command(&program);
        command.arg(files.cert).arg(files.key).arg("127.0.0.1:0").stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let mut output = Lines::from_reader(process.take_stdout());
        let line = output.next_with("Listening on ");
        let addr = line.strip_prefix("Listening on ").unwrap().parse().unwrap();
        Example { authority, _process: process, output, addr }
    }

    fn connect(&self) -> TcpStream {
        let peer = with_timeouts(TcpStream::connect(self.addr).unwrap());
        expect(&peer, b"220 localhost ESMTP\r\n");
        peer
    }
}

fn read_to_end(mut peer: &TcpStream) -> String {
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    text
}

/// Sends mails, the last with lines that start with dots, and many commands at once.
const CLIENT: &str = r#"
import smtplib, ssl, sys

port, ca = int(sys.argv[1]), sys.argv[2]
with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
    client.ehlo()
    assert client.has_extn("starttls"), client.esmtp_features
    try:
        client.sendmail("a@example.org", ["b@example.org"], "in plain text")
        sys.exit("a message was accepted without encryption")
    except smtplib.SMTPSenderRefused as error:
        assert error.smtp_code == 530, error
    client.starttls(context=ssl.create_default_context(cafile=ca))
    client.ehlo()
    assert not client.has_extn("starttls"), client.esmtp_features
    assert client.docmd("starttls")[0] == 503
    client.sendmail("a@example.org", ["b@example.org", "c@example.org"], "one\r\n.two\r\n")
    # In one write, and so in one record.
    client.sock.sendall(b"NOOP\r\n" * 1000)
    for _ in range(1000):
        assert client.getreply() == (250, b"OK")
    client.sendmail("a@example.org", ["b@example.org"], "x" * 990 + "\r\n" + ("y" * 990 + "\r\n") * 5000)
"#;

#[test]
fn smtplib_upgrades_in_mid_connection() {
    let python = if cfg!(windows) { "python" } else { "python3" };
    let probe = Command::new(python).args(["-c", "import ssl, smtplib"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return report_skip("no Python with ssl and smtplib is available");
    }
    let mut example = Example::start();
    let mut client = command(python);
    client.args(["-c", CLIENT, &example.addr.port().to_string()]).arg(example.authority.ca());
    let (code, _, stderr) = run(&mut client);
    assert_eq!((code, &stderr[..]), (0, &[][..]));
    let output = &mut example.output;
    output.next_with(" uses Some(TLSv1_3)");
    let to = "TO:<b@example.org> TO:<c@example.org>";
    assert_eq!(output.next().unwrap(), format!("message FROM:<a@example.org> {to}: 11 bytes"));
    assert_eq!((output.next().unwrap(), output.next().unwrap()), ("one".into(), ".two".into()));
    output.next_with(&format!(": {} bytes", 992 * 5001));
    assert_eq!(output.next().unwrap(), "x".repeat(990));
    for _ in 0..5000 {
        assert_eq!(output.next().unwrap(), "y".repeat(990));
    }
}

/// Commands that an attacker put behind STARTTLS would otherwise be executed as those of
/// the client, after the handshake (CVE-2011-0411).
#[test]
fn plain_text_behind_starttls_is_rejected() {
    let example = Example::start();
    let peer = example.connect();
    (&peer).write_all(b"EHLO me\r\nSTARTTLS\r\nRSET\r\n").unwrap();
    let rejected = "554 commands must not follow STARTTLS before its reply\r\n";
    assert_eq!(read_to_end(&peer), format!("250-localhost\r\n250 STARTTLS\r\n{rejected}"));
    // Also if only a part of the next line has arrived.
    let peer = example.connect();
    (&peer).write_all(b"STARTTLS\r\nR").unwrap();
    assert_eq!(read_to_end(&peer), rejected);
    // What arrives later is not executed either: it is no handshake.
    let peer = example.connect();
    (&peer).write_all(b"STARTTLS\r\n").unwrap();
    expect(&peer, b"220 ready for TLS\r\n");
    (&peer).write_all(b"RSET\r\nNOOP\r\n").unwrap();
    let mut reply = Vec::new();
    (&peer).read_to_end(&mut reply).unwrap();
    // A fatal alert, and nothing else.
    assert_eq!((reply.len(), reply[0], reply[5]), (7, 21, 2), "{reply:?}");
}
