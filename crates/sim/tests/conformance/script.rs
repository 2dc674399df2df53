//! [`Script`]: two programs, run on loopback and in worlds.

use std::io;
use std::iter;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{Listener, Reactor};
use rustix::process::{Signal, getpid, kill_process};
use sim::{Fault, Faults, Link, MachineId, Sim};

use crate::log::Log;
use crate::peer::{Peer, passive};
use crate::run::{self, Place, Request, Transport};

/// Longer than any script takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Longer than any script takes in a world.
const WORLD_DEADLINE: Duration = Duration::from_secs(100_000);

/// How many worlds each script runs in.
pub(crate) const WORLDS: u64 = 8;

type Setup = Rc<dyn Fn(&mut Reactor) -> io::Result<()>>;

/// A conversation of two programs.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) name: String,
    server: Setup,
    client: Setup,
    transport: Transport,
    /// Another script is the same over Unix sockets.
    has_unix_twin: bool,
    leaves_path: bool,
}

pub(crate) fn script(
    name: impl Into<String>,
    server: impl Fn(&mut Reactor) -> io::Result<()> + 'static,
    client: impl Fn(&mut Reactor) -> io::Result<()> + 'static,
) -> Script {
    let (server, client): (Setup, Setup) = (Rc::new(server), Rc::new(client));
    Script {
        name: name.into(),
        server,
        client,
        transport: Transport::Tcp,
        has_unix_twin: false,
        leaves_path: false,
    }
}

/// Appends what the loop of a program counted, and how many channels are still open, to the
/// log.
fn note_program(log: &mut Log, name: &str, reactor: Option<&mut Reactor>) {
    let Some(reactor) = reactor else { return log.add(name, "ended") };
    let channels = reactor.context().channels().len();
    let stats = reactor.stats();
    log.add(
        name,
        format!(
            "{channels} channels open; accepted {}, over limit {}, by handler {}, ICMP {}",
            stats.accepted, stats.rejected_over_limit, stats.rejected_by_handler, stats.icmp_errors
        ),
    );
}

impl Script {
    /// The script runs over Unix sockets.
    pub(crate) fn over_unix(self) -> Self {
        Script { name: format!("Unix: {}", self.name), transport: Transport::Unix, ..self }
    }

    /// The script also runs over Unix sockets, as a script of its own.
    pub(crate) fn also_over_unix(self) -> Self {
        Script { has_unix_twin: true, ..self }
    }

    /// Returns the script, and its twin if it has one.
    pub(crate) fn with_twin(self) -> impl Iterator<Item = Script> {
        let twin = self.has_unix_twin.then(|| self.clone().over_unix());
        iter::once(self).chain(twin)
    }

    /// Before it starts, a server at the script's path is killed, and leaves the path behind.
    pub(crate) fn after_killed_server(self) -> Self {
        Script { leaves_path: true, ..self }
    }

    /// Runs the script in worlds, and on loopback this often.
    ///
    /// # Errors
    ///
    /// Returns a page that shows the first difference.
    pub(crate) fn compare(&self, number: u16, repeat: u32) -> Result<(), String> {
        let in_world = |seed| {
            let log = self.run_in_world(number, seed);
            run::end();
            log.map_err(|what| format!("world of seed {seed}: {what}"))
        };
        let expected = in_world(0)?;
        for seed in 1..WORLDS {
            let differs = expected.compare("seed 0", &in_world(seed)?, &format!("seed {seed}"));
            differs.map_or(Ok(()), |page| Err(format!("the worlds differ; {page}")))?;
        }
        for _ in 0..repeat {
            let real = self.run_on_loopback(number, &expected);
            run::end();
            let real = real.map_err(|what| format!("loopback: {what}"))?;
            real.compare("loopback", &expected, "world").map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Runs the script until its log is `expected` and nothing more happens, or can no
    /// longer become that.
    fn run_on_loopback(&self, number: u16, expected: &Log) -> Result<Log, String> {
        run::start(Place::Loopback, number, self.transport);
        if self.leaves_path {
            // Dropping it does not remove the path.
            UnixListener::bind(run::path()).map_err(|error| error.to_string())?;
        }
        let mut programs = Vec::new();
        for (name, setup) in [("server", &self.server), ("client", &self.client)] {
            let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
            run::add_program(name, reactor.handle());
            setup(&mut reactor).map_err(|error| format!("{name}: {error}"))?;
            programs.push((name, Some(reactor)));
        }
        let started_at = Instant::now();
        let mut equal_turns = 0;
        loop {
            for (_, program) in &mut programs {
                let Some(reactor) = program else { continue };
                let limit = Some(Duration::from_millis(1));
                if !reactor.turn(limit).map_err(|error| error.to_string())? {
                    *program = None;
                }
            }
            for Request::Signal(signal) in run::take_requests() {
                raise(signal);
            }
            let mut log = run::log();
            if !log.may_become(expected) {
                return Ok(log);
            }
            for (name, program) in &mut programs {
                note_program(&mut log, &format!("{name}'s loop"), program.as_mut());
            }
            equal_turns = if log == *expected { equal_turns + 1 } else { 0 };
            if equal_turns == 3 || started_at.elapsed() > DEADLINE {
                if self.leaves_path {
                    // One that a listener has replaced is removed with that one.
                    let _ = std::fs::remove_file(run::path());
                }
                // The programs end here.
                return Ok(log);
            }
        }
    }

    fn run_in_world(&self, number: u16, seed: u64) -> Result<Log, String> {
        run::start(Place::World, number, self.transport);
        let mut sim = Sim::new(seed);
        // A panic is seen by the callbacks, as on loopback.
        sim.allow_panics();
        set_conditions(&mut sim, seed);
        if self.leaves_path {
            let accept = |_: &_| Ok(Peer::new("killed", passive));
            let setup = move |reactor: &mut Reactor| {
                reactor.add(Listener::bind_unix(run::path(), accept)?).map(drop)
            };
            let killed = sim.machine("killed", [10, 0, 0, 1], setup);
            sim.kill(killed.map_err(|error| error.to_string())?);
        }
        // Two programs of one host.
        let mut add = |name: &'static str, setup: &Setup| {
            let setup = Rc::clone(setup);
            let setup = move |reactor: &mut Reactor| {
                run::add_program(name, reactor.handle());
                setup(reactor)
            };
            let machine = sim.machine(name, [10, 0, 0, 1], setup);
            machine.map(|machine| (name, machine)).map_err(|error| error.to_string())
        };
        let machines = [add("server", &self.server)?, add("client", &self.client)?];
        loop {
            if sim.run(WORLD_DEADLINE).map_err(|error| error.to_string())? {
                return Err("it does not come to rest".to_owned());
            }
            let requests = run::take_requests();
            if requests.is_empty() {
                break;
            }
            for Request::Signal(signal) in requests {
                sim.signal(machines[0].1, signal);
            }
        }
        let mut log = run::log();
        for (name, machine) in machines {
            note_machine(&mut log, name, machine, &mut sim);
        }
        run::end();
        Ok(log)
    }
}

fn note_machine(log: &mut Log, name: &str, machine: MachineId, sim: &mut Sim) {
    let name = format!("{name}'s loop");
    let found = sim.with_reactor(machine, |reactor| note_program(log, &name, Some(reactor)));
    if found.is_none() {
        note_program(log, &name, None);
    }
}

/// The worlds differ in what a program must not see.
fn set_conditions(sim: &mut Sim, seed: u64) {
    let ms = Duration::from_millis;
    let link = Link::default().with_buffers(64_000, 16_000);
    sim.set_link(match seed % 4 {
        0 => link,
        1 => link.with_latency(Duration::ZERO, Duration::ZERO),
        2 => link.with_latency(ms(20), ms(20)),
        _ => link.with_latency(ms(1), ms(1)).with_buffers(40_000, 3_000),
    });
    if seed >= 4 {
        let invisible = Faults::none()
            .with(Fault::ShortRead, 300_000)
            .with(Fault::ShortWrite, 300_000)
            .with(Fault::Interrupt, 100_000)
            .with(Fault::Spurious, 100_000)
            .with(Fault::Loss, 20_000)
            .with(Fault::Delay, 20_000);
        sim.set_faults(invisible);
    }
}

fn raise(signal: i32) {
    let signal = Signal::from_named_raw(signal).expect("a signal");
    kill_process(getpid(), signal).expect("this process");
}
