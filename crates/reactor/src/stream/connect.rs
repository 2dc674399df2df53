//! Connecting: one address after another, until one answers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket};

use crate::address::Address;
use crate::stream::resolve::Search;
use crate::sys::attempt::begin;

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

    /// Begins to connect to `addr` from the address `from`.
    pub(crate) fn start_from(
        from: SocketAddr,
        addr: SocketAddr,
    ) -> io::Result<(Socket, Address, Self)> {
        let socket = begin(&addr.into(), Domain::for_address(addr), Some(&from.into()))?;
        Ok((socket, Address::Inet(addr), Connecting::default()))
    }

    /// Begins to connect to a Unix socket.
    pub(crate) fn start_unix(path: &Path) -> io::Result<(Socket, Address, Self)> {
        let socket = begin(&SockAddr::unix(path)?, Domain::UNIX, None)?;
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
            match begin(&addr.into(), Domain::for_address(addr), None) {
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
