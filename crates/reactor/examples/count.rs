//! Step 2 of the tutorial: counts what each peer has sent.
//!
//! ```text
//! cargo run --package reactor --example count [ADDRESS]
//! ```

use std::env;
use std::io;

use reactor::{CloseReason, Io, Listener, Protocol, Reactor};

struct Count {
    received: usize,
}

impl Protocol for Count {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.send(b"Type something.\n")
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.received += data.len();
        io.send(format!("{} bytes so far\n", self.received).as_bytes())
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        println!("{}: {} bytes; {reason}", io.peer_addr(), self.received);
    }
}

fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9999".into());
    let mut reactor = Reactor::new()?;
    let listener = Listener::bind(&*addr, |_peer| Ok(Count { received: 0 }))?;
    println!("Listening on {}", listener.local_addr());
    reactor.add(listener)?;
    Ok(reactor.run()?)
}
