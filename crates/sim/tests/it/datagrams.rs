//! Datagrams: lost, duplicated, reordered, and sent to where nobody receives them.

use std::io;
use std::time::Duration;

use reactor::{Address, Datagram, DatagramIo, DatagramProtocol, TimerId};
use sim::{Fault, Faults, Link, MachineId, Sim};

use crate::common::{LATENCY, Log, MINUTE, SECOND, world, world_of_seed};

const COUNT: usize = 50;

/// Logs what it receives.
struct Receiver(Log);

impl DatagramProtocol for Receiver {
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        _: &Address,
    ) -> io::Result<()> {
        self.0.note(io.context().now(), format!("received {}", String::from_utf8_lossy(data)));
        Ok(())
    }
}

/// Sends [`COUNT`] numbered datagrams, one a millisecond, and closes.
struct Sender {
    log: Log,
    sent: usize,
}

impl DatagramProtocol for Sender {
    fn handle_add(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        io.set_timer(Duration::from_millis(1));
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut DatagramIo<'_>, _: TimerId) -> io::Result<()> {
        if self.sent == COUNT {
            io.close();
            return Ok(());
        }
        self.log.note(io.context().now(), format!("sent {}", self.sent));
        io.send(self.sent.to_string().as_bytes())?;
        self.sent += 1;
        io.set_timer(Duration::from_millis(1));
        Ok(())
    }

    fn handle_datagram(&mut self, _: &mut DatagramIo<'_>, _: &[u8], _: &Address) -> io::Result<()> {
        Ok(())
    }
}

fn add_receiver(sim: &mut Sim, log: &Log) -> MachineId {
    let log = log.clone();
    sim.machine("receiver", [10, 0, 0, 1], move |reactor| {
        reactor.add(Datagram::bind("10.0.0.1:7", Receiver(log.clone()))?).map(drop)
    })
    .unwrap()
}

fn add_sender(sim: &mut Sim, log: &Log) -> MachineId {
    let log = log.clone();
    sim.machine("sender", [10, 0, 0, 2], move |reactor| {
        let sender = Sender { log: log.clone(), sent: 0 };
        reactor.add(Datagram::connect("10.0.0.1:7", sender)?).map(drop)
    })
    .unwrap()
}

/// Sends [`COUNT`] datagrams. Returns the numbers of those that arrived, in their order.
fn arrived(faults: Faults, seed: u64) -> (Vec<usize>, Sim) {
    let (log, mut sim) = (Log::new(), world_of_seed(seed, faults));
    add_receiver(&mut sim, &log);
    let sender = add_sender(&mut sim, &log);
    sim.rest(MINUTE).unwrap();
    assert!(sim.has_ended(sender));
    let lines = log.lines();
    let numbers = lines.iter().filter_map(|line| line.strip_prefix("received ")?.parse().ok());
    (numbers.collect(), sim)
}

#[test]
fn datagrams_arrive_in_order_and_once_without_faults() {
    let (numbers, _) = arrived(Faults::none(), 1);
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn loss_removes_datagrams() {
    let (numbers, sim) = arrived(Faults::none().with(Fault::DatagramLoss, 300_000), 1);
    let lost = usize::try_from(sim.fault_counts().get(Fault::DatagramLoss)).unwrap();
    assert!(lost > 0);
    assert_eq!(numbers.len(), COUNT - lost);
    assert!(numbers.is_sorted());
}

#[test]
fn duplicate_delivers_datagrams_twice() {
    let (mut numbers, sim) = arrived(Faults::none().with(Fault::DatagramDuplicate, 300_000), 1);
    let doubled = usize::try_from(sim.fault_counts().get(Fault::DatagramDuplicate)).unwrap();
    assert!(doubled > 0);
    assert_eq!(numbers.len(), COUNT + doubled);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), COUNT);
}

#[test]
fn reorder_lets_later_datagrams_overtake() {
    let (mut numbers, sim) = arrived(Faults::none().with(Fault::DatagramReorder, 300_000), 1);
    assert!(sim.fault_counts().get(Fault::DatagramReorder) > 0);
    assert!(!numbers.is_sorted());
    numbers.sort_unstable();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
}

/// Shrinking: without one fault, the others happen to the same datagrams.
#[test]
fn one_fault_does_not_change_another() {
    let loss = Faults::none().with(Fault::DatagramLoss, 200_000);
    for seed in 0..20 {
        let (alone, _) = arrived(loss.clone(), seed);
        let (mut both, sim) = arrived(loss.clone().with(Fault::DatagramDuplicate, 500_000), seed);
        assert!(sim.fault_counts().get(Fault::DatagramDuplicate) > 0);
        both.sort_unstable();
        both.dedup();
        assert_eq!(both, alone, "seed {seed}");
    }
}

#[test]
fn jitter_reorders_datagrams_too() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    sim.set_link(Link::default().with_latency(LATENCY, SECOND));
    add_receiver(&mut sim, &log);
    add_sender(&mut sim, &log);
    sim.rest(MINUTE).unwrap();
    let mut received = log.lines();
    received.retain(|line| line.starts_with("received"));
    assert_eq!(received.len(), COUNT);
    let in_order: Vec<_> = (0..COUNT).map(|number| format!("received {number}")).collect();
    assert_ne!(received, in_order);
}

/// A host without such a program answers with an ICMP message, which the library counts.
#[test]
fn icmp_error_is_counted_and_loses_nothing_else() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let receiver = add_receiver(&mut sim, &log);
    sim.kill(receiver);
    let sender = add_sender(&mut sim, &log);
    sim.run(Duration::from_millis(45)).unwrap();
    let stats = sim.with_reactor(sender, |reactor| reactor.stats().clone()).unwrap();
    assert!(stats.icmp_errors > 5, "{}", stats.icmp_errors);
    sim.restart(receiver).unwrap();
    sim.rest(MINUTE).unwrap();
    assert!(sim.has_ended(sender));
    let count = log.count("received");
    assert!((10..COUNT - 5).contains(&count), "{count}");
}

#[test]
fn host_that_does_not_exist_is_silent() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let sender = add_sender(&mut sim, &log);
    sim.run(Duration::from_millis(45)).unwrap();
    let stats = sim.with_reactor(sender, |reactor| reactor.stats().clone()).unwrap();
    assert_eq!(stats.icmp_errors, 0);
}

#[test]
fn partition_loses_datagrams() {
    let (log, mut sim) = (Log::new(), world(Faults::none()));
    let receiver = add_receiver(&mut sim, &log);
    let sender = add_sender(&mut sim, &log);
    sim.partition(receiver, sender);
    sim.run(Duration::from_millis(30)).unwrap();
    assert_eq!(log.count("received"), 0);
    sim.heal(receiver, sender);
    sim.rest(MINUTE).unwrap();
    let count = log.count("received");
    assert!((20..COUNT - 10).contains(&count), "{count}");
}
