//! A mail server that prints each message, and accepts none without encryption: EHLO, HELO,
//! STARTTLS, MAIL, RCPT, DATA, RSET, NOOP and QUIT.
//!
//! ```text
//! cargo run --package tls --example starttls CERT KEY [ADDRESS]
//! openssl s_client -starttls smtp -connect 127.0.0.1:2525
//! ```
//!
//! A connection starts in plain text, and changes to TLS with STARTTLS (RFC 3207). What
//! follows STARTTLS in plain text may be injected by an attacker: this server rejects it,
//! and forgets what it learned before (CVE-2011-0411).

use std::env;
use std::io;
use std::mem;

use anyhow::bail;
use reactor::{Chat, ChatIo, ChatProtocol, Listener, Reactor};
use tls::{Server, ServerFiles, Tls};

/// Of one message, in bytes.
const MAX_MESSAGE: usize = 10 * 1024 * 1024;

/// A message for which the commands arrive.
#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

struct Mail {
    server: Server,
    envelope: Envelope,
    /// What followed DATA so far.
    message: Option<Vec<u8>>,
}

impl ChatProtocol for Mail {
    fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        chat.push(b"220 localhost ESMTP\r\n")
    }

    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let line = chat.take_collected();
        if let Some(message) = &mut self.message {
            if line == b"." {
                let message = mem::take(message);
                return self.deliver(chat, &message);
            }
            if message.len() + line.len() > MAX_MESSAGE {
                chat.push(b"552 message too long\r\n")?;
                chat.close_when_done();
                return Ok(());
            }
            // A line that starts with a dot is sent with a second one.
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            message.extend_from_slice(b"\r\n");
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        let (command, args) = line.split_once(' ').unwrap_or((&line, ""));
        self.execute(chat, &command.to_ascii_uppercase(), args.trim())
    }

    /// The handshake is complete, and the client starts again with EHLO.
    fn handle_upgrade(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let version = chat.io().filter::<Tls>().and_then(Tls::protocol_version);
        println!("{} uses {version:?}", chat.io().peer_addr());
        Ok(())
    }
}

impl Mail {
    fn execute(&mut self, chat: &mut ChatIo<'_>, command: &str, args: &str) -> io::Result<()> {
        let is_encrypted = chat.io().filter::<Tls>().is_some();
        match command {
            "EHLO" if is_encrypted => chat.push(b"250 localhost\r\n"),
            "EHLO" => chat.push(b"250-localhost\r\n250 STARTTLS\r\n"),
            "HELO" | "NOOP" => chat.push(b"250 OK\r\n"),
            "STARTTLS" if is_encrypted => chat.push(b"503 TLS is in use\r\n"),
            "STARTTLS" if !chat.unparsed().is_empty() => {
                chat.push(b"554 commands must not follow STARTTLS before its reply\r\n")?;
                chat.close_when_done();
                Ok(())
            }
            "STARTTLS" => {
                self.envelope = Envelope::default();
                chat.push(b"220 ready for TLS\r\n")?;
                chat.start_filter(self.server.filter()?)
            }
            "RSET" => {
                self.envelope = Envelope::default();
                chat.push(b"250 OK\r\n")
            }
            "QUIT" => {
                chat.push(b"221 goodbye\r\n")?;
                chat.close_when_done();
                Ok(())
            }
            "MAIL" | "RCPT" | "DATA" if !is_encrypted => {
                chat.push(b"530 a STARTTLS command must come first\r\n")
            }
            "MAIL" => {
                self.envelope = Envelope { from: Some(args.to_owned()), to: Vec::new() };
                chat.push(b"250 OK\r\n")
            }
            "RCPT" if self.envelope.from.is_some() => {
                self.envelope.to.push(args.to_owned());
                chat.push(b"250 OK\r\n")
            }
            "DATA" if !self.envelope.to.is_empty() => {
                self.message = Some(Vec::new());
                chat.push(b"354 end with a line of one dot\r\n")
            }
            "RCPT" | "DATA" => chat.push(b"503 MAIL and RCPT must come first\r\n"),
            _ => chat.push(b"502 unknown command\r\n"),
        }
    }

    fn deliver(&mut self, chat: &mut ChatIo<'_>, message: &[u8]) -> io::Result<()> {
        self.message = None;
        let Envelope { from, to } = mem::take(&mut self.envelope);
        let from = from.unwrap_or_default();
        println!("message {from} {}: {} bytes", to.join(" "), message.len());
        print!("{}", String::from_utf8_lossy(message));
        chat.push(b"250 OK\r\n")
    }
}

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let (cert, key, addr) = match &args[..] {
        [cert, key] => (cert, key, "127.0.0.1:2525"),
        [cert, key, addr] => (cert, key, &**addr),
        _ => bail!("usage: starttls CERT KEY [ADDRESS]"),
    };
    let files = ServerFiles { cert: cert.into(), key: key.into(), ..ServerFiles::default() };
    let server = Server::from_files(files)?;
    let mut reactor = Reactor::new()?;
    let listener = Listener::bind(addr, move |_| {
        let (server, envelope) = (server.clone(), Envelope::default());
        Ok(Chat::new("\r\n", Mail { server, envelope, message: None }))
    })?;
    println!("Listening on {}", listener.local_addr());
    reactor.add(listener)?;
    Ok(reactor.run()?)
}
