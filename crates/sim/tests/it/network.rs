//! TCP and Unix sockets, as handlers see them.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Listener, Reactor, Stream};
use sim::{Fault, Faults, Link, Sim};

use crate::common::{
    LATENCY, Log, MINUTE, On, Probe, SECOND, add_client, add_server, echo, passive, pattern,
    server_addr, world, world_of_seed,
};

#[test]
fn round_trip_takes_exactly_twice_the_latency() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    add_server(&mut sim, &log, echo);
    let client = add_client(&mut sim, &log, |on, io| match on {
        On::Connect => io.send(b"ping"),
        On::Read(_) => Ok(io.close()),
        _ => Ok(()),
    });
    sim.rest(MINUTE).unwrap();
    assert_eq!(log.between("client starts", "client connected"), 2 * LATENCY);
    assert_eq!(log.between("client connected", "client read 4"), 2 * LATENCY);
    assert!(sim.has_ended(client));
    assert_eq!(log.lines().last().unwrap(), "server closed: closed by the peer");
}

#[test]
fn bandwidth_delays_large_transfers() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    sim.set_link(Link::default().with_latency(LATENCY, Duration::ZERO).with_bandwidth(10_000));
    add_server(&mut sim, &log, passive);
    add_client(&mut sim, &log, |on, io| match on {
        On::Connect => {
            io.send(&pattern(50_000))?;
            Ok(io.close())
        }
        _ => Ok(()),
    });
    sim.rest(MINUTE).unwrap();
    let took = log.between("client connected", "server eof");
    assert!((5 * SECOND..6 * SECOND).contains(&took), "{took:?}");
}

/// What is sent at once arrives in parts, and parts arrive at once.
#[test]
fn reads_split_and_merge_what_was_written() {
    let (mut has_split, mut has_merged) = (false, false);
    for seed in 0..10 {
        let (log, mut sim) = (Log::new(), world_of_seed(seed, Faults::none()));
        sim.set_link(Link::default().with_latency(LATENCY, LATENCY));
        add_server(&mut sim, &log, passive);
        let mut writes = 0;
        add_client(&mut sim, &log, move |on, io| match on {
            On::Connect | On::Timer => {
                io.send(&pattern(100))?;
                writes += 1;
                if writes < 100 {
                    io.set_timer(Duration::from_millis(1));
                } else {
                    io.close();
                }
                Ok(())
            }
            _ => Ok(()),
        });
        sim.rest(MINUTE).unwrap();
        assert_eq!(log.received("server"), pattern(100).repeat(100));
        let lines = log.lines();
        let lengths =
            lines.iter().filter_map(|line| line.strip_prefix("server read ")?.parse().ok());
        let lengths: Vec<usize> = lengths.collect();
        has_split |= lengths.iter().any(|len| len % 100 != 0);
        has_merged |= lengths.iter().any(|&len| len > 100);
    }
    assert!(has_split && has_merged);
}

/// A peer that does not read: the kernels' buffers fill, the rest stays in the library, and
/// all of it arrives when the peer reads again.
#[test]
fn full_buffers_keep_output_in_the_program() {
    const LEN: usize = 200_000;
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    sim.set_link(Link::default().with_latency(LATENCY, Duration::ZERO).with_buffers(8192, 4096));
    add_server(&mut sim, &log, |on, io| match on {
        On::Connect => {
            io.pause();
            io.set_timer(10 * SECOND);
            Ok(())
        }
        On::Timer => Ok(io.resume()),
        _ => passive(on, io),
    });
    let unsent = Rc::new(Cell::new(0));
    let noted = Rc::clone(&unsent);
    let client = add_client(&mut sim, &log, move |on, io| {
        match on {
            On::Connect => {
                io.send(&pattern(LEN))?;
                io.set_timer(5 * SECOND);
            }
            On::Timer => {
                noted.set(io.unsent());
                io.close();
            }
            _ => {}
        }
        Ok(())
    });
    sim.rest(MINUTE).unwrap();
    assert_eq!(unsent.get(), LEN - 8192 - 4096);
    assert_eq!(log.received("server"), pattern(LEN));
    assert!(sim.has_ended(client));
}

#[test]
fn half_close_lets_the_peer_answer() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    add_server(&mut sim, &log, |on, io| match on {
        On::Eof => {
            io.send(b"and this is the end")?;
            Ok(io.close())
        }
        _ => Ok(()),
    });
    add_client(&mut sim, &log, |on, io| match on {
        On::Connect => {
            io.send(b"all I have")?;
            io.shutdown()
        }
        _ => passive(on, io),
    });
    sim.rest(MINUTE).unwrap();
    assert_eq!(log.received("client"), b"and this is the end");
    assert!(log.has("client closed: closed by the peer"), "{:?}", log.lines());
    assert!(log.has("server closed: closed by the peer"), "{:?}", log.lines());
}

/// close(2) with unread input makes a reset, which the peer sees as an error.
#[test]
fn unread_input_resets_the_connection() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let server = add_server(&mut sim, &log, |on, io| {
        if on == On::Connect {
            io.pause();
        }
        Ok(())
    });
    add_client(&mut sim, &log, |on, io| if on == On::Connect { io.send(b"x") } else { Ok(()) });
    sim.run(SECOND).unwrap();
    sim.kill(server);
    sim.rest(MINUTE).unwrap();
    assert!(log.has("client closed: Connection reset by peer"), "{:?}", log.lines());

    // Without unread input it is an orderly end.
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let server = add_server(&mut sim, &log, passive);
    add_client(&mut sim, &log, |on, io| match on {
        On::Connect => io.send(b"x"),
        _ => passive(on, io),
    });
    sim.run(SECOND).unwrap();
    sim.kill(server);
    sim.rest(MINUTE).unwrap();
    assert!(log.has("client closed: closed by the peer"), "{:?}", log.lines());
}

#[test]
fn abort_resets_the_connection() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    add_server(&mut sim, &log, |on, io| match on {
        On::Read(_) => Ok(io.abort()),
        _ => Ok(()),
    });
    add_client(&mut sim, &log, |on, io| if on == On::Connect { io.send(b"x") } else { Ok(()) });
    sim.rest(MINUTE).unwrap();
    assert!(log.has("client closed: Connection reset by peer"), "{:?}", log.lines());
    assert!(log.has("server closed: closed"), "{:?}", log.lines());
}

#[test]
fn no_listener_refuses_after_a_round_trip() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let server = add_server(&mut sim, &log, passive);
    sim.kill(server);
    add_client(&mut sim, &log, passive);
    sim.rest(MINUTE).unwrap();
    assert_eq!(log.between("client starts", "client closed"), 2 * LATENCY);
    assert!(log.has("Connection refused"), "{:?}", log.lines());
}

/// tcp(7): `tcp_syn_retries` of 6 is about 127 s.
#[test]
fn host_that_does_not_exist_times_out() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    add_client(&mut sim, &log, passive);
    sim.rest(5 * MINUTE).unwrap();
    let took = log.between("client starts", "client closed");
    assert!((127 * SECOND..128 * SECOND).contains(&took), "{took:?}");
    assert!(log.has("Connection timed out"), "{:?}", log.lines());
}

/// The requests that find the queue full are dropped, and sent again.
#[test]
fn backlog_overflow_delays_connections() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let server = add_server(&mut sim, &log, passive);
    sim.set_backlog(server, 2);
    let noted = log.clone();
    sim.machine("clients", [10, 0, 0, 2], move |reactor| {
        for _ in 0..10 {
            let probe = Probe::new("client", &noted, |on, io| match on {
                On::Connect => Ok(io.close()),
                _ => Ok(()),
            });
            reactor.add(Stream::connect([server_addr()], probe))?;
        }
        Ok(())
    })
    .unwrap();
    // The server does not accept meanwhile.
    sim.set_faults(Faults::none().with(Fault::NoDescriptors, 1_000_000));
    sim.run(SECOND / 2).unwrap();
    // One more than the backlog (listen(2), on Linux).
    assert_eq!(log.count("client connected"), 3, "{:?}", log.lines());
    sim.set_faults(Faults::none());
    sim.rest(MINUTE).unwrap();
    assert_eq!(log.count("client connected"), 10, "{:?}", log.lines());
    assert_eq!(log.count("server connected"), 10, "{:?}", log.lines());
}

#[test]
fn descriptor_limit_pauses_the_listener_until_one_is_closed() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let server = add_server(&mut sim, &log, passive);
    // Its queue, its listener, and two connections.
    sim.set_descriptor_limit(server, 4);
    let noted = log.clone();
    sim.machine("clients", [10, 0, 0, 2], move |reactor| {
        for index in 1..=5 {
            let probe = Probe::new("client", &noted, move |on, io| match on {
                On::Connect => Ok(io.set_timer(index * 10 * SECOND)).map(|_| ()),
                On::Timer => Ok(io.close()),
                _ => Ok(()),
            });
            reactor.add(Stream::connect([server_addr()], probe))?;
        }
        Ok(())
    })
    .unwrap();
    sim.run(5 * SECOND).unwrap();
    assert_eq!(log.count("client connected"), 5);
    assert_eq!(log.count("server connected"), 2, "{:?}", log.lines());
    sim.run(10 * SECOND).unwrap();
    assert_eq!(log.count("server connected"), 3, "{:?}", log.lines());
    sim.rest(2 * MINUTE).unwrap();
    assert_eq!(log.count("server connected"), 5, "{:?}", log.lines());
    assert_eq!(log.count("server closed: closed by the peer"), 5, "{:?}", log.lines());
}

/// A partition loses nothing: what was sent arrives when it ends.
#[test]
fn partition_holds_data_back() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let server = add_server(&mut sim, &log, echo);
    let client = add_client(&mut sim, &log, |on, io| match on {
        On::Connect => Ok(io.set_timer(SECOND)).map(|_| ()),
        On::Timer => io.send(b"x"),
        _ => Ok(()),
    });
    sim.run(SECOND / 2).unwrap();
    sim.partition(server, client);
    sim.run(20 * SECOND).unwrap();
    assert!(!log.has("read"), "{:?}", log.lines());
    sim.heal(server, client);
    sim.run(MINUTE).unwrap();
    assert!(log.has("server read 1") && log.has("client read 1"), "{:?}", log.lines());
}

#[test]
fn names_are_those_of_the_world() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let addrs = [IpAddr::from([10, 0, 0, 9]), IpAddr::from([10, 0, 0, 1])];
    sim.add_name("server.test", addrs);
    add_server(&mut sim, &log, echo);
    let noted = log.clone();
    sim.machine("client", [10, 0, 0, 2], move |reactor| {
        for name in ["server.test", "unknown.test"] {
            let probe = Probe::new("client", &noted, |on, io| match on {
                On::Connect => Ok(io.close()),
                _ => Ok(()),
            });
            reactor.add(Stream::connect_host(name, 7, probe))?;
        }
        Ok(())
    })
    .unwrap();
    sim.rest(5 * MINUTE).unwrap();
    // The first address leads nowhere, the second is tried beside it (RFC 8305).
    assert_eq!(log.count("client connected"), 1, "{:?}", log.lines());
    assert!(log.has("Name or service not known"), "{:?}", log.lines());
}

#[test]
fn unix_sockets_connect_programs_of_one_machine() {
    fn setup(log: &Log) -> impl FnMut(&mut Reactor) -> io::Result<()> + 'static {
        let log = log.clone();
        move |reactor| {
            let noted = log.clone();
            let accept = move |_: &_| Ok(Probe::new("server", &noted, echo));
            reactor.add(Listener::bind_unix("/run/echo", accept)?).map(drop)
        }
    }
    fn connect(sim: &mut Sim, log: &Log, ip: [u8; 4]) -> Result<sim::MachineId, sim::SimError> {
        let log = log.clone();
        sim.machine("client", ip, move |reactor| {
            let probe = Probe::new("client", &log, |on, io| match on {
                On::Connect => io.send(b"hello"),
                On::Read(_) => Ok(io.close()),
                _ => Ok(()),
            });
            reactor.add(Stream::connect_unix("/run/echo", probe)).map(drop)
        })
    }
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    sim.machine("server", [10, 0, 0, 1], setup(&log)).unwrap();
    connect(&mut sim, &log, [10, 0, 0, 1]).unwrap();
    sim.rest(MINUTE).unwrap();
    assert_eq!(log.received("client"), b"hello");
    // Another machine has other files.
    connect(&mut sim, &log, [10, 0, 0, 2]).unwrap();
    sim.rest(MINUTE).unwrap();
    assert!(log.has("client closed: No such file"), "{:?}", log.lines());
}
