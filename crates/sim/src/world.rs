//! [`World`]: the machines, what they have open, what is on its way, and the time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reactor::Address;
use reactor::kernel::{Completion, Fd};
use rustix::io::Errno;

use crate::dice::Dice;
use crate::fault::{Fault, FaultCounts, Faults};
use crate::link::Link;
use crate::rng::Rng;
use crate::socket::{Datagram, Descriptor, End, EndId, Object, Sender, SocketNumber};
use crate::trace::{EventKind, Trace};

/// Names of the random streams that belong to something else than a connection.
pub(crate) mod stream {
    pub(crate) const QUEUE: u64 = 1;
    pub(crate) const LISTENER: u64 = 2;
    pub(crate) const DATAGRAM: u64 = 3;
    pub(crate) const CONNECT: u64 = 4;
    pub(crate) const ACCEPT: u64 = 5;
    pub(crate) const MACHINE: u64 = 6;
    pub(crate) const SCHEDULE: u64 = 7;
    pub(crate) const NAMES: u64 = 8;
    pub(crate) const CHOICES: u64 = 9;
    pub(crate) const RANDOM: u64 = 10;
}

/// The descriptors that a machine may have open: the soft limit that most systems start
/// programs with.
const USUAL_DESCRIPTOR_LIMIT: usize = 1024;

/// The first ephemeral port (IANA).
const FIRST_EPHEMERAL_PORT: u16 = 49152;

/// A host that runs one program.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) is_up: bool,
    pub(crate) open_count: usize,
    pub(crate) descriptor_limit: usize,
    pub(crate) backlog: usize,
    pub(crate) paused_until: u64,
    /// How many sockets it has created, which numbers its random streams.
    pub(crate) opened: u64,
    next_port: u16,
    /// What its reactor waits on.
    pub(crate) queue: Option<Fd>,
    /// For its lookups of names.
    pub(crate) names: Dice,
    /// The random numbers of its programs.
    pub(crate) random: Rng,
}

/// Something that will happen.
pub(crate) enum Event {
    /// A request to connect arrives, for the nth time.
    Syn {
        end: EndId,
        attempt: u32,
    },
    /// The answer to it arrives.
    SynReply {
        end: EndId,
        result: Result<EndId, Errno>,
    },
    /// The first segment that `end` has sent arrives.
    Arrive {
        end: EndId,
    },
    /// The peer has taken `acked` bytes, or has room again.
    Ack {
        end: EndId,
        acked: usize,
    },
    /// A reset that answers a segment for a connection that does not exist.
    Reset {
        end: EndId,
    },
    Datagram {
        machine: usize,
        to: Address,
        datagram: Datagram,
    },
    /// No program receives the datagrams of this socket.
    PortUnreachable {
        sender: Sender,
    },
    Resolved {
        machine: usize,
        completion: Completion,
        result: io::Result<Vec<SocketAddr>>,
    },
    Fault {
        fault: Fault,
        machine: usize,
        other: usize,
        lasts: u64,
    },
    EndFault {
        fault: Fault,
        machine: usize,
        other: usize,
    },
}

/// What the world has decided, and the simulation must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Crash(usize),
    Restart(usize),
}

pub(crate) struct World {
    pub(crate) seed: u64,
    base: Instant,
    pub(crate) now: u64,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    pub(crate) machines: Vec<Machine>,
    descriptors: Vec<Option<Descriptor>>,
    free: Vec<u32>,
    pub(crate) ends: BTreeMap<EndId, End>,
    next_end: EndId,
    pub(crate) link: Link,
    links: BTreeMap<(usize, usize), Link>,
    /// Between which machines nothing passes, and until when.
    pub(crate) partitions: BTreeMap<(usize, usize), u64>,
    pub(crate) zone: BTreeMap<String, Vec<IpAddr>>,
    /// The files of Unix sockets whose programs did not remove them, by host.
    pub(crate) left_paths: BTreeSet<(IpAddr, PathBuf)>,
    pub(crate) faults: Faults,
    /// Those whose rate was not 0 at some time.
    pub(crate) declared: Faults,
    pub(crate) counts: FaultCounts,
    pub(crate) commands: Vec<Command>,
    pub(crate) completions: Vec<(Completion, io::Result<Vec<SocketAddr>>)>,
    pub(crate) trace: Trace,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        World {
            seed,
            base: Instant::now(),
            now: 0,
            events: BTreeMap::new(),
            scheduled: 0,
            machines: Vec::new(),
            descriptors: Vec::new(),
            free: Vec::new(),
            ends: BTreeMap::new(),
            next_end: 0,
            link: Link::default(),
            links: BTreeMap::new(),
            partitions: BTreeMap::new(),
            zone: BTreeMap::new(),
            left_paths: BTreeSet::new(),
            faults: Faults::none(),
            declared: Faults::none(),
            counts: FaultCounts::default(),
            commands: Vec::new(),
            completions: Vec::new(),
            trace: Trace::new(),
        }
    }

    // --- time ---------------------------------------------------------------

    pub(crate) fn instant(&self) -> Instant {
        self.base + Duration::from_nanos(self.now)
    }

    /// Converts an instant of a program to the world's time.
    pub(crate) fn time_of(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.base))
    }

    pub(crate) fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((at.max(self.now), self.scheduled), event);
    }

    pub(crate) fn next_event_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Removes the next event that is due.
    pub(crate) fn pop_due(&mut self) -> Option<Event> {
        let (&(at, _), _) = self.events.first_key_value()?;
        if at > self.now {
            return None;
        }
        self.events.pop_first().map(|(_, event)| event)
    }

    // --- the trace ----------------------------------------------------------

    /// Records a system call of `machine`.
    pub(crate) fn record_call(
        &mut self,
        machine: usize,
        numbers: &[u64],
        text: impl FnOnce() -> String,
    ) {
        self.trace.record(self.now, EventKind::Call, (machine, None), numbers, text);
    }

    pub(crate) fn record_world(
        &mut self,
        machine: usize,
        numbers: &[u64],
        text: impl FnOnce() -> String,
    ) {
        self.trace.record(self.now, EventKind::World, (machine, None), numbers, text);
    }

    /// Records that `fault` happens to `machine`.
    pub(crate) fn record_fault(&mut self, machine: usize, fault: Fault) {
        self.record_fault_between((machine, None), fault, || fault.name().to_owned());
    }

    /// Records that `fault` happens to a machine, or between two.
    pub(crate) fn record_fault_between(
        &mut self,
        machines: (usize, Option<usize>),
        fault: Fault,
        text: impl FnOnce() -> String,
    ) {
        self.counts.record(fault);
        self.trace.record(self.now, EventKind::Fault, machines, &[fault as u64], text);
    }

    /// Draws whether `fault` happens to the end of a connection. Returns a random stream
    /// for its details if it does.
    pub(crate) fn draw(&mut self, end: EndId, fault: Fault) -> Option<Rng> {
        let end = self.ends.get_mut(&end)?;
        let details = end.dice.draw(fault, &self.faults)?;
        let is_on_the_way = matches!(fault, Fault::Loss | Fault::Delay | Fault::Reset);
        let machines = (end.machine, is_on_the_way.then_some(end.peer_machine));
        self.record_fault_between(machines, fault, || fault.name().to_owned());
        Some(details)
    }

    // --- machines -----------------------------------------------------------

    pub(crate) fn add_machine(&mut self, name: &str, ip: IpAddr) -> usize {
        let machine = self.machines.len();
        let id = machine as u64;
        self.machines.push(Machine {
            name: name.to_owned(),
            ip,
            is_up: true,
            open_count: 0,
            descriptor_limit: USUAL_DESCRIPTOR_LIMIT,
            backlog: 4096,
            paused_until: 0,
            opened: 0,
            // Programs of one host do not compete for ports.
            next_port: FIRST_EPHEMERAL_PORT + u16::try_from(machine % 16).unwrap_or(0) * 1024,
            queue: None,
            names: Dice::new(self.seed, &[stream::NAMES, id]),
            random: Rng::new(self.seed, &[stream::RANDOM, id]),
        });
        machine
    }

    /// Returns what names the random streams of the next socket of `machine`: they do not
    /// depend on what others do.
    pub(crate) fn next_socket(&mut self, machine: usize) -> SocketNumber {
        self.machines[machine].opened += 1;
        SocketNumber { machine: machine as u64, opened: self.machines[machine].opened }
    }

    pub(crate) fn socket_dice(&self, kind: u64, socket: SocketNumber) -> Dice {
        Dice::new(self.seed, &[kind, socket.machine, socket.opened])
    }

    pub(crate) fn ephemeral_port(&mut self, machine: usize) -> u16 {
        let first = FIRST_EPHEMERAL_PORT + u16::try_from(machine % 16).unwrap_or(0) * 1024;
        let port = &mut self.machines[machine].next_port;
        let chosen = *port;
        *port = if chosen - first == 1023 { first } else { chosen + 1 };
        chosen
    }

    /// Returns `true` if `ip` is an address of `machine`: its own, or that of loopback.
    pub(crate) fn has_address(&self, machine: usize, ip: IpAddr) -> bool {
        ip.is_loopback() || self.machines[machine].ip == ip
    }

    /// Returns the machines that a packet of `machine` to `ip` can reach: several programs
    /// may run on one host.
    pub(crate) fn machines_at(&self, machine: usize, ip: IpAddr) -> Vec<usize> {
        let host = if ip.is_loopback() { self.machines[machine].ip } else { ip };
        (0..self.machines.len()).filter(|&other| self.machines[other].ip == host).collect()
    }

    pub(crate) fn link_between(&self, one: usize, other: usize) -> Link {
        self.links.get(&pair(one, other)).copied().unwrap_or(self.link)
    }

    pub(crate) fn set_link(&mut self, one: usize, other: usize, link: Link) {
        self.links.insert(pair(one, other), link);
    }

    /// Returns `true` if a packet gets from one machine to the other.
    pub(crate) fn is_reachable(&self, one: usize, other: usize) -> bool {
        self.machines[other].is_up && !self.partitions.contains_key(&pair(one, other))
    }

    // --- descriptors --------------------------------------------------------

    pub(crate) fn open(&mut self, machine: usize, object: Object) -> Fd {
        self.machines[machine].open_count += 1;
        let descriptor = Some(Descriptor { machine, object, queue: None });
        if let Some(index) = self.free.pop() {
            self.descriptors[index as usize] = descriptor;
            return Fd(index);
        }
        self.descriptors.push(descriptor);
        Fd(u32::try_from(self.descriptors.len() - 1).unwrap_or(u32::MAX))
    }

    /// # Errors
    ///
    /// Returns `EMFILE` if the machine has as many descriptors open as it may.
    pub(crate) fn check_limit(&self, machine: usize) -> io::Result<()> {
        let machine = &self.machines[machine];
        if machine.open_count >= machine.descriptor_limit {
            return Err(Errno::MFILE.into());
        }
        Ok(())
    }

    pub(crate) fn descriptor(&self, fd: Fd) -> io::Result<&Descriptor> {
        self.descriptors.get(fd.0 as usize).and_then(Option::as_ref).ok_or(Errno::BADF.into())
    }

    pub(crate) fn descriptor_mut(&mut self, fd: Fd) -> io::Result<&mut Descriptor> {
        let descriptor = self.descriptors.get_mut(fd.0 as usize);
        descriptor.and_then(Option::as_mut).ok_or(Errno::BADF.into())
    }

    /// Returns the open descriptors and what they stand for.
    pub(crate) fn open_descriptors(&self) -> impl Iterator<Item = (Fd, &Descriptor)> {
        let numbered = (0..).map(Fd).zip(&self.descriptors);
        numbered.filter_map(|(fd, descriptor)| Some((fd, descriptor.as_ref()?)))
    }

    /// Closes `fd`. Returns what it stood for.
    pub(crate) fn remove(&mut self, fd: Fd) -> Option<Descriptor> {
        if let Some(queue) = self.descriptor(fd).ok().and_then(|descriptor| descriptor.queue) {
            // As epoll forgets a descriptor that is closed.
            let _ = self.forget(queue, fd);
        }
        let descriptor = self.descriptors.get_mut(fd.0 as usize)?.take()?;
        self.free.push(fd.0);
        self.machines[descriptor.machine].open_count -= 1;
        Some(descriptor)
    }

    /// close(2).
    pub(crate) fn close(&mut self, fd: Fd) {
        match self.remove(fd).map(|descriptor| descriptor.object) {
            Some(Object::Stream(id)) => self.close_end(id),
            Some(Object::Listener(listener)) => self.close_listener(listener),
            _ => {}
        }
    }

    /// Closes all descriptors of a machine, as the system does when a program ends.
    pub(crate) fn close_all(&mut self, machine: usize) {
        let open = self.open_descriptors().filter(|(_, found)| found.machine == machine);
        let open: Vec<_> = open.map(|(fd, _)| fd).collect();
        for fd in open {
            self.close(fd);
        }
    }

    pub(crate) fn end_of(&mut self, fd: Fd) -> io::Result<(EndId, &mut End)> {
        let Object::Stream(id) = self.descriptor(fd)?.object else {
            return Err(Errno::NOTSOCK.into());
        };
        self.ends.get_mut(&id).map(|end| (id, end)).ok_or(Errno::BADF.into())
    }

    pub(crate) fn add_end(&mut self, end: End) -> EndId {
        self.next_end += 1;
        self.ends.insert(self.next_end, end);
        self.next_end
    }

    /// Takes what the simulation must do.
    pub(crate) fn take_commands(&mut self) -> Vec<Command> {
        mem::take(&mut self.commands)
    }
}

/// Returns the key of what two machines share.
pub(crate) fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
