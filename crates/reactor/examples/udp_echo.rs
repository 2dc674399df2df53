//! An echo server for datagrams.
//!
//! ```text
//! cargo run --package reactor --example udp_echo [ADDRESS]
//! nc -u 127.0.0.1 9999
//! ```
//!
//! One socket serves all peers, so there is no connection, nothing to close, and
//! nothing that waits: a datagram that cannot be sent is lost, as it may be on
//! its way.

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

    /// An answer could not be sent. That is no reason to close: the others use
    /// the same socket.
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
