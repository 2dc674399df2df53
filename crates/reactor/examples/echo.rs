//! Step 1 of the tutorial, and the README's server; `tests/readme.rs` compares the two.

use std::io;

use reactor::{Io, Listener, Protocol, Reactor};

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

pub(crate) fn setup(reactor: &mut Reactor) -> io::Result<()> {
    reactor.add(Listener::bind("127.0.0.1:9999", |peer| {
        println!("Incoming connection from {peer}");
        Ok(Echo)
    })?)?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let mut reactor = Reactor::new()?;
    setup(&mut reactor)?;
    Ok(reactor.run()?)
}
