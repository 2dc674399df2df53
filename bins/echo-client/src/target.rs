//! [`Target`]: the server's name and addresses.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cli::error::without_errno;

use crate::failure::Failure;

/// The server to connect to: its name on the command line, and its addresses.
pub(crate) struct Target {
    /// `None` if an address was given instead of a name.
    name: Option<String>,
    addrs: Vec<SocketAddr>,
}

impl Target {
    /// Resolves `host` within `timeout`. An address needs no resolution.
    ///
    /// # Errors
    ///
    /// Returns [`Failure::UnknownHost`] if `host` has no address, or does not
    /// resolve in time.
    pub(crate) fn resolve(host: &str, port: u16, timeout: Duration) -> Result<Self, Failure> {
        if let Ok(addr) = host.parse::<IpAddr>() {
            return Ok(Target { name: None, addrs: vec![SocketAddr::new(addr, port)] });
        }
        match resolve_name(host, port, timeout) {
            Ok(addrs) => {
                let target = Target { name: Some(format!("{host}:{port}")), addrs };
                log::info!("resolved {target}");
                Ok(target)
            }
            Err(cause) => Err(Failure::UnknownHost { host: host.to_owned(), cause }),
        }
    }

    /// Returns the addresses, at least one, in the order in which to try them.
    pub(crate) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }
}

/// `127.0.0.1:9999`, or `localhost:9999 ([::1]:9999, 127.0.0.1:9999)`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs: Vec<_> = self.addrs.iter().map(SocketAddr::to_string).collect();
        let addrs = addrs.join(", ");
        match &self.name {
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
        Ok(addrs) if addrs.is_empty() => Err("it has no address".to_owned()),
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

    #[test]
    fn address_needs_no_resolver() {
        for (host, shown) in [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7")] {
            let target = Target::resolve(host, 7, Duration::ZERO).unwrap();
            assert_eq!(target.to_string(), shown);
        }
    }

    #[test]
    fn name_is_shown_with_its_addresses() {
        let addrs = ["[::1]:7", "127.0.0.1:7"].map(|addr| addr.parse().unwrap()).to_vec();
        let target = Target { name: Some("here:7".to_owned()), addrs };
        assert_eq!(target.to_string(), "here:7 ([::1]:7, 127.0.0.1:7)");
    }
}
