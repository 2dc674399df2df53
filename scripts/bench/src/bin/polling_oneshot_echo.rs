//! An echo server on polling in its default mode: a source tells once, and is
//! armed anew after each event.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use peers::{BUFFER, Unsent, echo, listen};
use polling::{Event, Events, Poller};

/// No connection has it: theirs are their descriptors.
const LISTENER: usize = usize::MAX - 1;

struct Connection {
    stream: TcpStream,
    unsent: Unsent,
}

impl Connection {
    /// Whether the connection stays open.
    fn ready(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        if self.unsent.flush(&mut self.stream)? {
            match echo(&mut self.stream, buffer, &mut self.unsent) {
                Ok(len) => return Ok(len > 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn main() -> io::Result<()> {
    let listener = listen()?;
    let poller = Poller::new()?;
    // SAFETY: it is never closed.
    unsafe { poller.add(&listener, Event::readable(LISTENER))? };
    let mut events = Events::new();
    let mut buffer = vec![0; BUFFER];
    let mut connections: Vec<Option<Connection>> = Vec::new();
    loop {
        events.clear();
        poller.wait(&mut events, None)?;
        for event in events.iter() {
            if event.key == LISTENER {
                accept(&listener, &poller, &mut connections)?;
                continue;
            }
            let slot = &mut connections[event.key];
            let Some(connection) = slot else { continue };
            if connection.ready(&mut buffer).unwrap_or(false) {
                let interest = if connection.unsent.is_empty() {
                    Event::readable(event.key)
                } else {
                    Event::writable(event.key)
                };
                poller.modify(&connection.stream, interest)?;
            } else {
                poller.delete(&connection.stream)?;
                *slot = None;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poller: &Poller,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        let _ = stream.set_nodelay(true);
        let slot = stream.as_raw_fd() as usize;
        // SAFETY: deleted before it is dropped.
        unsafe { poller.add(&stream, Event::readable(slot))? };
        if connections.len() <= slot {
            connections.resize_with(slot + 1, || None);
        }
        connections[slot] = Some(Connection { stream, unsent: Unsent::default() });
    }
    poller.modify(listener, Event::readable(LISTENER))
}
