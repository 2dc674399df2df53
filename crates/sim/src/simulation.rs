//! [`Sim`]: machines in a world, and the loop that runs them.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Reactor, kernel};

use crate::error::SimError;
use crate::kernel::MachineKernel;
use crate::panics;
use crate::rng::Rng;
use crate::trace::EventKind;
use crate::world::{Command, World, nanos, stream};

/// More turns than this of one machine in one instant are a spin.
const MAX_TURNS_IN_AN_INSTANT: u32 = 100_000;

/// Names a machine of a [`Sim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub(crate) usize);

/// Creates the channels of a program, each time its machine starts.
type Setup = Box<dyn FnMut(&mut Reactor) -> io::Result<()>>;

/// A program on a machine.
pub(crate) struct Program {
    kernel: Rc<MachineKernel>,
    setup: Setup,
    /// `None` before it has started, and once it has ended.
    pub(crate) reactor: Option<Reactor>,
    may_crash: bool,
    /// It has started, and made no turn yet.
    is_new: bool,
    /// How many turns it has made in this instant.
    turns_now: u32,
}

/// A simulated world: machines that each run a program on a [`Reactor`], the network between
/// them, and a clock that jumps to the next event.
///
/// All of it is decided by the seed: two runs with one seed do the same, and have the same
/// [`hash`](Self::hash).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use reactor::{Io, Listener, Protocol, Reactor, Stream};
/// use sim::Sim;
///
/// struct Echo;
/// impl Protocol for Echo {
///     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> std::io::Result<()> {
///         io.send(data)
///     }
/// }
///
/// struct Hello;
/// impl Protocol for Hello {
///     fn handle_connect(&mut self, io: &mut Io<'_>) -> std::io::Result<()> {
///         io.send(b"hello")
///     }
///     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> std::io::Result<()> {
///         assert!(b"hello".starts_with(data));
///         io.close();
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), sim::SimError> {
/// let mut sim = Sim::new(1);
/// sim.machine("server", [10, 0, 0, 1], |reactor: &mut Reactor| {
///     reactor.add(Listener::bind("10.0.0.1:7", |_| Ok(Echo))?).map(drop)
/// })?;
/// let client = sim.machine("client", [10, 0, 0, 2], |reactor| {
///     reactor.add(Stream::connect(["10.0.0.1:7".parse().unwrap()], Hello)).map(drop)
/// })?;
/// sim.rest(Duration::from_secs(60))?;
/// assert!(sim.has_ended(client));
/// # Ok(())
/// # }
/// ```
pub struct Sim {
    pub(crate) world: Rc<RefCell<World>>,
    pub(crate) programs: Vec<Program>,
    /// In which order the machines of an instant run.
    order: Rng,
    pub(crate) turns: u64,
    catches_panics: bool,
    /// For the scenario.
    choices: Rng,
    pub(crate) notes: Vec<String>,
}

impl Sim {
    /// Creates a world without machines.
    pub fn new(seed: u64) -> Self {
        panics::clear();
        Sim {
            world: Rc::new(RefCell::new(World::new(seed))),
            programs: Vec::new(),
            order: Rng::new(seed, &[stream::SCHEDULE]),
            turns: 0,
            catches_panics: false,
            choices: Rng::new(seed, &[stream::CHOICES]),
            notes: Vec::new(),
        }
    }

    // --- the world ----------------------------------------------------------

    /// Adds a machine with an address, and starts its program: `setup` creates its channels,
    /// as the program's `main` does before [`Reactor::run`]. It is called again each time
    /// the machine starts. The program ends when its reactor has nothing to do.
    ///
    /// Machines with the same address are programs of one host, which reach each other
    /// through loopback too.
    ///
    /// # Errors
    ///
    /// Returns the error of `setup`.
    pub fn machine(
        &mut self,
        name: &str,
        ip: impl Into<IpAddr>,
        setup: impl FnMut(&mut Reactor) -> io::Result<()> + 'static,
    ) -> Result<MachineId, SimError> {
        let machine = self.world.borrow_mut().add_machine(name, ip.into());
        self.programs.push(Program {
            kernel: Rc::new(MachineKernel { world: Rc::clone(&self.world), machine }),
            setup: Box::new(setup),
            reactor: None,
            may_crash: false,
            is_new: false,
            turns_now: 0,
        });
        self.start(machine)?;
        Ok(MachineId(machine))
    }

    /// Lets [`Fault::Crash`](crate::Fault::Crash) happen to a machine.
    pub fn allow_crashes(&mut self, machine: MachineId) {
        self.programs[machine.0].may_crash = true;
    }

    /// Does not count a panic of a callback as a failure.
    pub fn allow_panics(&mut self) {
        self.catches_panics = true;
    }

    /// Records what happens, for [`events`](Self::events).
    pub fn record_events(&mut self) {
        self.world.borrow_mut().trace.start_recording();
    }

    /// Returns a random number below `end`, for a scenario that differs from seed to seed.
    pub fn choose(&mut self, end: u64) -> u64 {
        self.choices.below(end)
    }

    /// Notes what became of the program in this world. The summary of many worlds counts
    /// equal notes, and so shows whether a scenario tests what it should.
    pub fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    // --- running ------------------------------------------------------------

    /// Runs for `duration`, or until everything is at rest. Returns `true` if there is more
    /// to do.
    ///
    /// # Errors
    ///
    /// Returns an error if a program spins, a callback panics, or an event loop fails.
    pub fn run(&mut self, duration: Duration) -> Result<bool, SimError> {
        let end = self.world.borrow().now.saturating_add(nanos(duration));
        loop {
            self.world.borrow_mut().advance_events();
            self.complete_lookups();
            self.obey_commands();
            let has_run = self.run_machines()?;
            if !self.catches_panics
                && let Some(panic) = panics::first()
            {
                return Err(SimError::Panicked(panic));
            }
            if has_run {
                continue;
            }
            let next = self.next_at();
            let mut world = self.world.borrow_mut();
            match next {
                None => return Ok(false),
                Some(at) if at > end => {
                    world.now = end;
                    return Ok(true);
                }
                // It may be in the past: then the machine was paused.
                Some(at) => world.now = at.max(world.now),
            }
            for program in &mut self.programs {
                program.turns_now = 0;
            }
        }
    }

    /// Runs for `duration` with the faults that were set, including those that happen by
    /// themselves; then ends all faults and partitions, and starts the machines that are
    /// off. Call [`rest`](Self::rest) next.
    ///
    /// # Errors
    ///
    /// The same as for [`run`](Self::run).
    pub fn chaos(&mut self, duration: Duration) -> Result<(), SimError> {
        let crashing: Vec<_> =
            (0..self.programs.len()).filter(|&index| self.programs[index].may_crash).collect();
        self.world.borrow_mut().schedule_chaos(duration, &crashing);
        self.run(duration)?;
        self.calm()
    }

    /// Ends all faults and partitions, and starts the machines that are off.
    ///
    /// # Errors
    ///
    /// Returns the error of a program's set-up.
    pub fn calm(&mut self) -> Result<(), SimError> {
        self.world.borrow_mut().calm();
        for machine in 0..self.programs.len() {
            let is_up = self.world.borrow().machines[machine].is_up;
            if !is_up {
                self.restart(MachineId(machine))?;
            }
        }
        Ok(())
    }

    /// Runs until nothing is left to happen.
    ///
    /// # Errors
    ///
    /// Returns [`SimError::NotAtRest`] if that takes longer than `limit`, and
    /// [`SimError::Stuck`] if a stream has output, or unread input of which it would be
    /// notified, that nothing will move. Otherwise the same as for [`run`](Self::run).
    pub fn rest(&mut self, limit: Duration) -> Result<(), SimError> {
        if self.run(limit)? {
            return Err(SimError::NotAtRest { waiting: self.waiting() });
        }
        let mut stuck = Vec::new();
        for machine in 0..self.programs.len() {
            let unsent = self.with_reactor(MachineId(machine), |reactor| {
                let channels = reactor.context().channels();
                channels.iter().map(|channel| channel.unsent).sum::<usize>()
            });
            if let Some(unsent @ 1..) = unsent {
                let name = &self.world.borrow().machines[machine].name;
                stuck.push(format!("{name} has {unsent} bytes of output that nothing will move"));
            }
        }
        if stuck.is_empty() { Ok(()) } else { Err(SimError::Stuck(stuck.join("; "))) }
    }

    fn waiting(&self) -> String {
        let world = self.world.borrow();
        let mut waiting = Vec::new();
        for (index, program) in self.programs.iter().enumerate() {
            let deadline = program.reactor.as_ref().and_then(Reactor::next_deadline);
            if let Some(deadline) = deadline {
                let at = Duration::from_nanos(world.time_of(deadline));
                waiting.push(format!("{} has a timer at {at:?}", world.machines[index].name));
            }
        }
        if let Some(at) = world.next_event_at() {
            waiting.push(format!("the network is busy at {:?}", Duration::from_nanos(at)));
        }
        waiting.join("; ")
    }

    /// Runs each machine that has something to do, once. Returns `true` if there was one.
    fn run_machines(&mut self) -> Result<bool, SimError> {
        let mut order: Vec<_> = (0..self.programs.len()).collect();
        order.retain(|&machine| self.is_due(machine));
        self.order.shuffle(&mut order);
        for &machine in &order {
            self.turn(machine)?;
        }
        Ok(!order.is_empty())
    }

    /// Returns when a machine has something to do by itself, in the world's time.
    fn deadline(&self, machine: usize) -> Option<u64> {
        let deadline = self.programs[machine].reactor.as_ref()?.next_deadline()?;
        Some(self.world.borrow().time_of(deadline))
    }

    fn is_due(&self, machine: usize) -> bool {
        let world = self.world.borrow();
        self.programs[machine].reactor.is_some()
            && world.machines[machine].paused_until <= world.now
            && (self.programs[machine].is_new
                || world.is_awake(machine)
                || self.deadline(machine).is_some_and(|deadline| deadline <= world.now))
    }

    fn turn(&mut self, machine: usize) -> Result<(), SimError> {
        let is_awake = self.world.borrow().is_awake(machine);
        let Some(mut reactor) = self.programs[machine].reactor.take() else { return Ok(()) };
        self.turns += 1;
        self.programs[machine].turns_now += 1;
        self.programs[machine].is_new = false;
        if self.programs[machine].turns_now > MAX_TURNS_IN_AN_INSTANT {
            return Err(SimError::Spin { machine: self.name(machine) });
        }
        if !is_awake {
            let mut world = self.world.borrow_mut();
            let now = world.now;
            let text = || "timer".to_owned();
            world.trace.record(now, EventKind::Timer, (machine, None), &[], text);
        }
        match self.enter(machine, || reactor.turn(Some(Duration::ZERO))) {
            Ok(true) => self.programs[machine].reactor = Some(reactor),
            Ok(false) => {
                self.world.borrow_mut().record_world(machine, &[3], || "ended".to_owned());
                self.enter(machine, || drop(reactor));
            }
            Err(error) => {
                let machine = self.name(machine);
                return Err(SimError::Turn { machine, error });
            }
        }
        Ok(())
    }

    /// Returns when something happens next.
    fn next_at(&self) -> Option<u64> {
        let world = self.world.borrow();
        let machine_at = |machine: usize| {
            let is_awake = self.programs[machine].is_new || world.is_awake(machine);
            let now = is_awake.then_some(world.now);
            let at = now.into_iter().chain(self.deadline(machine)).min()?;
            self.programs[machine].reactor.as_ref()?;
            Some(at.max(world.machines[machine].paused_until))
        };
        (0..self.programs.len()).filter_map(machine_at).chain(world.next_event_at()).min()
    }

    fn complete_lookups(&self) {
        let completions = mem::take(&mut self.world.borrow_mut().completions);
        for (completion, result) in completions {
            completion(result);
        }
    }

    fn obey_commands(&mut self) {
        let commands = self.world.borrow_mut().take_commands();
        for command in commands {
            match command {
                Command::Crash(machine) => self.crash(MachineId(machine)),
                // Someone was faster.
                Command::Restart(machine) if self.world.borrow().machines[machine].is_up => {}
                Command::Restart(machine) => {
                    if let Err(error) = self.restart(MachineId(machine)) {
                        // As a program whose start fails: the machine runs, and it does not.
                        let text = || error.to_string();
                        self.world.borrow_mut().record_world(machine, &[4], text);
                    }
                }
            }
        }
    }

    pub(crate) fn start(&mut self, machine: usize) -> Result<(), SimError> {
        self.world.borrow_mut().record_world(machine, &[0], || "started".to_owned());
        let kernel = Rc::clone(&self.programs[machine].kernel);
        let setup = &mut self.programs[machine].setup;
        let create = || {
            let mut reactor = Reactor::new()?;
            setup(&mut reactor).map(|()| reactor)
        };
        let started = panics::collect(|| kernel::enter(kernel, create));
        match started {
            Ok(reactor) => {
                self.programs[machine].reactor = Some(reactor);
                self.programs[machine].is_new = true;
            }
            Err(error) => return Err(SimError::Setup { machine: self.name(machine), error }),
        }
        Ok(())
    }

    pub(crate) fn end_program(&mut self, machine: usize) {
        let reactor = self.programs[machine].reactor.take();
        self.enter(machine, || drop(reactor));
    }

    pub(crate) fn enter<R>(&self, machine: usize, body: impl FnOnce() -> R) -> R {
        let kernel = Rc::clone(&self.programs[machine].kernel) as Rc<_>;
        panics::collect(|| kernel::enter(kernel, body))
    }

    fn name(&self, machine: usize) -> String {
        self.world.borrow().machines[machine].name.clone()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        for machine in 0..self.programs.len() {
            self.end_program(machine);
        }
        panics::clear();
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("machines", &self.machine_names())
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}
