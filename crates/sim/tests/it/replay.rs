//! A seed decides everything; worlds come to rest, or say why not.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Dispatcher, Io, Protocol, Reactor, Reconnector, Source, Stream};
use sim::{EventKind, Fault, Faults, ScenarioResult, Sim, SimError, run_seed, run_seeds};

use crate::common::{
    LATENCY, Log, MINUTE, On, SECOND, add_client, add_server, echo, passive, pattern, server_addr,
    world, world_of_seed,
};

/// A client that is echoed some bytes, with all faults.
fn scenario(sim: &mut Sim) -> ScenarioResult {
    sim.set_faults(Faults::all());
    sim.set_link(sim::Link::default().with_latency(LATENCY, LATENCY));
    let log = Log::new();
    let server = add_server(sim, &log, echo);
    sim.allow_crashes(server);
    let mut returned = 0;
    add_client(sim, &log, move |on, io| match on {
        On::Connect => io.send(&pattern(20_000)),
        On::Read(data) => {
            returned += data.len();
            if returned == 20_000 {
                io.close();
            }
            Ok(())
        }
        _ => passive(on, io),
    });
    sim.chaos(10 * SECOND)?;
    sim.rest(60 * MINUTE)?;
    Ok(())
}

#[test]
fn one_seed_has_one_trace() {
    let (first, second) = (run_seeds(0..100, scenario), run_seeds(0..100, scenario));
    assert!(first.failures.is_empty(), "{:?}", first.failures[0]);
    assert_eq!(first.hash, second.hash);
    assert_eq!(first.faults, second.faults);
    let hashes: Vec<_> = (0..100).map(|seed| run_seed(seed, scenario).hash).collect();
    let mut distinct = hashes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 100);
}

/// The random part of the pauses of a client that reconnects comes from the seed too.
#[test]
fn pauses_between_attempts_are_those_of_the_seed() {
    struct Silent;
    impl Protocol for Silent {
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }
    let last_pause = |seed| {
        let (pauses, mut sim) = (Rc::new(Cell::new(None)), world_of_seed(seed, Faults::none()));
        let seen = Rc::clone(&pauses);
        let setup = move |reactor: &mut Reactor| {
            let seen = Rc::clone(&seen);
            let client = Reconnector::new(|| Ok(Stream::connect([server_addr()], Silent)))
                .with_handler(move |_, _, pause| seen.set(pause));
            reactor.add(client).map(drop)
        };
        sim.machine("client", [10, 0, 0, 2], setup).unwrap();
        // No machine has the server's address.
        sim.run(60 * MINUTE).unwrap();
        pauses.get().expect("a pause")
    };
    assert_eq!(last_pause(1), last_pause(1));
    assert_ne!(last_pause(1), last_pause(2));
}

#[test]
fn recording_changes_nothing() {
    let recorded = run_seed(3, |sim| {
        sim.record_events();
        scenario(sim)
    });
    assert_eq!(recorded.hash, run_seed(3, scenario).hash);
}

/// The hash covers the bytes, and not only their number.
#[test]
fn other_bytes_have_another_hash() {
    let hash = |byte: u8| {
        let (log, mut sim) = (Log::new(), world(Faults::none()));
        add_server(&mut sim, &log, echo);
        add_client(&mut sim, &log, move |on, io| match on {
            On::Connect => io.send(&[byte]),
            On::Read(_) => Ok(io.close()),
            _ => Ok(()),
        });
        sim.rest(MINUTE).unwrap();
        sim.hash()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

/// Two connections to one server. What happens to the second is the same, whatever happens
/// to the first.
#[test]
fn connections_do_not_share_random_numbers() {
    let reads_of_second = |first_sends: usize| {
        let mut sim = world_of_seed(5, Faults::none());
        // Only the clients' machines differ in what they do.
        sim.set_faults(Faults::none().with(Fault::ShortWrite, 300_000).with(Fault::Loss, 300_000));
        let (quiet, log) = (Log::new(), Log::new());
        add_server(&mut sim, &quiet, passive);
        add_client(&mut sim, &quiet, move |on, io| match on {
            On::Connect => io.send(&pattern(first_sends)),
            _ => Ok(()),
        });
        let noted = log.clone();
        sim.machine("second", [10, 0, 0, 3], move |reactor| {
            let log = noted.clone();
            log.note(reactor.context().clock(), "start");
            let probe = crate::common::Probe::new("second", &log, |on, io| match on {
                On::Connect => {
                    io.send(&pattern(5000))?;
                    Ok(io.close())
                }
                _ => Ok(()),
            });
            let addr = server_addr();
            reactor.add(Stream::connect([addr], probe)).map(drop)
        })
        .unwrap();
        sim.run(MINUTE).unwrap();
        log.between("start", "second closed")
    };
    let times: Vec<_> = [0, 1, 5000, 20_000].map(reads_of_second).into();
    assert!(times.windows(2).all(|pair| pair[0] == pair[1]), "{times:?}");
}

#[test]
fn chaos_ends_and_machines_are_started_again() {
    let mut sim = world(Faults::none().with(Fault::Crash, 300_000).with(Fault::Pause, 300_000));
    let log = Log::new();
    let server = add_server(&mut sim, &log, echo);
    sim.allow_crashes(server);
    sim.chaos(10 * SECOND).unwrap();
    assert!(sim.fault_counts().get(Fault::Crash) > 0);
    assert!(!sim.has_ended(server));
    let before = sim.fault_counts();
    sim.rest(MINUTE).unwrap();
    assert_eq!(sim.fault_counts(), before);
}

#[test]
fn world_that_does_not_rest_names_what_it_waits_for() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    add_server(&mut sim, &log, |on, io| match on {
        On::Connect | On::Timer => Ok(io.set_timer(SECOND)).map(|_| ()),
        _ => passive(on, io),
    });
    add_client(&mut sim, &log, passive);
    let error = sim.rest(MINUTE).unwrap_err().to_string();
    assert!(error.starts_with("the world does not rest: server has a timer at 60."), "{error}");
}

#[test]
fn output_that_nothing_will_move_is_an_error() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    add_server(&mut sim, &log, |on, io| {
        if on == On::Connect {
            io.pause();
        }
        Ok(())
    });
    let log = Log::new();
    add_client(&mut sim, &log, |on, io| match on {
        On::Connect => io.send(&pattern(200_000)),
        _ => Ok(()),
    });
    let error = sim.rest(MINUTE).unwrap_err();
    assert!(matches!(error, SimError::Stuck(_)), "{error}");
    assert!(error.to_string().contains("client has"), "{error}");
}

#[test]
fn panic_of_a_callback_is_a_failure_unless_allowed() {
    let run = |allowed: bool| {
        let (log, mut sim) = (Log::new(), world(Faults::none()));
        if allowed {
            sim.allow_panics();
        }
        add_server(&mut sim, &log, |on, _| match on {
            On::Read(_) => panic!("as it should"),
            _ => Ok(()),
        });
        add_client(&mut sim, &log, |on, io| if on == On::Connect { io.send(b"x") } else { Ok(()) });
        sim.rest(MINUTE)
    };
    let error = run(false).unwrap_err();
    assert!(matches!(&error, SimError::Panicked(text) if text.contains("as it should")), "{error}");
    run(true).unwrap();
}

/// A channel that always has something to do.
struct Restless;

impl Dispatcher for Restless {
    fn source(&self) -> Source<'_> {
        Source::NONE
    }

    fn handle_add(&mut self, cx: &mut reactor::Context) -> io::Result<()> {
        let _ = cx.set_timer(Duration::ZERO);
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut reactor::Context, _: reactor::TimerId) -> io::Result<()> {
        let _ = cx.set_timer(Duration::ZERO);
        Ok(())
    }
}

#[test]
fn program_that_spins_is_named() {
    let mut sim = world(Faults::none());
    sim.machine("restless", [10, 0, 0, 1], |reactor| reactor.add(Restless).map(drop)).unwrap();
    let error = sim.run(SECOND).unwrap_err();
    assert_eq!(error.to_string(), "restless spins");
}

#[test]
fn events_tell_what_happened() {
    let (log, mut sim) = (Log::new(), world(Faults::none().with(Fault::ShortRead, 1_000_000)));
    sim.record_events();
    add_server(&mut sim, &log, echo);
    add_client(&mut sim, &log, |on, io| match on {
        On::Connect => io.send(b"x"),
        _ => Ok(()),
    });
    sim.run(SECOND).unwrap();
    let events = sim.events();
    let find = |kind: EventKind, text: &str| {
        let found = events.iter().find(|event| event.kind == kind && event.text.contains(text));
        found.unwrap_or_else(|| panic!("no {text:?} in {events:?}"))
    };
    let message = find(EventKind::Message, "1 byte \"x\"");
    assert_eq!((message.machine, message.to), (1, Some(0)));
    assert_eq!(message.at, 3 * LATENCY);
    assert_eq!(find(EventKind::Fault, "short read").machine, 0);
    assert_eq!(find(EventKind::World, "started").at, Duration::ZERO);
    find(EventKind::Call, "listen 10.0.0.1:7");
    assert_eq!(sim.machine_names(), ["server", "client"]);
}
