//! [`Tls`]: a TLS session as a filter of a stream.

use std::fmt;
use std::io::{self, ErrorKind};
use std::mem;

use reactor::{Filter, Flow};
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion};

use crate::engine::Session;
use crate::error::TlsError;
use crate::server_name::take_server_name;

/// The size of a record's header.
const HEADER_SIZE: usize = 5;

/// One side of a TLS connection: the [`Filter`] that [`Server`](crate::Server) and
/// [`Client`](crate::Client) create.
///
/// In [`Protocol::handle_connect`](reactor::Protocol::handle_connect) and later, the
/// protocol gets it with `io.filter::<Tls>()`.
pub struct Tls {
    session: Session,
    /// What was received and is not a complete record.
    incoming: Vec<u8>,
    server_name: Option<Box<str>>,
    phase: Phase,
}

/// State machine for a session: `Untouched` until bytes arrive, `Handshaking` until the
/// handshake is complete, `Open`, and `Ended` after the peer's `close_notify`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Untouched,
    Handshaking,
    Open,
    Ended,
}

impl Tls {
    pub(crate) fn new(session: Session) -> Self {
        Tls { session, incoming: Vec::new(), server_name: None, phase: Phase::Untouched }
    }

    /// Returns the host name that the client asked for (SNI), on the server's side.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Returns the application protocol that was agreed on (ALPN).
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.session.state().alpn_protocol()
    }

    /// Returns the certificates that the peer presented, its own first. They were verified.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.session.state().peer_certificates()
    }

    /// Returns the version of TLS.
    #[must_use]
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.session.state().protocol_version()
    }

    /// Returns the cipher suite.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<CipherSuite> {
        Some(self.session.state().negotiated_cipher_suite()?.suite())
    }

    /// Returns `true` if an earlier session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.session.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Processes `raw`, and returns how much of it is used up.
    fn process(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<usize> {
        let is_first = matches!(self.phase, Phase::Untouched) && !raw.is_empty();
        let start: [u8; 8] = std::array::from_fn(|index| raw.get(index).copied().unwrap_or(0));
        let (used, result) = self.session.process(raw, flow.plain, flow.wire);
        if matches!(self.phase, Phase::Untouched | Phase::Handshaking) {
            if let Some(name) = take_server_name() {
                self.server_name = Some(name);
            }
            if !raw.is_empty() {
                self.phase = Phase::Handshaking;
            }
        }
        let progress = match result {
            Ok(progress) => progress,
            Err(error) => return Err(TlsError::new(error, is_first.then_some(start)).into()),
        };
        if progress.is_ready && self.phase == Phase::Handshaking {
            self.phase = Phase::Open;
            flow.ready();
        }
        if progress.has_ended {
            self.phase = Phase::Ended;
            flow.end();
        }
        Ok(used)
    }
}

impl Filter for Tls {
    fn start(&mut self, flow: &mut Flow<'_>) -> io::Result<()> {
        self.process(&mut [], flow).map(drop)
    }

    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        let mut raw = raw;
        // What follows `close_notify` is ignored (RFC 8446, section 6.1).
        while !raw.is_empty() && self.phase != Phase::Ended {
            if self.incoming.is_empty() {
                let used = self.process(raw, flow)?;
                self.incoming.extend_from_slice(&raw[used..]);
                return Ok(());
            }
            let missing = missing_len(&self.incoming).unwrap_or(raw.len()).min(raw.len());
            let (end, rest) = raw.split_at_mut(missing);
            let mut incoming = mem::take(&mut self.incoming);
            incoming.extend_from_slice(end);
            let used = self.process(&mut incoming, flow)?;
            incoming.drain(..used);
            if !incoming.is_empty() {
                self.incoming = incoming;
            }
            raw = rest;
        }
        Ok(())
    }

    fn ended(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
        match self.phase {
            // A port scan, or a load balancer that checks the port.
            Phase::Untouched if matches!(self.session, Session::Server(_)) => Err(io::Error::new(
                ErrorKind::ConnectionAborted,
                "the peer closed the connection before the TLS handshake",
            )),
            Phase::Untouched | Phase::Handshaking => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "the peer closed the connection during the TLS handshake",
            )),
            Phase::Open => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "the peer closed the connection without close_notify",
            )),
            Phase::Ended => Ok(()),
        }
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        let result = self.session.encrypt(Some(plain), &mut self.incoming, wire);
        result.map_err(|error| TlsError::new(error, None).into())
    }

    fn finish(&mut self, wire: &mut Vec<u8>) {
        // Without it, the peer reports that the connection was cut off, as it is.
        let _ = self.session.encrypt(None, &mut self.incoming, wire);
    }
}

/// Returns how much the first record lacks, so that only this is copied; what follows it is
/// decrypted where it is. `None` if the record is complete: then it waits for another.
fn missing_len(incoming: &[u8]) -> Option<usize> {
    // The type, the version, and the length (RFC 8446, section 5.1).
    let &[_, _, _, high, low, ..] = incoming else { return Some(HEADER_SIZE - incoming.len()) };
    let record_size = HEADER_SIZE + usize::from(u16::from_be_bytes([high, low]));
    record_size.checked_sub(incoming.len()).filter(|&missing| missing > 0)
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("protocol_version", &self.protocol_version())
            .field("server_name", &self.server_name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_len_completes_the_header_then_the_record() {
        let record = [23, 3, 3, 0x01, 0x02];
        for len in 0..HEADER_SIZE {
            assert_eq!(missing_len(&record[..len]), Some(HEADER_SIZE - len));
        }
        let mut record = record.to_vec();
        for missing in (1..=0x0102).rev() {
            assert_eq!(missing_len(&record), Some(missing));
            record.push(0);
        }
        assert_eq!(missing_len(&record), None);
        record.push(23);
        assert_eq!(missing_len(&record), None, "another record follows");
    }
}
