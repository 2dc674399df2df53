//! Echoes 64 bytes a given number of times over a socket pair, for a tool that
//! counts instructions: see `scripts/instructions.sh`.
#![allow(clippy::unwrap_used, reason = "a panic reports why a benchmark cannot run")]

use std::env;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use reactor::{Io, Protocol, Reactor, Stream};

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

fn main() {
    // `cargo bench` passes no number: it runs no echo.
    let rounds: u32 = env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(0);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let mut message = [7; 64];
    for _ in 0..rounds {
        theirs.write_all(&message).unwrap();
        reactor.turn(None).unwrap();
        theirs.read_exact(&mut message).unwrap();
    }
}
