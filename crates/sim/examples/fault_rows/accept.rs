//! What goes wrong with accept(2).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use reactor::{CloseReason, Io, Limits, Listener, Protocol, Stream};
use sim::{Fault, Faults, Sim};

use crate::common::{LATENCY, Log, MINUTE, On, Probe, SECOND, passive, server_addr};
use crate::support::{
    Peer, Shared, Talk, add_echo, add_peers, add_stream, all_served, choose, none_delayed,
    open_channels, open_streams, rest, stats, up_to,
};

/// Some peers take all descriptors, and others wait until they have left.
pub(crate) fn no_descriptors(sim: &mut Sim) -> anyhow::Result<()> {
    let server = add_echo(sim, |listener| listener)?;
    // The queue of events, the listener, and three connections.
    sim.set_descriptor_limit(server, 5);
    let first = add_peers(sim, 2..5, 5 * SECOND)?;
    sim.run(SECOND)?;
    let late = add_peers(sim, 5..9, Duration::ZERO)?;
    sim.run(2 * SECOND)?;
    ensure!(late.iter().all(|peer| peer.borrow().received == 0), "there was no descriptor");
    let paused = stats(sim, server)?.accept_pauses;
    ensure!((1..=20).contains(&paused), "paused {paused} times in 2 s");
    rest(sim)?;
    all_served(&first)?;
    none_delayed(&first)?;
    all_served(&late)?;
    // The longest pause is a second, and each of them takes its turn.
    let slowest = late.iter().map(|peer| peer.borrow().slowest).max().unwrap_or_default();
    ensure!(slowest < 12 * SECOND, "a peer waited for {slowest:?}");
    ensure!(open_channels(sim, server) == 1, "a channel is left");
    Ok(())
}

/// accept(2) fails for lack of descriptors or memory, and works again.
pub(crate) fn no_resources(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_faults(Faults::none().with(Fault::NoDescriptors, 400_000));
    let server = add_echo(sim, |listener| listener)?;
    let peers = add_peers(sim, 2..8, SECOND)?;
    rest(sim)?;
    all_served(&peers)?;
    let (stats, failed) = (stats(sim, server)?, sim.fault_counts().get(Fault::NoDescriptors));
    ensure!(stats.accept_pauses == failed, "{} pauses, {failed} errors", stats.accept_pauses);
    ensure!(stats.accepted == 6, "accepted {}", stats.accepted);
    Ok(())
}

/// accept(2) is interrupted, or the connection was lost before it: the next one is accepted.
pub(crate) fn transient_errors(sim: &mut Sim) -> anyhow::Result<()> {
    let faults = Faults::none().with(Fault::Interrupt, 300_000).with(Fault::AcceptAborted, 200_000);
    sim.set_faults(faults);
    let server = add_echo(sim, |listener| listener)?;
    let peers = add_peers(sim, 2..12, SECOND)?;
    rest(sim)?;
    let aborted = sim.fault_counts().get(Fault::AcceptAborted);
    let accepted = stats(sim, server)?.accepted;
    ensure!(accepted + aborted == 10, "accepted {accepted}, aborted {aborted}, of 10");
    let (served, lost): (Vec<_>, Vec<_>) =
        peers.into_iter().partition(|peer| peer.borrow().received > 0);
    all_served(&served)?;
    ensure!(served.len() as u64 == accepted, "{} served", served.len());
    for peer in lost {
        let seen = peer.borrow();
        ensure!(seen.closed.as_ref().is_some_and(|text| text.contains("reset")), "{seen:?}");
    }
    Ok(())
}

/// Peers connect and reset their connections while the listener is paused.
pub(crate) fn reset_before_accept(sim: &mut Sim) -> anyhow::Result<()> {
    struct Accepted(Shared<Vec<String>>, String);
    impl Protocol for Accepted {
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            panic!("there was nothing to read")
        }
        fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
            assert_eq!(io.peer_addr().to_string(), self.1, "the address of accept(2)");
            self.0.borrow_mut().push(reason.to_string());
        }
    }
    let closed = Shared::<Vec<String>>::default();
    let log = Rc::clone(&closed);
    let server = sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let log = Rc::clone(&log);
        let accept = move |peer: &reactor::Address| {
            assert!(peer.to_string().starts_with("10.0.0."), "{peer}");
            Ok(Accepted(Rc::clone(&log), peer.to_string()))
        };
        let mut listener = Listener::bind(server_addr(), accept)?;
        listener.pause();
        let token = reactor.add(listener)?;
        reactor.context().call_later(SECOND, move |cx| {
            if let Some(listener) = cx.get_mut::<Listener>(token) {
                listener.resume();
            }
        });
        Ok(())
    })?;
    let count = 1 + u8::try_from(sim.choose(20))?;
    let log = Log::new();
    for number in 2..2 + count {
        let starts = up_to(sim, SECOND / 2);
        let aborts_after = up_to(sim, SECOND / 3);
        let peer = Probe::new("peer", &log, move |on, io| {
            match on {
                On::Connect => drop(io.set_timer(aborts_after)),
                On::Timer => io.abort(),
                _ => {}
            }
            Ok(())
        });
        add_stream(sim, number, starts, Limits::default(), peer)?;
    }
    rest(sim)?;
    let closed = closed.borrow();
    ensure!(closed.len() == usize::from(count), "{} of {count} closed", closed.len());
    ensure!(closed.iter().all(|reason| reason.contains("reset by peer")), "{closed:?}");
    ensure!(open_channels(sim, server) == 1, "a channel is left");
    Ok(())
}

/// Counts what happens in a turn of the loop: a job that is posted runs at its end.
pub(crate) fn count_in_turn(
    cx: &mut reactor::Context,
    count: &Rc<Cell<usize>>,
    more: usize,
    max: usize,
) {
    thread_local! {
        static COUNT: Cell<usize> = const { Cell::new(0) };
    }
    let total = COUNT.get() + more;
    COUNT.set(total);
    assert!(total <= max, "{total} in one turn");
    count.set(count.get() + more);
    // It fails only if the loop ends.
    let _ = cx.handle().post(|_| COUNT.set(0));
}

/// Hundreds connect at once: all are served, and one turn accepts some only.
pub(crate) fn accept_storm(sim: &mut Sim) -> anyhow::Result<()> {
    const MAX_ACCEPTS_PER_EVENT: usize = 64;
    let count = 65 + choose(sim, 200);
    let accepted = Rc::new(Cell::new(0));
    let counted = Rc::clone(&accepted);
    sim.machine("server", [10, 0, 0, 1], move |reactor| {
        let counted = Rc::clone(&counted);
        let listener = Listener::bind(server_addr(), move |_| Ok(Counts(Rc::clone(&counted))))?;
        reactor.add(listener).map(drop)
    })?;
    struct Counts(Rc<Cell<usize>>);
    impl Protocol for Counts {
        fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            count_in_turn(io.context(), &self.0, 1, MAX_ACCEPTS_PER_EVENT);
            Ok(())
        }
        fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            io.send(data)
        }
    }
    let talk = Talk { starts: Duration::ZERO, pieces: 2, len: 10, pause: LATENCY };
    let peers: Vec<_> = (0..count).map(|_| Peer::new(talk)).collect();
    let seen: Vec<_> = peers.iter().map(|(_, seen)| Rc::clone(seen)).collect();
    let peers = RefCell::new(peers);
    sim.machine("peers", [10, 0, 0, 2], move |reactor| {
        for (peer, _) in peers.take() {
            reactor.add(Stream::connect([server_addr()], peer))?;
        }
        Ok(())
    })?;
    rest(sim)?;
    all_served(&seen)?;
    ensure!(accepted.get() == count, "accepted {} of {count}", accepted.get());
    Ok(())
}

/// The queue of a listener overflows: a request to connect is sent again.
pub(crate) fn full_backlog(sim: &mut Sim) -> anyhow::Result<()> {
    let server = add_echo(sim, |listener| listener)?;
    let backlog = 1 + choose(sim, 4);
    sim.set_backlog(server, backlog);
    let talk = Talk { starts: SECOND, pieces: 2, len: 10, pause: LATENCY };
    let mut seen = Vec::new();
    for number in 2..12 {
        let (peer, record) = Peer::new(talk);
        let limits = Limits { connect_timeout: None, ..Limits::default() };
        add_stream(sim, number, talk.starts, limits, peer)?;
        seen.push(record);
    }
    rest(sim)?;
    all_served(&seen)
}

/// A client opens more streams than it has descriptors.
pub(crate) fn descriptor_limit_of_a_client(sim: &mut Sim) -> anyhow::Result<()> {
    add_echo(sim, |listener| listener)?;
    let limit = 2 + choose(sim, 20);
    let talk = Talk { starts: Duration::ZERO, pieces: 3, len: 100, pause: LATENCY };
    let peers: Vec<_> = (0..30).map(|_| Peer::new(talk)).collect();
    let seen: Vec<_> = peers.iter().map(|(_, seen)| Rc::clone(seen)).collect();
    let peers = RefCell::new(peers);
    let client = sim.machine("client", [10, 0, 0, 2], move |reactor| {
        let peers = peers.take();
        reactor.context().call_later(LATENCY, move |cx| {
            for (peer, _) in peers {
                // It fails only if the loop ends.
                let _ = cx.add(Stream::connect([server_addr()], peer));
            }
        });
        Ok(())
    })?;
    // One is the queue of events.
    sim.set_descriptor_limit(client, limit + 1);
    rest(sim)?;
    ensure!(sim.has_ended(client), "the client has not ended");
    let (connected, others) = seen.split_at(limit);
    all_served(connected)?;
    for peer in others {
        let seen = peer.borrow();
        let reason = seen.closed.as_deref().unwrap_or_default();
        ensure!(reason.starts_with("Too many open files"), "{seen:?}");
    }
    Ok(())
}

/// More connect than the limit of the listener: never more are open, and those that come when
/// others have left are served.
pub(crate) fn connection_limit(sim: &mut Sim) -> anyhow::Result<()> {
    let max = 1 + choose(sim, 5);
    let server = add_echo(sim, move |listener| listener.with_max_connections(max))?;
    let early = add_peers(sim, 2..10, 2 * SECOND)?;
    for _ in 0..20 {
        sim.run(SECOND / 20)?;
        let open = open_streams(sim, server);
        ensure!(open <= max, "{open} connections, of at most {max}");
    }
    sim.run(MINUTE)?;
    let (served, rejected): (Vec<_>, Vec<_>) =
        early.into_iter().partition(|peer| peer.borrow().received > 0);
    all_served(&served)?;
    ensure!(served.len() == max, "{} served", served.len());
    let stats = stats(sim, server)?;
    ensure!(stats.rejected_over_limit == rejected.len() as u64, "{stats:?}");
    let late = add_peers(sim, 10..11, SECOND)?;
    rest(sim)?;
    all_served(&late)
}

/// Many connections, one after the other, on few descriptors: nothing is left of any.
pub(crate) fn soak(sim: &mut Sim) -> anyhow::Result<()> {
    let server = add_echo(sim, |listener| listener)?;
    sim.set_descriptor_limit(server, 14);
    let log = Log::new();
    let client = sim.machine("client", [10, 0, 0, 2], move |reactor| {
        for number in 0..100 {
            let at = SECOND / 4 * (number / 10);
            let log = log.clone();
            reactor.context().call_later(at, move |cx| {
                let peer = Probe::new("peer", &log, move |on, io| match (on, number % 4) {
                    (On::Connect, 0) => Ok(io.close()),
                    (On::Connect, _) => io.send(b"hello"),
                    (On::Read(_), 1) => Ok(io.abort()),
                    (On::Read(_), 2) => io.shutdown(),
                    (On::Read(_), _) => Ok(io.close()),
                    (on, _) => passive(on, io),
                });
                // It fails only if the loop ends.
                let _ = cx.add(Stream::connect([server_addr()], peer));
            });
        }
        Ok(())
    })?;
    rest(sim)?;
    ensure!(sim.has_ended(client), "a connection is left");
    ensure!(open_channels(sim, server) == 1, "a channel is left");
    let stats = stats(sim, server)?;
    ensure!(stats.accepted == 100 && stats.accept_pauses == 0, "{stats:?}");
    Ok(())
}
