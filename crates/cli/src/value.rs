//! Parsers for option values, to be used as clap's `value_parser`.
//!
//! # Errors
//!
//! Each parser returns a description of the expected value, which clap prints
//! after the option and the value.

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::sys;

/// The address of a server, on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A name or an IP address, and the port if there is one.
    Inet {
        /// The name or the address, without brackets.
        host: String,
        /// The port.
        port: Option<u16>,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// Parses the address of a server to connect to: `unix:PATH`, or as
/// [`host_with_port`].
///
/// # Errors
///
/// As [`host_with_port`], and if the path is empty.
///
/// # Examples
///
/// ```
/// use cli::value::{Endpoint, endpoint};
///
/// let inet = |host: &str, port| Endpoint::Inet { host: host.to_owned(), port };
/// assert_eq!(endpoint("localhost:7"), Ok(inet("localhost", Some(7))));
/// assert_eq!(endpoint("unix:/run/echo"), Ok(Endpoint::Unix("/run/echo".into())));
/// ```
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    endpoint_with(text, port)
}

/// Parses an address to listen on, as [`endpoint`]; the port may be 0.
///
/// # Errors
///
/// As [`endpoint`].
pub fn listen_endpoint(text: &str) -> Result<Endpoint, String> {
    endpoint_with(text, listen_port)
}

fn endpoint_with(
    text: &str,
    parse_port: fn(&str) -> Result<u16, String>,
) -> Result<Endpoint, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("expected a path after unix:".to_owned()),
        Some(path) => unix_path(path.into()).map(Endpoint::Unix),
        None => {
            let (host, port) = split_port(text, parse_port)?;
            Ok(Endpoint::Inet { host, port })
        }
    }
}

/// Accepts the path of a Unix socket.
///
/// # Errors
///
/// Returns an error on Windows, where the programs have no Unix sockets.
pub fn unix_path(path: OsString) -> Result<PathBuf, String> {
    sys::unix_path(path.into())
}

/// Parses a host: a name or an IP address, without the brackets that surround
/// an IPv6 address in a URL.
///
/// # Errors
///
/// Returns an error if `text` is empty, or a number: the resolver would take it
/// for an IPv4 address, and it is more likely a port.
///
/// # Examples
///
/// ```
/// assert_eq!(cli::value::host("[::1]").as_deref(), Ok("::1"));
/// ```
pub fn host(text: &str) -> Result<String, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner.unwrap_or(text) {
        "" => Err("expected a host name or an IP address".to_owned()),
        host if host.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err("expected a host name or an IP address, and not only a port".to_owned())
        }
        host => Ok(host.to_owned()),
    }
}

/// Parses a host with an optional port: `HOST`, `HOST:PORT`, `[IPV6]:PORT`. An
/// IPv6 address without brackets has no port.
///
/// # Errors
///
/// Returns an error if the host is as [`host`] does not accept it, or the port is
/// not a number from 1 to 65535.
///
/// # Examples
///
/// ```
/// assert_eq!(cli::value::host_with_port("::1"), Ok(("::1".to_owned(), None)));
/// assert_eq!(cli::value::host_with_port("[::1]:7"), Ok(("::1".to_owned(), Some(7))));
/// ```
pub fn host_with_port(text: &str) -> Result<(String, Option<u16>), String> {
    split_port(text, port)
}

fn split_port(
    text: &str,
    parse_port: fn(&str) -> Result<u16, String>,
) -> Result<(String, Option<u16>), String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if text.parse::<Ipv6Addr>().is_err() && !text.ends_with(']') => {
            (name, Some(parse_port(port)?))
        }
        _ => (text, None),
    };
    if name.contains(':') && name.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_err() {
        return Err("expected HOST, HOST:PORT or [IPV6]:PORT".to_owned());
    }
    Ok((host(name)?, port))
}

/// Parses the port of a server.
///
/// # Errors
///
/// Returns an error if `text` is not a number from 1 to 65535.
pub fn port(text: &str) -> Result<u16, String> {
    match listen_port(text) {
        Ok(port @ 1..) => Ok(port),
        _ => Err("expected a port from 1 to 65535".to_owned()),
    }
}

fn listen_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err("expected a port from 0 to 65535".to_owned()),
    }
}

/// Parses a positive number, such as `500`, `64k` (64,000) or `1M` (1,000,000).
///
/// # Errors
///
/// Returns an error if `text` is not an integer of at least 1.
pub fn count(text: &str) -> Result<NonZeroUsize, String> {
    let count = scaled(text, 1000).and_then(NonZeroUsize::new);
    count.ok_or_else(|| "expected an integer of at least 1".to_owned())
}

/// Returns a parser for an integer from 1 to `max`, as [`count`].
pub fn count_up_to(
    max: usize,
) -> impl Fn(&str) -> Result<NonZeroUsize, String> + Clone + Send + Sync + 'static {
    move |text| match count(text) {
        Ok(count) if count.get() <= max => Ok(count),
        _ => Err(format!("expected an integer from 1 to {max}")),
    }
}

/// Returns a parser for an integer from 0 to `max`, as [`count`].
pub fn number_up_to(
    max: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| match scaled(text, 1000) {
        Some(number) if number <= max => Ok(number),
        _ => Err(format!("expected an integer from 0 to {max}")),
    }
}

/// Returns a parser for a size from 1 to `max` bytes, such as `500`, `64k` (65,536)
/// or `1M` (1,048,576).
pub fn size_up_to(
    max: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| match scaled(text, 1024) {
        Some(size) if (1..=max).contains(&size) => Ok(size),
        _ => Err(format!("expected a size in bytes from 1 to {max}, such as 500, 64k or 1M")),
    }
}

/// Returns the value of digits with an optional suffix: `k` multiplies by
/// `step`, `M` by its square, and `G` by its cube.
fn scaled(text: &str, step: usize) -> Option<usize> {
    let (digits, exponent) = match text.strip_suffix(['k', 'K', 'M', 'G']) {
        Some(digits) if text.ends_with(['k', 'K']) => (digits, 1),
        Some(digits) if text.ends_with('M') => (digits, 2),
        Some(digits) => (digits, 3),
        None => (text, 0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<usize>().ok()?.checked_mul(step.pow(exponent))
}

/// Parses a duration such as `500ms`, `30s` or `1m 30s`. A number without a
/// unit is in seconds.
///
/// # Errors
///
/// Returns an error if `text` is not a duration.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(cli::value::duration("1.5"), Ok(Duration::from_millis(1500)));
/// assert_eq!(cli::value::duration("1m 30s"), Ok(Duration::from_secs(90)));
/// ```
pub fn duration(text: &str) -> Result<Duration, String> {
    let is_number = text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number {
        // Integers exactly, also those that are too large for a fraction.
        let seconds = match text.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()),
        };
        return seconds.ok_or_else(|| format!("expected {DURATION}"));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; expected {DURATION}"))
}

/// What [`duration`] expects.
const DURATION: &str = "a duration such as 30 (seconds), 500ms or \"1m 30s\"";

/// Parses a duration that must not be zero, such as a timeout.
///
/// # Errors
///
/// Returns an error if `text` is not a duration, or is zero.
pub fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be greater than zero".to_owned()),
        timeout => Ok(timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_loses_its_brackets() {
        for (text, expected) in [
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[::1", "[::1"),
        ] {
            assert_eq!(host(text).unwrap(), expected);
        }
        for text in ["", "[]", "9999"] {
            assert!(host(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn port_follows_the_host() {
        for (text, host, port) in [
            ("localhost", "localhost", None),
            ("localhost:7", "localhost", Some(7)),
            ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[::1]:80", "::1", Some(80)),
        ] {
            assert_eq!(host_with_port(text), Ok((host.to_owned(), port)), "{text}");
        }
        for text in ["", ":7", "a:", "a:0", "a:65536", "a:+7", "a:b", "a:7:7", "[::1]7", "[]:7"] {
            assert!(host_with_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn endpoint_is_a_host_or_a_path() {
        let inet = |port| Ok(Endpoint::Inet { host: "here".to_owned(), port });
        for (text, expected) in
            [("here", inet(None)), ("here:7", inet(Some(7))), ("here:0", inet(Some(0)))]
        {
            assert_eq!(listen_endpoint(text), expected);
            assert_eq!(endpoint(text).ok(), expected.ok().filter(|_| !text.ends_with(":0")));
        }
        let is_supported = cfg!(unix);
        assert_eq!(endpoint("unix:a:0") == Ok(Endpoint::Unix("a:0".into())), is_supported);
        for text in ["unix:", "", "9999", "here:65536"] {
            assert!(endpoint(text).is_err() && listen_endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn count_must_be_a_positive_integer() {
        assert_eq!(count("12").unwrap().get(), 12);
        for text in ["", "0", "-1", "1.5", "many"] {
            assert_eq!(count(text).unwrap_err(), "expected an integer of at least 1", "{text:?}");
        }
    }

    #[test]
    fn suffix_multiplies() {
        for (text, decimal, binary) in
            [("64", 64, 64), ("64k", 64_000, 65_536), ("1M", 1_000_000, 1_048_576)]
        {
            assert_eq!(count(text).unwrap().get(), decimal);
            assert_eq!(number_up_to(decimal)(text), Ok(decimal));
            assert_eq!(size_up_to(binary)(text), Ok(binary));
            assert!(count_up_to(decimal - 1)(text).is_err());
            assert!(number_up_to(decimal - 1)(text).is_err());
            assert!(size_up_to(binary - 1)(text).unwrap_err().contains("such as 500, 64k or 1M"));
        }
        assert_eq!(number_up_to(5)("0"), Ok(0));
        for text in ["", "k", "1m", "+1", "1 k", "1kk", "1.5k", "99999999999G"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn number_without_a_unit_is_in_seconds() {
        assert_eq!(duration("1m 30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("0s").unwrap(), Duration::ZERO);
        assert_eq!(duration("5").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("0.25").unwrap(), Duration::from_millis(250));
        assert_eq!(duration(&u64::MAX.to_string()).unwrap(), Duration::from_secs(u64::MAX));
        for text in ["", "soon", "-5s", "-5", "+5", "1e3", "inf", "1.2.3", "99999999999999999999"] {
            assert!(duration(text).unwrap_err().contains("such as 30 (seconds)"), "{text:?}");
        }
    }

    #[test]
    fn timeout_must_not_be_zero() {
        assert_eq!(timeout("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(timeout("0s").unwrap_err(), "must be greater than zero");
        assert!(timeout("soon").is_err());
    }
}
