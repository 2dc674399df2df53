//! What a test does to the machines of a [`Sim`], and what it sees of them.

use std::time::Duration;

use reactor::Reactor;

use crate::error::SimError;
use crate::fault::{FaultCounts, Faults};
use crate::simulation::{MachineId, Sim};
use crate::trace::TraceEvent;
use crate::world::pair;

impl Sim {
    // --- what happens to machines -------------------------------------------

    /// Ends the program of a machine as SIGKILL does: the system closes its sockets, and what
    /// was written to them is still sent. The paths of its Unix sockets remain. In the program's memory, channels close with
    /// [`Cause::Shutdown`](reactor::Cause::Shutdown).
    pub fn kill(&mut self, machine: MachineId) {
        {
            let mut world = self.world.borrow_mut();
            world.record_world(machine.0, &[1], || "killed".to_owned());
            world.leave_paths(machine.0);
            world.close_all(machine.0);
        }
        self.end_program(machine.0);
    }

    /// Cuts the power of a machine: its peers receive nothing. In the program's memory,
    /// channels close with [`Cause::Shutdown`](reactor::Cause::Shutdown).
    pub fn crash(&mut self, machine: MachineId) {
        {
            let mut world = self.world.borrow_mut();
            world.record_world(machine.0, &[2], || "power lost".to_owned());
            world.leave_paths(machine.0);
            world.lose_connections(machine.0);
            world.machines[machine.0].is_up = false;
        }
        self.end_program(machine.0);
    }

    /// Starts a machine that is off, or a program that has ended.
    ///
    /// # Errors
    ///
    /// Returns the error of its set-up.
    pub fn restart(&mut self, machine: MachineId) -> Result<(), SimError> {
        self.world.borrow_mut().machines[machine.0].is_up = true;
        if self.programs[machine.0].reactor.is_some() {
            return Ok(());
        }
        self.start(machine.0)
    }

    /// Sends a signal. A program that does not handle it ends.
    pub fn signal(&mut self, machine: MachineId, signal: i32) {
        let is_handled = self.world.borrow_mut().signal(machine.0, signal);
        if !is_handled {
            self.kill(machine);
        }
    }

    /// Lets nothing pass between two machines, until [`heal`](Self::heal).
    pub fn partition(&mut self, one: MachineId, other: MachineId) {
        self.world.borrow_mut().partitions.insert(pair(one.0, other.0), u64::MAX);
    }

    /// Ends a partition.
    pub fn heal(&mut self, one: MachineId, other: MachineId) {
        self.world.borrow_mut().partitions.remove(&pair(one.0, other.0));
    }

    /// Calls `f` with the reactor of a machine, as code outside its callbacks. Returns
    /// `None` if its program has ended.
    pub fn with_reactor<R>(
        &mut self,
        machine: MachineId,
        f: impl FnOnce(&mut Reactor) -> R,
    ) -> Option<R> {
        let mut reactor = self.programs[machine.0].reactor.take()?;
        let result = self.enter(machine.0, || f(&mut reactor));
        self.programs[machine.0].reactor = Some(reactor);
        Some(result)
    }

    // --- what happened ------------------------------------------------------

    /// Returns `true` if the program of a machine has ended, and was not started again.
    pub fn has_ended(&self, machine: MachineId) -> bool {
        self.programs[machine.0].reactor.is_none()
    }

    /// Returns how much time has passed in the world.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.world.borrow().now)
    }

    /// Returns the hash of all that happened so far.
    pub fn hash(&self) -> u64 {
        self.world.borrow().trace.hash()
    }

    /// Returns how many turns the reactors have made.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Returns how often each fault has happened.
    pub fn fault_counts(&self) -> FaultCounts {
        self.world.borrow().counts.clone()
    }

    /// Returns the highest rate of each fault so far.
    pub fn declared_faults(&self) -> Faults {
        self.world.borrow().declared.clone()
    }

    /// Returns what happened since [`record_events`](Self::record_events).
    pub fn events(&self) -> Vec<TraceEvent> {
        self.world.borrow().trace.events().to_vec()
    }

    /// Returns the names of the machines, in the order in which they were added.
    pub fn machine_names(&self) -> Vec<String> {
        self.world.borrow().machines.iter().map(|machine| machine.name.clone()).collect()
    }
}
