//! Connecting: one address after another, until one answers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::Address;
use crate::search::Search;

/// A connection that is under way.
#[derive(Default)]
pub(crate) struct Connecting {
    /// The name is still being looked up, and its addresses tried, elsewhere.
    pub(crate) search: Option<Search>,
    /// The addresses to try if this one fails.
    rest: std::vec::IntoIter<SocketAddr>,
    /// When to give up on all of them; known once the stream was asked.
    whole: Option<Instant>,
    /// When to give up on this one.
    attempt: Option<Instant>,
}

impl Connecting {
    /// Begins to connect to the first of `addrs` that does not fail at once.
    pub(crate) fn start(addrs: Vec<SocketAddr>) -> io::Result<(Socket, Address, Self)> {
        let mut connecting = Connecting { rest: addrs.into_iter(), ..Connecting::default() };
        let nothing = io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to");
        let (socket, addr) = connecting.next(nothing)?;
        Ok((socket, addr, connecting))
    }

    /// Begins to connect to a Unix socket.
    pub(crate) fn start_unix(path: &Path) -> io::Result<(Socket, Address, Self)> {
        let socket = begin(&SockAddr::unix(path)?, Domain::UNIX)?;
        Ok((socket, Address::Unix(Some(path.to_path_buf())), Connecting::default()))
    }

    /// Prepares to look for a host by its name. What is returned in the
    /// socket's place becomes readable when the search is over.
    pub(crate) fn search(host: &str, port: u16) -> io::Result<(Socket, Address, Self)> {
        let (search, signal) = Search::new(host, port)?;
        let connecting = Connecting { search: Some(search), ..Connecting::default() };
        Ok((
            OwnedFd::from(signal).into(),
            Address::Host(format!("{host}:{port}").into()),
            connecting,
        ))
    }

    /// Begins to connect to the next address. Fails with the last address's
    /// error; with `error` where there was no address left.
    pub(crate) fn next(&mut self, mut error: io::Error) -> io::Result<(Socket, Address)> {
        for addr in self.rest.by_ref() {
            match begin(&addr.into(), Domain::for_address(addr)) {
                Ok(socket) => {
                    self.attempt = None;
                    return Ok((socket, Address::Inet(addr)));
                }
                Err(failed) => {
                    log::debug!("connect to {addr}: {failed}");
                    error = failed;
                }
            }
        }
        Err(error)
    }

    /// When to give up on the address at hand. The time that is left is
    /// shared among the addresses that are left, so that one which never
    /// answers does not use it all up.
    pub(crate) fn deadline(&mut self, now: Instant, timeout: Option<Duration>) -> Option<Instant> {
        let whole = match self.whole {
            Some(whole) => whole,
            None => *self.whole.insert(now.checked_add(timeout?)?),
        };
        let addresses = u32::try_from(1 + self.rest.len()).unwrap_or(u32::MAX);
        let share = whole.saturating_duration_since(now) / addresses;
        Some(*self.attempt.get_or_insert(now + share))
    }
}

pub(crate) fn begin(addr: &SockAddr, domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if domain != Domain::UNIX {
        // Small messages go out at once, as they do from `Listener`.
        socket.set_tcp_nodelay(true)?;
    }
    match socket.connect(addr) {
        Ok(()) => Ok(socket),
        // connect(2): the connection completes when the socket is writable.
        Err(e) if e.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Ok(socket),
        Err(e) => Err(e),
    }
}

/// The outcome for a socket that became writable while it was connecting;
/// `NotConnected` where it still is.
pub(crate) fn outcome(socket: &Socket) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    let peer = socket.peer_addr()?.as_socket();
    // A dead port in the ephemeral range: the kernel chose it for our own end
    // and connected the socket to itself (TCP's simultaneous open, RFC 9293
    // section 3.5).
    if peer.is_some() && peer == socket.local_addr()?.as_socket() {
        return Err(Errno::CONNREFUSED.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariant_3_a_connection_to_itself_counts_as_refused() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).expect("the kernel sees nothing wrong with it");
        let error = outcome(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
