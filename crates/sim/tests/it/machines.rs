//! Machines: their clocks, signals and posts; losing power, and starting again.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use reactor::signal::{SIGTERM, Signals};
use reactor::{Reactor, inbox};
use sim::{Faults, SimError};

use crate::common::{
    LATENCY, Log, MINUTE, On, SECOND, add_client, add_server, echo, passive, world,
};

#[test]
fn timers_are_exact_and_take_no_real_time() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let noted = log.clone();
    let machine = sim
        .machine("alone", [10, 0, 0, 1], move |reactor| {
            let log = noted.clone();
            log.note(reactor.context().clock(), "start");
            reactor.context().call_later(1000 * 3600 * SECOND, move |cx| {
                log.note(cx.now(), "a thousand hours later");
            });
            Ok(())
        })
        .unwrap();
    sim.rest(2000 * 3600 * SECOND).unwrap();
    assert_eq!(log.between("start", "later"), 1000 * 3600 * SECOND);
    assert_eq!(sim.elapsed(), 1000 * 3600 * SECOND);
    assert!(sim.has_ended(machine));
}

#[test]
fn signal_reaches_its_handler_or_ends_the_program() {
    let mut sim = world(Faults::none());
    let received = Rc::new(Cell::new(0));
    let counted = Rc::clone(&received);
    let handles = sim
        .machine("handles", [10, 0, 0, 1], move |reactor| {
            let received = Rc::clone(&counted);
            let signals = Signals::new(&[SIGTERM], move |_, signal| received.set(signal))?;
            reactor.context().call_later(MINUTE, |_| ());
            reactor.add(signals).map(drop)
        })
        .unwrap();
    let ignores = sim
        .machine("ignores", [10, 0, 0, 2], |reactor| {
            reactor.context().call_later(MINUTE, |_| ());
            Ok(())
        })
        .unwrap();
    for machine in [handles, ignores] {
        sim.signal(machine, SIGTERM);
    }
    assert!(sim.run(SECOND).unwrap());
    assert_eq!(received.get(), SIGTERM);
    assert!(!sim.has_ended(handles) && sim.has_ended(ignores));
}

#[test]
fn posts_and_messages_wake_the_loop() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let (noted, kept) = (log.clone(), Rc::new(Cell::new(None)));
    let sender = Rc::clone(&kept);
    let machine = sim
        .machine("alone", [10, 0, 0, 1], move |reactor| {
            let log = noted.clone();
            let (to, from) = inbox(10, move |cx, text: &'static str| {
                log.note(cx.now(), text);
                Ok(())
            });
            reactor.add(from)?;
            sender.set(Some((to, reactor.handle())));
            Ok(())
        })
        .unwrap();
    sim.run(SECOND).unwrap();
    let (to, handle) = kept.take().unwrap();
    to.send("message").unwrap();
    let noted = log.clone();
    sim.with_reactor(machine, |reactor| {
        let log = noted.clone();
        reactor.context().call_later(Duration::ZERO, move |cx| log.note(cx.now(), "call"));
    });
    drop(to);
    sim.rest(MINUTE).unwrap();
    assert!(log.has("message") && log.has("call"), "{:?}", log.lines());
    assert!(sim.has_ended(machine));
    assert!(handle.post(|_| ()).is_err());
}

/// A client that sends a byte a second. The server loses power, and its peers receive nothing.
fn half_open(log: &Log) -> (sim::Sim, sim::MachineId) {
    let mut sim = world(Faults::none());
    let server = add_server(&mut sim, log, echo);
    add_client(&mut sim, log, |on, io| match on {
        On::Connect | On::Timer => {
            io.set_timer(SECOND);
            io.send(b"x")
        }
        _ => passive(on, io),
    });
    sim.run(10 * SECOND + SECOND / 2).unwrap();
    assert_eq!(log.count("client read"), 11);
    sim.crash(server);
    (sim, server)
}

#[test]
fn half_open_connection_is_reset_once_the_machine_is_back() {
    let log = Log::new();
    let (mut sim, server) = half_open(&log);
    sim.run(20 * SECOND).unwrap();
    // In the memory of the machine that lost its power, this is the end.
    assert!(log.has("server closed: shut down"), "{:?}", log.lines());
    assert!(!log.has("client closed"), "{:?}", log.lines());
    sim.restart(server).unwrap();
    sim.rest(MINUTE).unwrap();
    assert!(log.has("client closed: Connection reset by peer"), "{:?}", log.lines());
}

/// tcp(7): `tcp_retries2` of 15 is between 13 and 30 minutes.
#[test]
fn half_open_connection_times_out_while_the_machine_is_off() {
    let log = Log::new();
    let (mut sim, _) = half_open(&log);
    sim.rest(60 * MINUTE).unwrap();
    assert!(log.has("client closed: Connection timed out"), "{:?}", log.lines());
    let took = log.between("server closed", "client closed");
    assert!((13 * MINUTE..30 * MINUTE).contains(&took), "{took:?}");
}

#[test]
fn killed_program_ends_its_connections_in_an_orderly_way() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let server = add_server(&mut sim, &log, passive);
    add_client(&mut sim, &log, passive);
    sim.run(SECOND).unwrap();
    sim.kill(server);
    sim.rest(MINUTE).unwrap();
    assert_eq!(log.between("server closed", "client closed"), LATENCY);
    assert!(log.has("client closed: closed by the peer"), "{:?}", log.lines());
    sim.restart(server).unwrap();
    assert!(!sim.has_ended(server));
}

#[test]
fn drain_lets_connections_finish() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let server = add_server(&mut sim, &log, echo);
    add_client(&mut sim, &log, |on, io| match on {
        On::Connect => {
            io.set_timer(3 * SECOND);
            io.send(b"x")
        }
        On::Timer => Ok(io.close()),
        _ => passive(on, io),
    });
    sim.run(SECOND).unwrap();
    sim.with_reactor(server, |reactor| reactor.context().drain(10 * SECOND)).unwrap();
    sim.rest(MINUTE).unwrap();
    assert!(sim.has_ended(server));
    assert!(log.has("server closed: closed by the peer"), "{:?}", log.lines());
    assert!(sim.elapsed() < 4 * SECOND, "{:?}", sim.elapsed());
}

#[test]
fn program_that_does_not_start_is_an_error() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    add_server(&mut sim, &log, passive);
    let setup = |_: &mut Reactor| Err(std::io::Error::other("no configuration"));
    let error = sim.machine("broken", [10, 0, 0, 2], setup).unwrap_err();
    assert!(matches!(error, SimError::Setup { .. }));
    assert_eq!(error.to_string(), "broken does not start: no configuration");
    // Nor do two programs that listen on one address of one host.
    let second = |reactor: &mut Reactor| {
        let accept = |_: &_| Ok(crate::common::Probe::new("", &Log::new(), passive));
        reactor.add(reactor::Listener::bind("10.0.0.1:7", accept)?).map(drop)
    };
    let error = sim.machine("second", [10, 0, 0, 1], second).unwrap_err().to_string();
    assert!(error.contains("Address already in use"), "{error}");
}
