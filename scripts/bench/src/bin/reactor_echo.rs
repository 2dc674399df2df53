//! The README's echo server on the reactor, for `scripts/compare.sh`;
//! `scripts/bench.sh` measures echo-server.

use std::io;

use peers::listen;
use reactor::{Io, Listener, Protocol, Reactor};

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

fn main() -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    reactor.add(Listener::new(listen()?, |_| Ok(Echo))?)?;
    reactor.run()
}
