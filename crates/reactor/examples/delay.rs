//! Step 3 of the tutorial: echoes each message after a second, and closes a connection on
//! which nothing happens for three.
//!
//! ```text
//! cargo run --package reactor --example delay [ADDRESS]
//! ```

use std::env;
use std::io;
use std::time::Duration;

use reactor::{CloseReason, Io, Limits, Listener, Protocol, Reactor, TimerId};

#[derive(Default)]
struct Delay {
    reply: Vec<u8>,
}

impl Protocol for Delay {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.reply = data.to_vec();
        // Nothing more is read until the reply: a peer that sends much waits, and its
        // messages take no memory here.
        io.pause();
        io.set_timer(Duration::from_secs(1));
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _timer: TimerId) -> io::Result<()> {
        io.resume();
        io.send(&self.reply)
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        println!("{}: {reason}", io.peer_addr());
    }
}

fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9999".into());
    let limits = Limits { idle_timeout: Some(Duration::from_secs(3)), ..Limits::default() };
    let mut reactor = Reactor::new()?;
    let listener = Listener::bind(&*addr, |_peer| Ok(Delay::default()))?;
    println!("Listening on {}", listener.local_addr());
    reactor.add(listener.with_limits(limits))?;
    Ok(reactor.run()?)
}
