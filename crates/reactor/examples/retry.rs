//! Step 5 of the tutorial: a client that sends a line, prints the reply, and tries again
//! until that has succeeded.
//!
//! ```text
//! cargo run --package reactor --example retry [HOST [PORT]]
//! ```

use std::env;
use std::io;
use std::time::Duration;

use reactor::{Cause, CloseReason, Connector, Context, Io, Protocol, Reactor};

/// The first pause after a failure; each further one is twice as long, up to the maximum.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

struct Client {
    connector: Connector,
    pause: Duration,
}

impl Client {
    fn connect(self, cx: &mut Context) -> io::Result<()> {
        let connector = self.connector.clone();
        cx.add(connector.connect(self)).map(drop)
    }
}

impl Protocol for Client {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.send(b"Hello\n")
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        print!("{}", String::from_utf8_lossy(data));
        io.close();
        Ok(())
    }

    /// Called however the connection ends, also if it was never established.
    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        if matches!(reason.cause, Cause::Local) {
            return;
        }
        println!("{}: {reason}; trying again in {:?}", io.peer_addr(), self.pause);
        let pause = (2 * self.pause).min(MAX_PAUSE);
        let next = Client { connector: self.connector.clone(), pause };
        io.context().call_later(self.pause, |cx| {
            if let Err(error) = next.connect(cx) {
                println!("cannot try again: {error}");
            }
        });
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let host = args.next().unwrap_or("127.0.0.1".into());
    let port = args.next().unwrap_or("9999".into()).parse()?;
    let mut reactor = Reactor::new()?;
    let client = Client { connector: Connector::to_host(&host, port), pause: MIN_PAUSE };
    client.connect(reactor.context())?;
    // Returns when no connection and no timer is left.
    Ok(reactor.run()?)
}
