//! [`Search`]: from a host's name to a connection, off the loop's thread.

use std::io;
use std::iter;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::{Domain, Socket};

use crate::sys::attempt;

/// How long one address has the field to itself: RFC 8305, section 5,
/// "Connection Attempt Delay".
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A search that is under way, on a thread of its own: looking up a name blocks
/// for as long as the system's resolver likes.
///
/// The stream that waits for it has the other end of `ended`, which reports the
/// end of the thread by closing.
pub(crate) struct Search {
    host: Box<str>,
    port: u16,
    ended: Option<UnixStream>,
    found: Option<Receiver<io::Result<(Socket, SocketAddr)>>>,
}

impl Search {
    /// The search, and what becomes readable when it is over.
    pub(crate) fn new(host: &str, port: u16) -> io::Result<(Self, UnixStream)> {
        let (signal, ended) = UnixStream::pair()?;
        signal.set_nonblocking(true)?;
        Ok((Search { host: host.into(), port, ended: Some(ended), found: None }, signal))
    }

    /// Begins. Given up after `timeout`, but for a look-up that still blocks
    /// then: that cannot be broken off.
    pub(crate) fn start(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let (tell, found) = mpsc::channel();
        self.found = Some(found);
        let ended = self.ended.take();
        let (host, port) = (self.host.clone(), self.port);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        thread::Builder::new().name(format!("connect {host}")).spawn(move || {
            let outcome = look_up(&host, port).and_then(|addrs| race(addrs, deadline));
            // Nobody waits for it any more, where that fails.
            let _ = tell.send(outcome);
            drop(ended);
        })?;
        Ok(())
    }

    /// How it ended.
    pub(crate) fn outcome(&mut self) -> io::Result<(Socket, SocketAddr)> {
        let died = || io::Error::other("the thread that looks up names died");
        self.found.take().and_then(|found| found.try_recv().ok()).ok_or_else(died)?
    }
}

/// A name's addresses, in the order in which to try them: the two families in
/// turn, so that one which does not work at all costs little (RFC 8305,
/// section 4). Within a family the system's own order stands.
fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addrs: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let Some(first) = addrs.first() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
    };
    let (same, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addrs.iter().partition(|addr| addr.is_ipv4() == first.is_ipv4());
    Ok(alternate(same, other))
}

fn alternate<T>(one: Vec<T>, other: Vec<T>) -> Vec<T> {
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut ours = false;
    iter::from_fn(|| {
        ours = !ours;
        if ours { one.next().or_else(|| other.next()) } else { other.next().or_else(|| one.next()) }
    })
    .collect()
}

/// Connects to one of `addrs`: to the first that answers, the next joining in
/// whenever the last one has failed, or had its time to itself.
fn race(addrs: Vec<SocketAddr>, deadline: Option<Instant>) -> io::Result<(Socket, SocketAddr)> {
    let mut rest = addrs.into_iter();
    let mut running: Vec<(Socket, SocketAddr)> = Vec::new();
    let mut error = io::Error::new(io::ErrorKind::NotFound, "no address to connect to");
    let mut next_at = Instant::now();
    loop {
        let now = Instant::now();
        if deadline.is_some_and(|at| at <= now) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if next_at <= now
            && let Some(addr) = rest.next()
        {
            match attempt::begin(&addr.into(), Domain::for_address(addr), None) {
                Ok(socket) => {
                    running.push((socket, addr));
                    next_at = now + ATTEMPT_DELAY;
                }
                Err(failed) => error = failed,
            }
            continue;
        }
        if running.is_empty() && rest.len() == 0 {
            return Err(error);
        }

        let next_at_most = Some(next_at).filter(|_| rest.len() > 0);
        let until = [next_at_most, deadline].into_iter().flatten().min();
        wait(&running, until)?;
        let mut index = 0;
        while index < running.len() {
            match progress(&running[index].0) {
                None => index += 1,
                Some(Ok(())) => return Ok(running.swap_remove(index)),
                Some(Err(failed)) => {
                    log::debug!("connect to {}: {failed}", running[index].1);
                    error = failed;
                    running.swap_remove(index);
                    next_at = Instant::now();
                }
            }
        }
    }
}

/// How an attempt ended; `None` while it goes on.
fn progress(socket: &Socket) -> Option<io::Result<()>> {
    match attempt::outcome(socket) {
        // No error, and no peer either.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
        outcome => Some(outcome),
    }
}

/// Waits until one of them comes about or fails, at most until `until`.
fn wait(running: &[(Socket, SocketAddr)], until: Option<Instant>) -> io::Result<()> {
    let mut sources: Vec<_> =
        running.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::OUT)).collect();
    let timeout = until.map(|at| at.saturating_duration_since(Instant::now()));
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match rustix::event::poll(&mut sources, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_families_take_turns() {
        assert_eq!(alternate(vec![6, 6, 6], vec![4]), [6, 4, 6, 6]);
        assert_eq!(alternate(vec![6], vec![4, 4]), [6, 4, 4]);
        assert_eq!(alternate(vec![4, 4], vec![]), [4, 4]);
    }

    #[test]
    fn an_address_that_does_not_answer_is_overtaken() {
        // A queue that is full: further attempts hang.
        let full = Socket::new(Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let silent = full.local_addr().unwrap().as_socket().unwrap();
        let _filling: Vec<_> =
            (0..4).map(|_| attempt::begin(&silent.into(), Domain::IPV4, None).unwrap()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();

        let begin = Instant::now();
        let (_socket, addr) = race(vec![silent, good], None).unwrap();
        assert_eq!(addr, good);
        assert!(begin.elapsed() >= ATTEMPT_DELAY, "the first one had its time");

        let deadline = Some(Instant::now() + Duration::from_millis(100));
        let error = race(vec![silent, silent], deadline).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn an_address_that_refuses_is_followed_at_once() {
        let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let (_socket, addr) = race(vec![dead, dead, good], None).unwrap();
        assert_eq!(addr, good);
        let error = race(vec![dead, dead], None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
