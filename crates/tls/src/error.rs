//! [`TlsError`]: why a session failed, in words for the person who runs the program.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, OtherError};

/// Why a TLS session failed. It is the inner error of the [`io::Error`], of kind
/// `InvalidData`, that closes the stream.
#[derive(Clone, Debug)]
pub struct TlsError {
    source: rustls::Error,
    /// What the peer sent first, if the session failed with that.
    start: Option<[u8; 8]>,
}

impl TlsError {
    pub(crate) fn new(source: rustls::Error, start: Option<[u8; 8]>) -> Self {
        TlsError { source, start }
    }

    /// Returns the error of rustls.
    #[must_use]
    pub fn rustls_error(&self) -> &rustls::Error {
        &self.source
    }

    /// Returns what the peer speaks, if it is not TLS.
    fn other_protocol(&self) -> Option<&'static str> {
        let start = self.start?;
        let methods: [&[u8]; 9] = [
            b"GET ",
            b"HEAD ",
            b"POST ",
            b"PUT ",
            b"PATCH ",
            b"DELETE ",
            b"OPTIONS ",
            b"TRACE ",
            b"CONNECT ",
        ];
        let is_method = |method: &&[u8]| start.starts_with(&method[..method.len().min(8)]);
        if methods.iter().any(is_method) {
            Some("plain HTTP")
        } else if start.starts_with(b"HTTP/") {
            Some("plain HTTP, from a server")
        } else if start.starts_with(b"PROXY ") || start == *b"\r\n\r\n\0\r\nQ" {
            Some("a header of the PROXY protocol")
        } else if (20..=24).contains(&start[0]) && start[1] == 3 {
            None
        } else {
            Some("another protocol, or plain text")
        }
    }
}

/// Returns a time as in RFC 3339.
pub(crate) fn format_time(time: UnixTime) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    time.map_or_else(String::new, |time| humantime::format_rfc3339_seconds(time).to_string())
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(protocol) = self.other_protocol() {
            return write!(f, "not TLS: the peer sent {protocol}");
        }
        match &self.source {
            rustls::Error::InvalidCertificate(error) => fmt_certificate(error, f),
            rustls::Error::NoCertificatesPresented => {
                f.write_str("the peer presented no certificate")
            }
            rustls::Error::AlertReceived(alert) => {
                write!(f, "the peer reports a TLS error: {}", describe_alert(*alert))
            }
            rustls::Error::PeerIncompatible(why) => {
                write!(f, "nothing in common with the peer: {why:?}")
            }
            error => write!(f, "TLS: {error}"),
        }
    }
}

fn fmt_certificate(error: &CertificateError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        CertificateError::Expired => f.write_str("the peer's certificate has expired"),
        CertificateError::ExpiredContext { not_after, .. } => {
            write!(f, "the peer's certificate expired on {}", format_time(*not_after))
        }
        CertificateError::NotValidYet => f.write_str("the peer's certificate is not valid yet"),
        CertificateError::NotValidYetContext { not_before, .. } => {
            write!(f, "the peer's certificate is not valid before {}", format_time(*not_before))
        }
        CertificateError::UnknownIssuer => {
            f.write_str("the peer's certificate is signed by an unknown issuer")
        }
        CertificateError::BadSignature => {
            f.write_str("the signature of the peer's certificate is wrong")
        }
        CertificateError::NotValidForName => {
            f.write_str("the peer's certificate is for another name")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            write!(f, "the peer's certificate is not for {}", expected.to_str())?;
            let names: Vec<_> = presented.iter().map(|name| readable_name(name)).collect();
            if names.is_empty() { Ok(()) } else { write!(f, ", but for {}", names.join(", ")) }
        }
        CertificateError::Other(OtherError(error))
            if error.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) =>
        {
            f.write_str("the peer's certificate is for an authority, not for a server (CA:TRUE)")
        }
        error => write!(f, "the peer's certificate: {error}"),
    }
}

/// Returns `example.org` for `DnsName("example.org")`, and the like for `IpAddress(::1)`.
fn readable_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}

/// Returns `certificate expired` for `CertificateExpired`.
fn describe_alert(alert: rustls::AlertDescription) -> String {
    let name = format!("{alert:?}");
    let mut text = String::new();
    let mut previous = ' ';
    for letter in name.chars() {
        if letter.is_uppercase() && previous.is_lowercase() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
        previous = letter;
    }
    text
}

// Its source would repeat the text.
impl Error for TlsError {}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn text(source: rustls::Error, start: Option<&[u8]>) -> String {
        let start =
            start.map(|start| std::array::from_fn(|at| start.get(at).copied().unwrap_or(0)));
        TlsError::new(source, start).to_string()
    }

    #[test]
    fn other_protocols_are_named() {
        let error = rustls::Error::DecryptError;
        let cases: [(&[u8], &str); 5] = [
            (b"GET / HTTP/1.1\r\n", "not TLS: the peer sent plain HTTP"),
            (b"OPTIONS * HTTP/1.1\r\n", "not TLS: the peer sent plain HTTP"),
            (b"PROXY TCP4 ", "not TLS: the peer sent a header of the PROXY protocol"),
            (b"hello\n", "not TLS: the peer sent another protocol, or plain text"),
            (b"\x16\x03\x01\0\0", "TLS: cannot decrypt peer's message"),
        ];
        for (start, expected) in cases {
            assert_eq!(text(error.clone(), Some(start)), expected);
        }
    }

    #[test]
    fn certificates_and_alerts_are_described() {
        let expired = CertificateError::ExpiredContext {
            time: UnixTime::since_unix_epoch(Duration::from_secs(2)),
            not_after: UnixTime::since_unix_epoch(Duration::from_secs(1)),
        };
        assert_eq!(
            text(expired.into(), None),
            "the peer's certificate expired on 1970-01-01T00:00:01Z"
        );
        let other_name = CertificateError::NotValidForNameContext {
            expected: "example.net".try_into().unwrap(),
            presented: vec!["DnsName(\"example.org\")".into(), "IpAddress(::1)".into()],
        };
        assert_eq!(
            text(other_name.into(), None),
            "the peer's certificate is not for example.net, but for example.org, ::1"
        );
        let ca = OtherError(Arc::new(webpki::Error::CaUsedAsEndEntity));
        assert_eq!(
            text(CertificateError::Other(ca).into(), None),
            "the peer's certificate is for an authority, not for a server (CA:TRUE)"
        );
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        assert_eq!(text(alert, None), "the peer reports a TLS error: unknown ca");
    }
}
