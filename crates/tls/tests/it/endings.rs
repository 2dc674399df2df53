//! What each side reports, for each way in which a connection can end.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Io, Limits, Protocol, Reactor, Stream};

use crate::common::{Event, Log, Probe, World, connect, tcp_pair, turn_until};

/// How the connection ends, after a message and its echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Close,
    Shutdown,
    Abort,
    Fail,
    /// The socket ends without `close_notify`, as an attacker can make it.
    CutOff,
    /// This side says nothing until the other one's idle timeout.
    Silence,
}
use Ending::{Abort, Close, CutOff, Fail, Silence};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}
use Side::{Client, Server};

const LOCAL: &str = "closed";
const PEER: &str = "closed by the peer";
const RESET: &str = "Connection reset by peer (os error 104)";
const TRUNCATED: &str = "truncated: the connection ended unexpectedly";

/// The side that ends the connection, how, and what the server and the client report.
const TABLE: [(Side, Ending, &str, &str); 11] = [
    (Client, Close, PEER, LOCAL),
    (Server, Close, LOCAL, PEER),
    // The other side answers the end of input by closing.
    (Client, Ending::Shutdown, PEER, PEER),
    (Server, Ending::Shutdown, PEER, PEER),
    (Client, Abort, RESET, LOCAL),
    (Server, Abort, LOCAL, RESET),
    (Client, Fail, RESET, "a fault"),
    (Server, Fail, "a fault", RESET),
    (Client, CutOff, TRUNCATED, RESET),
    (Server, CutOff, RESET, TRUNCATED),
    (Client, Silence, "timed out: idle timeout", RESET),
];

/// Ends the connection when the echo has arrived at the client: at once if this is the
/// client, and otherwise when it says so.
fn probe(
    name: &'static str,
    log: &Log,
    side: Side,
    (ender, ending): (Side, Ending),
    is_due: &Rc<Cell<bool>>,
) -> Probe {
    let is_due = Rc::clone(is_due);
    Probe::new(name, log, move |event, io: &mut Io<'_>| {
        match event {
            Event::Connect if side == Client => io.send(b"hello")?,
            Event::Read(data) if side == Server => io.send(data)?,
            Event::Read(_) => is_due.set(true),
            Event::Eof => io.close(),
            Event::Connect | Event::Timer => {}
        }
        if side != ender || ending == CutOff || ending == Silence {
            return Ok(());
        }
        if !is_due.get() {
            // The server polls for the client's word.
            if side == Server && matches!(event, Event::Connect | Event::Timer) {
                io.set_timer(Duration::from_millis(2));
            }
            return Ok(());
        }
        if event == Event::Eof {
            return Ok(());
        }
        match ending {
            Close => io.close(),
            Ending::Shutdown => io.shutdown()?,
            Abort => io.abort(),
            Fail => return Err(io::Error::other("a fault")),
            CutOff | Silence => {}
        }
        Ok(())
    })
}

#[test]
fn both_sides_report_each_ending_as_the_table_says() {
    let world = World::new();
    let reports_resets = testing::reports_resets();
    for (ender, ending, by_server, by_client) in TABLE {
        if [by_server, by_client].contains(&RESET) && !reports_resets {
            continue;
        }
        let row = format!("{ender:?} {ending:?}");
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let is_due = Rc::new(Cell::new(false));
        let idle_timeout = (ending == Silence).then_some(Duration::from_millis(200));
        let limits = Limits { idle_timeout, ..Limits::default() };
        let probes = (
            probe("server", &log, Server, (ender, ending), &is_due),
            probe("client", &log, Client, (ender, ending), &is_due),
        );
        let ends = (&world.server, &world.client);
        let behind = connect(&mut reactor, ends, "localhost", limits, probes);
        turn_until(&mut reactor, || is_due.get());
        if ending == CutOff {
            let socket = if ender == Server { &behind.0 } else { &behind.1 };
            socket.shutdown(Shutdown::Write).unwrap();
        }
        drop(behind);
        let reports = || (log.get("server close:"), log.get("client close:"));
        turn_until(&mut reactor, || matches!(reports(), (Some(_), Some(_))));
        let expected = (Some(by_server.to_owned()), Some(by_client.to_owned()));
        assert_eq!(reports(), expected, "{row}: {:#?}", log.lines());
        // The end of input is reported if the peer ended its output, and only then.
        let ends_cleanly = matches!(ending, Close | Ending::Shutdown);
        let other = if ender == Server { "client eof" } else { "server eof" };
        assert_eq!(log.get(other).is_some(), ends_cleanly, "{row}: {:#?}", log.lines());
    }
}

#[test]
fn half_closed_connection_carries_data_in_the_other_direction() {
    const SIZE: usize = 1_000_000;
    for ender in [Server, Client] {
        let world = World::new();
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let received = Rc::new(Cell::new(0));
        let half = |name, side| {
            let received = Rc::clone(&received);
            Probe::new(name, &log, move |event, io| {
                match event {
                    Event::Connect if side == ender => io.shutdown()?,
                    Event::Eof if side != ender => {
                        io.send(&testing::pattern(SIZE))?;
                        io.close();
                    }
                    Event::Read(data) => received.set(received.get() + data.len()),
                    Event::Connect | Event::Eof | Event::Timer => {}
                }
                Ok(())
            })
        };
        let probes = (half("server", Server), half("client", Client));
        let ends = (&world.server, &world.client);
        drop(connect(&mut reactor, ends, "localhost", Limits::default(), probes));
        reactor.run().unwrap();
        assert_eq!(received.get(), SIZE, "{ender:?}: {:#?}", log.lines());
        for side in ["server close:", "client close:"] {
            assert_eq!(log.get(side).as_deref(), Some(PEER), "{ender:?}: {:#?}", log.lines());
        }
    }
}

/// Closes when the reactor drains.
struct Closing(Log);
impl Protocol for Closing {
    fn handle_connect(&mut self, _: &mut Io<'_>) -> io::Result<()> {
        self.0.note("server connect");
        Ok(())
    }
    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn handle_drain(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.close();
        Ok(())
    }
}

#[test]
fn drain_sends_close_notify() {
    let world = World::new();
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());

    let (server_socket, client_socket) = tcp_pair();
    let stream = Stream::new(server_socket, Closing(log.clone())).unwrap();
    reactor.add(stream.with_filter(world.server.filter().unwrap())).unwrap();
    let stream = Stream::new(client_socket, Probe::echo("client", &log)).unwrap();
    reactor.add(world.client.connect(stream, "localhost").unwrap()).unwrap();
    turn_until(&mut reactor, || log.get("server connect").is_some());
    reactor.handle().drain(Duration::from_secs(20)).unwrap();
    reactor.run().unwrap();
    assert_eq!(log.get("client close:").as_deref(), Some(PEER), "{:#?}", log.lines());
}
