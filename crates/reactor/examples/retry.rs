//! Step 5 of the tutorial: a client that sends a line, prints the reply, and tries again
//! until that has succeeded.
//!
//! ```text
//! cargo run --package reactor --example retry [HOST [PORT]]
//! ```

use std::env;
use std::io;
use std::time::Duration;

use reactor::{Connector, Io, Protocol, Reactor, Reconnector};

/// The first pause after a failure; each further one is twice as long, up to the maximum.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

struct Client;

impl Protocol for Client {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.send(b"Hello\n")
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        print!("{}", String::from_utf8_lossy(data));
        io.close();
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let host = args.next().unwrap_or("127.0.0.1".into());
    let port: u16 = args.next().unwrap_or("9999".into()).parse()?;
    let server = Connector::to_host(&host, port);
    let client = Reconnector::new(move || Ok(server.connect(Client)))
        .with_pauses(MIN_PAUSE, MAX_PAUSE)
        .with_handler(move |_cx, reason, pause| {
            if let Some(pause) = pause {
                println!("{host}:{port}: {reason}; connecting again in {pause:.0?}");
            }
        });
    let mut reactor = Reactor::new()?;
    reactor.add(client)?;
    // Returns once the client has closed a connection.
    Ok(reactor.run()?)
}
