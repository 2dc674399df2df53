//! proptest reduces a world that fails to what matters. The seed stays: each fault has random
//! streams of its own, so the others do the same without it.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::{Config, TestError, TestRng, TestRunner};
use reactor::{Address, Datagram, DatagramIo, DatagramProtocol, TimerId};
use sim::{Fault, Faults, Outcome, ScenarioResult, Sim, run_seed};

use crate::common::{LATENCY, MINUTE, SECOND};

/// What decides about a world.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameters {
    seed: u64,
    faults: Vec<Fault>,
    clients: u8,
    /// How many votes each client sends.
    votes: u32,
}

fn parameters() -> impl Strategy<Value = Parameters> {
    // A smaller seed is no simpler world.
    let seed = any::<u64>().no_shrink();
    let faults = subsequence(&Fault::ALL[..], 0..=Fault::ALL.len());
    (seed, faults, 1..=5_u8, 1..=20_u32).prop_map(|(seed, faults, clients, votes)| Parameters {
        seed,
        faults,
        clients,
        votes,
    })
}

/// Counts votes. Its defect: it counts one that arrives twice as two.
struct Counter(Rc<Cell<u32>>);

impl DatagramProtocol for Counter {
    fn handle_datagram(&mut self, _: &mut DatagramIo<'_>, _: &[u8], _: &Address) -> io::Result<()> {
        self.0.set(self.0.get() + 1);
        Ok(())
    }
}

/// Sends a vote every 100 ms.
struct Voter {
    unsent: u32,
}

impl DatagramProtocol for Voter {
    fn handle_add(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        io.set_timer(SECOND / 10);
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut DatagramIo<'_>, _: TimerId) -> io::Result<()> {
        if self.unsent == 0 {
            io.close();
            return Ok(());
        }
        self.unsent -= 1;
        io.set_timer(SECOND / 10);
        io.send(b"aye")
    }

    fn handle_datagram(&mut self, _: &mut DatagramIo<'_>, _: &[u8], _: &Address) -> io::Result<()> {
        Ok(())
    }
}

fn scenario(sim: &mut Sim, parameters: &Parameters) -> ScenarioResult {
    sim.set_link(sim::Link::default().with_latency(LATENCY, LATENCY));
    let all = Faults::all();
    let add = |faults: Faults, &fault: &Fault| faults.with(fault, all.rate(fault));
    sim.set_faults(parameters.faults.iter().fold(Faults::none(), add));
    let counted = Rc::new(Cell::new(0));
    let count = Rc::clone(&counted);
    sim.machine("counter", [10, 0, 0, 1], move |reactor| {
        reactor.add(Datagram::bind("10.0.0.1:7", Counter(Rc::clone(&count)))?).map(drop)
    })?;
    let votes = parameters.votes;
    for number in 1..=parameters.clients {
        sim.machine(&format!("voter {number}"), [10, 0, 1, number], move |reactor| {
            reactor.add(Datagram::connect("10.0.0.1:7", Voter { unsent: votes })?).map(drop)
        })?;
    }
    sim.chaos(5 * SECOND)?;
    sim.rest(MINUTE)?;
    let sent = u32::from(parameters.clients) * votes;
    let counted = counted.get();
    if counted > sent { Err(format!("{counted} votes of {sent}").into()) } else { Ok(()) }
}

fn run(parameters: &Parameters) -> Outcome {
    run_seed(parameters.seed, |sim| scenario(sim, parameters))
}

/// Returns the smallest world that fails.
fn reduce(test_seed: u8) -> Parameters {
    let config = Config { failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(config.rng_algorithm, &[test_seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&parameters(), |parameters| {
        prop_assert_eq!(run(&parameters).failure, None);
        Ok(())
    });
    match result {
        Err(TestError::Fail(_, parameters)) => parameters,
        other => panic!("no world fails: {other:?}"),
    }
}

#[test]
fn a_failing_world_is_reduced_to_the_fault_that_matters() {
    for test_seed in 0..10 {
        let smallest = reduce(test_seed);
        assert_eq!(smallest.faults, [Fault::DatagramDuplicate], "{smallest:?}");
        assert!(run(&smallest).failure.is_some());
        // Nothing can be left out.
        let with_fewer = [
            Parameters { faults: Vec::new(), ..smallest.clone() },
            Parameters { clients: smallest.clients - 1, ..smallest.clone() },
            Parameters { votes: smallest.votes - 1, ..smallest.clone() },
        ];
        for fewer in with_fewer {
            assert_eq!(run(&fewer).failure, None, "{fewer:?}");
        }
    }
}
