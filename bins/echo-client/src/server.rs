//! [`Server`]: where to connect to.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::failure::{Failure, plain};

/// A server: what it was called on the command line, and its addresses.
pub(crate) struct Server {
    /// The name; empty where an address was given.
    name: String,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Looks `host` up, for at most `timeout`.
    pub(crate) fn find(host: &str, port: u16, timeout: Duration) -> Result<Self, Failure> {
        let host = unbracketed(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            let addresses = vec![SocketAddr::new(address, port)];
            return Ok(Server { name: String::new(), addresses });
        }
        match look_up(host, port, timeout) {
            Ok(addresses) => {
                let server = Server { name: format!("{host}:{port}"), addresses };
                log::info!("found {server}");
                Ok(server)
            }
            Err(why) => Err(Failure::UnknownHost { host: host.to_owned(), why }),
        }
    }

    /// At least one address, in the order in which to try them.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// `127.0.0.1:9999`, or `localhost:9999 ([::1]:9999, 127.0.0.1:9999)`.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.addresses.iter().map(SocketAddr::to_string).collect();
        let addresses = addresses.join(", ");
        if self.name.is_empty() {
            f.write_str(&addresses)
        } else {
            write!(f, "{} ({addresses})", self.name)
        }
    }
}

/// `[::1]` is how an IPv6 address stands in a URL; people paste that.
fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Asks the system for a name's addresses. It may take as long as it likes to
/// answer, and cannot be interrupted; so a thread waits for it, and is left
/// behind if the time is up. Fails with a reason in words.
fn look_up(host: &str, port: u16, timeout: Duration) -> Result<Vec<SocketAddr>, String> {
    let (tell, told) = mpsc::channel();
    let name = host.to_owned();
    thread::Builder::new()
        .name("look-up".to_owned())
        .spawn(move || tell.send((name.as_str(), port).to_socket_addrs().map(Vec::from_iter)))
        .map_err(|error| plain(&error))?;
    let found: io::Result<Vec<_>> = told
        .recv_timeout(timeout)
        .map_err(|_| format!("no answer within {}", humantime::format_duration(timeout)))?;
    match found {
        Ok(addresses) if addresses.is_empty() => Err("it has no address".to_owned()),
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(plain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_look_up_with_or_without_brackets() {
        for (host, shown) in
            [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7"), ("[::1]", "[::1]:7")]
        {
            let server = Server::find(host, 7, Duration::ZERO).unwrap();
            assert_eq!(server.to_string(), shown);
        }
    }

    #[test]
    fn a_name_is_shown_with_its_addresses() {
        let addresses = ["[::1]:7", "127.0.0.1:7"].map(|addr| addr.parse().unwrap()).to_vec();
        let server = Server { name: "here:7".to_owned(), addresses };
        assert_eq!(server.to_string(), "here:7 ([::1]:7, 127.0.0.1:7)");
    }
}
