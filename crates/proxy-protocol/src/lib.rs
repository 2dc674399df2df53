//! The PROXY protocol for the listeners of [`reactor`]: a proxy such as `HAProxy` announces
//! which client it forwards, in a header at the start of each connection.
//!
//! [`listen`] accepts versions 1 and 2 (`send-proxy` and `send-proxy-v2` in `HAProxy`), from
//! proxies that are trusted: anybody else could claim any address. The header is
//! required: if it were optional, a peer could choose if its connection counts as
//! forwarded.
//!
//! From [`handle_connect`](reactor::Protocol::handle_connect) on,
//! [`peer_addr`](reactor::Connection::peer_addr) returns the client's address. It remains
//! the proxy's if the header says that the proxy opened the connection itself, as for a
//! health check, or that the client is unknown. Further fields of the header (TLVs) are
//! skipped.
//!
//! A header that is wrong or missing is an `InvalidData` error, which
//! [`handle_error`](reactor::Protocol::handle_error) reports. One that is not complete
//! within [`Limits::handshake_timeout`](reactor::Limits::handshake_timeout) is a timeout.
//!
//! # Examples
//!
//! ```no_run
//! # use std::io;
//! # use reactor::{Io, Protocol};
//! use reactor::{Listener, Reactor};
//!
//! struct Greeter;
//!
//! impl Protocol for Greeter {
//!     fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
//!         let client = io.peer_addr();
//!         io.send(format!("hello, {client}\n").as_bytes())
//!     }
//! #   fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> { Ok(()) }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = Listener::bind("0.0.0.0:8000", |_proxy| Ok(Greeter))?;
//! let trusted = ["10.0.0.0/8".parse()?, "2001:db8::/32".parse()?];
//! let mut reactor = Reactor::new()?;
//! reactor.add(proxy_protocol::listen(listener, trusted))?;
//! reactor.run()?;
//! # Ok(())
//! # }
//! ```

mod header;

use std::io::{self, ErrorKind};
use std::net::IpAddr;

pub use ipnet::IpNet;
use reactor::{Address, Filter, Flow, Listener};

use crate::header::{Header, parse};

/// Requires a header of the PROXY protocol on each connection of `listener`, and rejects
/// connections that do not come from one of `trusted`. Unix sockets are trusted: the
/// permissions of the socket's file decide who can connect.
///
/// Further filters of the listener, such as TLS, follow the header.
pub fn listen(listener: Listener, trusted: impl IntoIterator<Item = IpNet>) -> Listener {
    let trusted: Vec<_> = trusted.into_iter().collect();
    listener.with_filter(move |peer| {
        if is_trusted(peer, &trusted) {
            return Ok(ProxyHeader::default());
        }
        let message = "it is not a trusted source of the PROXY protocol";
        Err(io::Error::new(ErrorKind::PermissionDenied, message))
    })
}

/// Returns the networks of this machine itself: 127.0.0.0/8 and `::1`.
pub fn loopback() -> [IpNet; 2] {
    let v4 = ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8);
    let v6 = ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128);
    [v4.into(), v6.into()]
}

fn is_trusted(peer: &Address, trusted: &[IpNet]) -> bool {
    match peer {
        Address::Inet(addr) => {
            let ip: IpAddr = addr.ip().to_canonical();
            trusted.iter().any(|network| network.contains(&ip))
        }
        Address::Unix(_) | Address::Abstract(_) => true,
        _ => false,
    }
}

/// The filter that reads a header, and gives way to what follows.
#[derive(Debug, Default)]
pub struct ProxyHeader {
    received: Vec<u8>,
}

impl Filter for ProxyHeader {
    fn start(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
        Ok(())
    }

    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        self.received.extend_from_slice(raw);
        match parse(&self.received) {
            Ok(Header::Incomplete) => {}
            Ok(Header::Complete { len, client }) => {
                if let Some(client) = client {
                    flow.set_peer(client);
                }
                flow.give_way(&self.received[len..]);
            }
            Err(problem) => {
                let message = format!("rejected: {problem}");
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
        }
        Ok(())
    }

    fn ended(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
        if self.received.is_empty() {
            // A check of the port.
            let message = "the peer closed the connection before a PROXY header";
            return Err(io::Error::new(ErrorKind::ConnectionAborted, message));
        }
        let message = "rejected: the peer closed the connection within the PROXY header";
        Err(io::Error::new(ErrorKind::UnexpectedEof, message))
    }

    fn send(&mut self, _: &[u8], _: &mut Vec<u8>) -> io::Result<()> {
        // Not called: the filter gives way before it is ready.
        Err(ErrorKind::NotConnected.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_given_networks_are_trusted() {
        let networks = ["10.0.0.0/8".parse().unwrap(), loopback()[1]];
        let is_trusted = |addr: &str| is_trusted(&Address::Inet(addr.parse().unwrap()), &networks);
        assert!(is_trusted("10.1.2.3:4") && is_trusted("[::1]:4"));
        assert!(is_trusted("[::ffff:10.1.2.3]:4"), "an IPv4 peer of an IPv6 socket");
        assert!(!is_trusted("127.0.0.1:4") && !is_trusted("11.0.0.1:4"));
        assert!(super::is_trusted(&Address::Unix(None), &networks));
    }
}
