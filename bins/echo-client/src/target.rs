//! [`Target`]: the server's name and addresses.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cli::error::without_errno;
use cli::value::Endpoint;

use crate::failure::Failure;
use crate::options::Options;

/// The server to connect to.
pub(crate) enum Target {
    Inet {
        /// `None` if an address was given instead of a name.
        name: Option<String>,
        /// At least one, in the order in which to try them.
        addrs: Vec<SocketAddr>,
    },
    Unix(PathBuf),
}

impl Target {
    /// Resolves the host of the options within their timeout. An address needs no
    /// resolution.
    ///
    /// # Errors
    ///
    /// Returns [`Failure::UnknownHost`] if the host has no address, or none of the
    /// IP version that the options select, or does not resolve in time.
    pub(crate) fn resolve(options: &Options) -> Result<Self, Failure> {
        let (host, port) = match options.endpoint() {
            Endpoint::Unix(path) => return Ok(Target::Unix(path)),
            Endpoint::Inet { host, port } => (host, port.unwrap_or(0)),
        };
        let (name, addrs) = match host.parse::<IpAddr>() {
            Ok(addr) => (None, Ok(vec![SocketAddr::new(addr, port)])),
            Err(_) => (Some(format!("{host}:{port}")), resolve_name(&host, port, options.timeout)),
        };
        let has_name = name.is_some();
        match addrs.and_then(|addrs| select_version(addrs, options)) {
            Ok(addrs) => {
                let target = Target::Inet { name, addrs };
                if has_name {
                    log::info!("resolved {target}");
                }
                Ok(target)
            }
            Err(cause) => Err(Failure::UnknownHost { host, cause }),
        }
    }
}

/// Returns those of `addrs` that the options `-4` and `-6` select, or the reason
/// why there are none.
fn select_version(
    mut addrs: Vec<SocketAddr>,
    options: &Options,
) -> Result<Vec<SocketAddr>, String> {
    let version = match (options.ipv4, options.ipv6) {
        (true, _) => {
            addrs.retain(SocketAddr::is_ipv4);
            "IPv4 "
        }
        (_, true) => {
            addrs.retain(SocketAddr::is_ipv6);
            "IPv6 "
        }
        (false, false) => "",
    };
    if addrs.is_empty() { Err(format!("it has no {version}address")) } else { Ok(addrs) }
}

/// `127.0.0.1:9999`, `localhost:9999 ([::1]:9999, 127.0.0.1:9999)`, or
/// `unix:/run/echo`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, addrs) = match self {
            Target::Unix(path) => return write!(f, "unix:{}", path.display()),
            Target::Inet { name, addrs } => (name, addrs),
        };
        let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
        let addrs = addrs.join(", ");
        match name {
            Some(name) => write!(f, "{name} ({addrs})"),
            None => f.write_str(&addrs),
        }
    }
}

/// Returns the addresses of a name, or the reason for the failure in words.
///
/// The system's resolver blocks for an unknown time and cannot be interrupted,
/// so it runs on a thread, which is abandoned after `timeout`.
fn resolve_name(host: &str, port: u16, timeout: Duration) -> Result<Vec<SocketAddr>, String> {
    let (result_tx, result_rx) = mpsc::channel();
    let name = host.to_owned();
    thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || result_tx.send((name.as_str(), port).to_socket_addrs().map(Vec::from_iter)))
        .map_err(|error| without_errno(&error))?;
    let result: io::Result<Vec<_>> = result_rx
        .recv_timeout(timeout)
        .map_err(|_| format!("no response within {}", humantime::format_duration(timeout)))?;
    match result {
        Ok(addrs) => Ok(addrs),
        Err(error) => Err(without_resolver_prefix(&without_errno(&error)).to_owned()),
    }
}

/// Removes the prefix that std adds to an error of getaddrinfo(3).
fn without_resolver_prefix(text: &str) -> &str {
    text.strip_prefix("failed to lookup address information: ").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn resolve(line: &[&str]) -> Result<Target, Failure> {
        Target::resolve(&Options::parse_from([&["echo-client"], line].concat()))
    }

    #[test]
    fn address_needs_no_resolver() {
        for (line, shown) in [
            (&["127.0.0.1", "7"][..], "127.0.0.1:7"),
            (&["::1", "7", "-6"], "[::1]:7"),
            #[cfg(unix)] // Unix sockets
            (&["-U", "/run/echo"], "unix:/run/echo"),
        ] {
            let target = resolve(&[line, &["--timeout", "1ns"]].concat()).unwrap();
            assert_eq!(target.to_string(), shown);
        }
    }

    #[test]
    fn address_of_the_other_version_is_no_address() {
        for line in [["127.0.0.1", "-6"], ["::1", "-4"]] {
            let error = resolve(&line).err().unwrap().to_string();
            assert!(error.contains(": it has no IPv"), "{error}");
        }
    }

    #[test]
    fn name_is_shown_with_its_addresses() {
        let addrs = ["[::1]:7", "127.0.0.1:7"].map(|addr| addr.parse().unwrap()).to_vec();
        let target = Target::Inet { name: Some("here:7".to_owned()), addrs };
        assert_eq!(target.to_string(), "here:7 ([::1]:7, 127.0.0.1:7)");
    }
}
