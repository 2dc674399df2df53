//! An echo server on mio: edge-triggered, a connection registered once.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use peers::{BUFFER, Unsent, echo, listen};

/// No connection has it: theirs are their descriptors.
const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    unsent: Unsent,
}

impl Connection {
    /// Goes on until the kernel has nothing more to give or to take, since it
    /// tells of neither twice. Whether the connection stays open.
    fn ready(&mut self, buffer: &mut [u8], is_ending: bool) -> io::Result<bool> {
        loop {
            if !self.unsent.flush(&mut self.stream)? {
                return Ok(true);
            }
            match echo(&mut self.stream, buffer, &mut self.unsent) {
                Ok(0) => return Ok(false),
                // Less than asked for: there is no more, so the call that
                // would say so is spared, as tokio does.
                Ok(len) if len < BUFFER && self.unsent.is_empty() && !is_ending => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

fn main() -> io::Result<()> {
    let mut listener = TcpListener::from_std(listen()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; BUFFER];
    let mut connections: Vec<Option<Connection>> = Vec::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.set_nodelay(true);
                    let slot = stream.as_raw_fd() as usize;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(slot), interest)?;
                    if connections.len() <= slot {
                        connections.resize_with(slot + 1, || None);
                    }
                    connections[slot] = Some(Connection { stream, unsent: Unsent::default() });
                }
                continue;
            }
            let slot = &mut connections[event.token().0];
            let Some(connection) = slot else { continue };
            if !connection.ready(&mut buffer, event.is_read_closed()).unwrap_or(false) {
                let _ = poll.registry().deregister(&mut connection.stream);
                *slot = None;
            }
        }
    }
}
