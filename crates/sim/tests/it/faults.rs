//! Each fault happens, and programs see what its documentation says.

use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use reactor::{Io, Stream};
use sim::{Fault, Faults, Sim, check};

use crate::common::{
    LATENCY, Log, MINUTE, On, Probe, SECOND, add_client, add_server, always, echo, passive,
    pattern, server_addr, world, world_of_seed,
};

/// The length of what is sent below: several segments.
const LEN: usize = 20_000;

/// Sends [`LEN`] bytes when the connection is established, and closes.
fn send_all(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    if on == On::Connect {
        io.send(&pattern(LEN))?;
        io.close();
    }
    Ok(())
}

/// Runs a client that sends [`LEN`] bytes, until all is at rest. All of it arrives.
fn transfer(mut sim: Sim) -> (Log, Sim) {
    let log = Log::new();
    add_server(&mut sim, &log, passive);
    add_client(&mut sim, &log, send_all);
    sim.rest(MINUTE).unwrap();
    assert_eq!(log.received("server"), pattern(LEN));
    assert!(log.has("client closed: closed"), "{:?}", log.lines());
    assert!(log.has("server closed: closed by the peer"), "{:?}", log.lines());
    (log, sim)
}

#[test]
fn short_read_splits_what_has_arrived() {
    let (plain, _) = transfer(world(Faults::none()));
    let (log, sim) = transfer(always(Fault::ShortRead));
    assert!(sim.fault_counts().get(Fault::ShortRead) > 0);
    let (reads, plain) = (log.count("server read"), plain.count("server read"));
    assert!(reads > 2 * plain, "{reads} reads, {plain} without the fault");
}

#[test]
fn short_write_leaves_output_queued() {
    let unsent_after_send = |sim: Sim| {
        let mut sim = sim;
        let log = Log::new();
        let noted = log.clone();
        add_server(&mut sim, &log, passive);
        add_client(&mut sim, &log, move |on, io| {
            if on == On::Connect {
                io.send(&pattern(LEN))?;
                noted.note(io.context().now(), format!("unsent {}", io.unsent()));
                io.close();
            }
            Ok(())
        });
        sim.rest(MINUTE).unwrap();
        assert_eq!(log.received("server"), pattern(LEN));
        log
    };
    assert!(unsent_after_send(world(Faults::none())).has("unsent 0"));
    let log = unsent_after_send(always(Fault::ShortWrite));
    assert!(!log.has("unsent 0") && log.has("unsent"), "{:?}", log.lines());
}

#[test]
fn interrupt_is_not_seen_by_programs() {
    let (log, sim) = transfer(world(Faults::none().with(Fault::Interrupt, 500_000)));
    assert!(sim.fault_counts().get(Fault::Interrupt) > 0);
    assert_eq!(log.count("connected"), 2);
}

#[test]
fn spurious_event_calls_nothing() {
    let (log, sim) = transfer(world(Faults::none().with(Fault::Spurious, 500_000)));
    assert!(sim.fault_counts().get(Fault::Spurious) > 0);
    assert!(!log.has("read 0"), "{:?}", log.lines());
}

/// A client that sends one byte, a second after it is connected.
fn sends_after_a_second(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match on {
        On::Connect => {
            io.set_timer(SECOND);
            Ok(())
        }
        On::Timer => io.send(b"x"),
        _ => Ok(()),
    }
}

#[test]
fn loss_costs_a_retransmission() {
    let mut sim = world(Faults::none());
    let log = Log::new();
    add_server(&mut sim, &log, passive);
    add_client(&mut sim, &log, |on, io| if on == On::Connect { io.send(b"x") } else { Ok(()) });
    sim.set_faults(Faults::none().with(Fault::Loss, 1_000_000));
    // The request to connect is lost in its first second.
    sim.run(SECOND / 2).unwrap();
    assert!(!log.has("connected"));
    sim.set_faults(Faults::none());
    sim.run(SECOND).unwrap();
    assert_eq!(log.between("client starts", "client connected"), SECOND + 2 * LATENCY);
    assert_eq!(log.between("client connected", "server read"), LATENCY);

    let mut sim = world(Faults::none());
    let log = Log::new();
    add_server(&mut sim, &log, passive);
    add_client(&mut sim, &log, sends_after_a_second);
    sim.run(SECOND / 2).unwrap();
    sim.set_faults(Faults::none().with(Fault::Loss, 1_000_000));
    sim.run(SECOND).unwrap();
    let lost_for = Duration::from_millis(200);
    assert_eq!(log.between("client timer", "server read"), lost_for + LATENCY);
}

#[test]
fn delay_is_at_most_a_second_and_keeps_the_order() {
    let mut latest = Duration::ZERO;
    for seed in 0..20 {
        let (log, sim) =
            transfer(world_of_seed(seed, Faults::none().with(Fault::Delay, 1_000_000)));
        assert!(sim.fault_counts().get(Fault::Delay) > 0);
        let first = log.between("client connected", "server read");
        assert!(first <= SECOND + LATENCY, "{first:?}");
        latest = latest.max(first);
    }
    assert!(latest > SECOND / 2, "{latest:?}");
}

#[test]
fn reset_is_seen_at_both_ends() {
    let mut sim = always(Fault::Reset);
    let log = Log::new();
    add_server(&mut sim, &log, passive);
    add_client(&mut sim, &log, sends_after_a_second);
    sim.rest(MINUTE).unwrap();
    for end in ["client", "server"] {
        let closed = format!("{end} closed: Connection reset by peer");
        assert!(log.has(&closed), "{:?}", log.lines());
    }
    assert!(!log.has("server read"), "{:?}", log.lines());
}

#[test]
fn refuse_rejects_although_a_program_listens() {
    let mut sim = always(Fault::Refuse);
    let log = Log::new();
    add_server(&mut sim, &log, passive);
    let client = add_client(&mut sim, &log, passive);
    sim.rest(MINUTE).unwrap();
    assert_eq!(log.between("client starts", "client closed"), 2 * LATENCY);
    assert!(log.has("Connection refused") && !log.has("connected"), "{:?}", log.lines());
    assert!(sim.has_ended(client));
}

#[test]
fn accept_aborted_loses_one_connection_only() {
    let mut sim = always(Fault::AcceptAborted);
    let log = Log::new();
    let server = add_server(&mut sim, &log, echo);
    let client = add_client(&mut sim, &log, passive);
    sim.rest(MINUTE).unwrap();
    // To the client it is established, until the reset arrives.
    assert!(log.has("client connected") && !log.has("server"), "{:?}", log.lines());
    assert!(log.has("reset by peer"), "{:?}", log.lines());
    sim.set_faults(Faults::none());
    sim.restart(client).unwrap();
    sim.run(SECOND).unwrap();
    assert!(log.has("server connected") && !sim.has_ended(server), "{:?}", log.lines());
}

#[test]
fn no_descriptors_pauses_the_listener() {
    let mut sim = always(Fault::NoDescriptors);
    let log = Log::new();
    let server = add_server(&mut sim, &log, passive);
    add_client(&mut sim, &log, send_all);
    sim.run(10 * SECOND).unwrap();
    assert!(log.has("client connected") && !log.has("server"), "{:?}", log.lines());
    let stats = |sim: &mut Sim| sim.with_reactor(server, |reactor| reactor.stats().clone());
    let pauses = stats(&mut sim).unwrap().accept_pauses;
    // Once in a while, and not as fast as it can.
    assert!((5..=200).contains(&pauses), "{pauses}");
    sim.set_faults(Faults::none());
    sim.rest(MINUTE).unwrap();
    assert_eq!(log.received("server"), pattern(LEN));
}

#[test]
fn name_failure_is_reported_as_by_the_system() {
    let mut sim = world(Faults::none());
    sim.add_name("server.test", [IpAddr::from([10, 0, 0, 1])]);
    let log = Log::new();
    add_server(&mut sim, &log, passive);
    let noted = log.clone();
    let client = sim
        .machine("client", [10, 0, 0, 2], move |reactor| {
            let probe = Probe::new("client", &noted, send_all);
            reactor.add(Stream::connect_host("server.test", 7, probe)).map(drop)
        })
        .unwrap();
    sim.rest(MINUTE).unwrap();
    assert!(log.has("client closed: closed"), "{:?}", log.lines());
    sim.set_faults(Faults::none().with(Fault::NameFailure, 1_000_000));
    sim.restart(client).unwrap();
    sim.rest(MINUTE).unwrap();
    let failure = "Name or service not known";
    assert!(log.lines().last().unwrap().contains(failure), "{:?}", log.lines());
    assert_eq!(sim.fault_counts().get(Fault::NameFailure), 1);
}

/// Runs a client that is echoed a byte every 100 ms, with `fault` in the first ten seconds.
/// Returns the longest time between two echoes.
fn longest_gap(seed: u64, fault: Fault, rate: u32) -> (Duration, Sim) {
    let mut sim = world_of_seed(seed, Faults::none().with(fault, rate));
    let log = Log::new();
    let server = add_server(&mut sim, &log, echo);
    sim.allow_crashes(server);
    let noted = log.clone();
    add_client(&mut sim, &log, move |on, io| match on {
        On::Connect | On::Timer => {
            io.set_timer(SECOND / 10);
            io.send(b"x")
        }
        On::Read(_) => {
            noted.note(io.context().now(), "echo");
            Ok(())
        }
        On::Eof => passive(on, io),
    });
    sim.chaos(10 * SECOND).unwrap();
    sim.run(20 * SECOND).unwrap();
    assert!(sim.fault_counts().get(fault) > 0);
    (log.longest_between("echo"), sim)
}

#[test]
fn pause_stops_a_machine_for_at_most_two_seconds() {
    let (undisturbed, _) = longest_gap(1, Fault::Interrupt, 10_000);
    assert_eq!(undisturbed, SECOND / 10);
    let (gap, _) = longest_gap(1, Fault::Pause, 100_000);
    assert!(gap > SECOND / 2, "{gap:?}");
}

#[test]
fn partition_stops_the_network_and_loses_nothing() {
    let (gap, _) = longest_gap(1, Fault::Partition, 300_000);
    assert!(gap > SECOND, "{gap:?}");
}

#[test]
fn crash_is_noticed_when_the_machine_is_back() {
    let mut sim = world_of_seed(2, Faults::none().with(Fault::Crash, 200_000));
    let log = Log::new();
    let server = add_server(&mut sim, &log, echo);
    sim.allow_crashes(server);
    add_client(&mut sim, &log, |on, io| match on {
        On::Connect | On::Timer => {
            io.set_timer(SECOND / 10);
            io.send(b"x")
        }
        _ => passive(on, io),
    });
    sim.chaos(30 * SECOND).unwrap();
    sim.rest(MINUTE).unwrap();
    assert!(sim.fault_counts().get(Fault::Crash) > 0);
    assert!(log.has("server closed: shut down"), "{:?}", log.lines());
    assert!(log.has("client closed: Connection reset by peer"), "{:?}", log.lines());
    // It serves again.
    let log = Log::new();
    let noted = log.clone();
    sim.machine("another", [10, 0, 0, 3], move |reactor| {
        reactor
            .add(Stream::connect([server_addr()], Probe::new("another", &noted, send_all)))
            .map(drop)
    })
    .unwrap();
    sim.rest(MINUTE).unwrap();
    assert!(log.has("another closed: closed"), "{:?}", log.lines());
}

#[test]
fn a_fault_that_never_happens_fails_the_check() {
    let scenario = |faults: Faults| {
        move |sim: &mut Sim| {
            sim.set_faults(faults.clone());
            let log = Log::new();
            add_server(sim, &log, passive);
            add_client(sim, &log, send_all);
            sim.rest(MINUTE)?;
            Ok(())
        }
    };
    check(0..20, scenario(Faults::none().with(Fault::ShortRead, 500_000)));
    let faults = Faults::none().with(Fault::ShortRead, 500_000).with(Fault::DatagramLoss, 500_000);
    let failed = catch_unwind(AssertUnwindSafe(|| check(0..20, scenario(faults)))).unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    assert!(message.ends_with("never happened: [DatagramLoss]"), "{message}");
}

/// A close reads what has arrived, since unread input would make it a reset: also if a signal
/// interrupts the read.
#[test]
fn interrupted_read_does_not_turn_a_close_into_a_reset() {
    for by_another_channel in [false, true] {
        for seed in 0..50 {
            let faults = Faults::none().with(Fault::Interrupt, 500_000);
            let (log, mut sim) = (Log::new(), world_of_seed(seed, faults));
            add_server(&mut sim, &log, move |on, io| {
                match on {
                    On::Connect => {
                        io.pause();
                        io.set_timer(SECOND);
                    }
                    On::Timer if by_another_channel => {
                        let token = io.token();
                        io.context().close(token);
                    }
                    On::Timer => io.close(),
                    _ => {}
                }
                Ok(())
            });
            add_client(&mut sim, &log, |on, io| match on {
                On::Connect => io.send(b"not read"),
                _ => passive(on, io),
            });
            sim.rest(MINUTE).unwrap();
            let lines = log.lines();
            assert!(log.has("client closed: closed by the peer"), "seed {seed}: {lines:?}");
        }
    }
}
