//! Parsers for option values, to be used as clap's `value_parser`.
//!
//! # Errors
//!
//! Each parser returns a description of the expected value, which clap prints
//! after the option and the value.

use std::net::Ipv6Addr;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Parses a host: a name or an IP address, without the brackets that surround
/// an IPv6 address in a URL.
///
/// # Errors
///
/// Returns an error if `text` is empty.
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
        host => Ok(host.to_owned()),
    }
}

/// Parses a host with an optional port: `HOST`, `HOST:PORT`, `[IPV6]:PORT`. An
/// IPv6 address without brackets has no port.
///
/// # Errors
///
/// Returns an error if the host is empty, or the port is not a number from 1 to
/// 65535.
///
/// # Examples
///
/// ```
/// assert_eq!(cli::value::host_with_port("::1"), Ok(("::1".to_owned(), None)));
/// assert_eq!(cli::value::host_with_port("[::1]:7"), Ok(("::1".to_owned(), Some(7))));
/// ```
pub fn host_with_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if text.parse::<Ipv6Addr>().is_err() && !text.ends_with(']') => {
            (name, Some(self::port(port)?))
        }
        _ => (text, None),
    };
    if name.contains(':') && name.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_err() {
        return Err("expected HOST, HOST:PORT or [IPV6]:PORT".to_owned());
    }
    Ok((host(name)?, port))
}

/// Parses `HOST:PORT`.
///
/// # Errors
///
/// As [`host_with_port`], and if there is no port.
pub fn host_and_port(text: &str) -> Result<(String, u16), String> {
    match host_with_port(text)? {
        (host, Some(port)) => Ok((host, port)),
        (_, None) => Err("expected HOST:PORT".to_owned()),
    }
}

/// Parses the port of a server.
///
/// # Errors
///
/// Returns an error if `text` is not a number from 1 to 65535.
pub fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port @ 1..) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err("expected a port from 1 to 65535".to_owned()),
    }
}

/// Parses a positive number.
///
/// # Errors
///
/// Returns an error if `text` is not an integer of at least 1.
pub fn count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected an integer of at least 1".to_owned())
}

/// Returns a parser for an integer from 1 to `max`.
pub fn count_up_to(
    max: usize,
) -> impl Fn(&str) -> Result<NonZeroUsize, String> + Clone + Send + Sync + 'static {
    move |text| match count(text) {
        Ok(count) if count.get() <= max => Ok(count),
        _ => Err(format!("expected an integer from 1 to {max}")),
    }
}

/// Parses a duration such as `500ms`, `30s` or `1m 30s`.
///
/// # Errors
///
/// Returns an error if `text` is not a duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; expected a duration such as 500ms, 30s or \"1m 30s\""))
}

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
        for text in ["", "[]"] {
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
        assert_eq!(host_and_port("localhost:7"), Ok(("localhost".to_owned(), 7)));
        assert!(host_and_port("localhost").is_err());
    }

    #[test]
    fn count_must_be_a_positive_integer() {
        assert_eq!(count("12").unwrap().get(), 12);
        for text in ["", "0", "-1", "1.5", "many"] {
            assert_eq!(count(text).unwrap_err(), "expected an integer of at least 1", "{text:?}");
        }
    }

    #[test]
    fn duration_needs_a_unit() {
        assert_eq!(duration("1m 30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("0s").unwrap(), Duration::ZERO);
        for text in ["", "5", "soon", "-5s"] {
            assert!(duration(text).unwrap_err().contains("such as 500ms"), "{text:?}");
        }
    }

    #[test]
    fn timeout_must_not_be_zero() {
        assert_eq!(timeout("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(timeout("0s").unwrap_err(), "must be greater than zero");
        assert!(timeout("soon").is_err());
    }
}
