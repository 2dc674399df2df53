//! An echo server for datagrams.
//!
//! ```text
//! cargo run --package reactor --example udp_echo [ADDRESS]
//! nc -u 127.0.0.1 9999
//! ```
//!
//! One socket serves all peers, so there are no connections and no queued
//! output: a datagram that cannot be sent is lost, as it can be lost in the
//! network.

use std::env;
use std::io;

use anyhow::bail;
use reactor::{Address, Datagram, DatagramIo, DatagramProtocol, Reactor};

struct Echo;

impl DatagramProtocol for Echo {
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        from: &Address,
    ) -> io::Result<()> {
        io.send_to(data, from)
    }

    /// Called when a reply cannot be sent. The socket stays open for the other
    /// peers.
    fn handle_datagram_error(&mut self, _: &mut DatagramIo<'_>, from: &Address, error: &io::Error) {
        eprintln!("{from}: {error}");
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (addr, None) = (args.next(), args.next()) else { bail!("usage: udp_echo [ADDRESS]") };

    let mut reactor = Reactor::new()?;
    let socket = Datagram::bind(addr.as_deref().unwrap_or("127.0.0.1:9999"), Echo)?;
    println!("Listening on {}", socket.local_addr());
    reactor.add(socket)?;
    Ok(reactor.run()?)
}
