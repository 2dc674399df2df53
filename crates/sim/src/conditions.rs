//! The conditions of a [`Sim`]: its links, limits, names and faults.

use std::net::IpAddr;

use crate::fault::Faults;
use crate::link::Link;
use crate::simulation::{MachineId, Sim};

impl Sim {
    /// Sets how the network behaves between machines without a link of their own.
    pub fn set_link(&mut self, link: Link) {
        self.world.borrow_mut().link = link;
    }

    /// Sets how the network behaves between two machines, for connections from now on.
    pub fn set_link_between(&mut self, one: MachineId, other: MachineId, link: Link) {
        self.world.borrow_mut().set_link(one.0, other.0, link);
    }

    /// Sets how many descriptors a machine may have open. Default: 1024.
    pub fn set_descriptor_limit(&mut self, machine: MachineId, limit: usize) {
        self.world.borrow_mut().machines[machine.0].descriptor_limit = limit;
    }

    /// Sets how many connections wait in the queue of a listener. Default: 4096.
    pub fn set_backlog(&mut self, machine: MachineId, backlog: usize) {
        self.world.borrow_mut().machines[machine.0].backlog = backlog;
    }

    /// Adds a host name to the zone that all machines resolve names in. `localhost` is there.
    pub fn add_name(&mut self, name: &str, ips: impl IntoIterator<Item = IpAddr>) {
        self.world.borrow_mut().zone.insert(name.to_owned(), ips.into_iter().collect());
    }

    /// Sets how often each fault happens from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        let mut world = self.world.borrow_mut();
        world.declared = world.declared.clone().or(&faults);
        world.faults = faults;
    }
}
