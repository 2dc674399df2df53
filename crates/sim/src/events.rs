//! What happens by itself: the events of the world in their order, and its chaos.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use reactor::kernel::{Completion, Fd};

use crate::connect::latency;
use crate::dice::Dice;
use crate::fault::Fault;
use crate::socket::Object;
use crate::world::{Command, Event, World, nanos, pair, stream};

const SECOND: u64 = 1_000_000_000;

/// The longest that each scheduled fault lasts.
const MAX_PAUSE: u64 = 2 * SECOND;
const MAX_PARTITION: u64 = 10 * SECOND;
const MAX_OUTAGE: u64 = 10 * SECOND;

impl World {
    /// Lets everything happen that is due.
    pub(crate) fn advance_events(&mut self) {
        while let Some(event) = self.pop_due() {
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Syn { end, attempt } => self.on_syn(end, attempt),
            Event::SynReply { end, result } => self.on_syn_reply(end, result),
            Event::Arrive { end } => self.on_arrive(end),
            Event::Ack { end, acked } => self.on_ack(end, acked),
            Event::Reset { end } => self.on_reset(end),
            Event::Datagram { machine, to, datagram } => self.on_datagram(machine, &to, datagram),
            Event::PortUnreachable { sender } => self.on_port_unreachable(sender),
            Event::Resolved { machine, completion, result } => {
                let count = result.as_ref().map_or(0, Vec::len);
                self.record_call(machine, &[count as u64], || match &result {
                    Ok(addrs) => format!("resolved: {addrs:?}"),
                    Err(error) => format!("not resolved: {error}"),
                });
                self.completions.push((completion, result));
            }
            Event::Fault { fault, machine, other, lasts } => {
                self.start_fault(fault, machine, other, lasts);
            }
            Event::EndFault { fault, machine, other } => self.end_fault(fault, machine, other),
        }
    }

    // --- scheduled faults ---------------------------------------------------

    /// Schedules the faults that happen by themselves, for `duration` from now.
    pub(crate) fn schedule_chaos(&mut self, duration: Duration, crashing: &[usize]) {
        let seconds = nanos(duration) / SECOND;
        let count = self.machines.len();
        for machine in 0..count {
            self.schedule_faults(Fault::Pause, machine, machine, seconds, MAX_PAUSE);
            if crashing.contains(&machine) {
                self.schedule_faults(Fault::Crash, machine, machine, seconds, MAX_OUTAGE);
            }
            for other in machine + 1..count {
                self.schedule_faults(Fault::Partition, machine, other, seconds, MAX_PARTITION);
            }
        }
    }

    /// Draws, for each second, if `fault` starts in it.
    fn schedule_faults(
        &mut self,
        fault: Fault,
        machine: usize,
        other: usize,
        seconds: u64,
        max: u64,
    ) {
        let ids = [stream::MACHINE, fault as u64, machine as u64, other as u64];
        let mut dice = Dice::new(self.seed, &ids);
        for second in 0..seconds {
            if let Some(mut rng) = dice.draw(fault, &self.faults) {
                let at = self.now + second * SECOND + rng.below(SECOND);
                self.schedule(at, Event::Fault { fault, machine, other, lasts: rng.below(max) });
            }
        }
    }

    fn start_fault(&mut self, fault: Fault, machine: usize, other: usize, lasts: u64) {
        let end = self.now + lasts;
        match fault {
            Fault::Pause => {
                let paused = &mut self.machines[machine].paused_until;
                *paused = end.max(*paused);
            }
            Fault::Partition => {
                let until = self.partitions.entry(pair(machine, other)).or_default();
                *until = end.max(*until);
            }
            _ if !self.machines[machine].is_up => return,
            _ => self.commands.push(Command::Crash(machine)),
        }
        let machines = (machine, (other != machine).then_some(other));
        let lasts = Duration::from_nanos(lasts).as_secs_f64();
        let text = || format!("{fault} for {lasts:.1} s");
        self.record_fault_between(machines, fault, text);
        self.schedule(end, Event::EndFault { fault, machine, other });
    }

    fn end_fault(&mut self, fault: Fault, machine: usize, other: usize) {
        match fault {
            Fault::Partition => {
                let now = self.now;
                self.partitions.retain(|&ends, until| ends != pair(machine, other) || *until > now);
            }
            Fault::Crash => self.commands.push(Command::Restart(machine)),
            _ => {}
        }
    }

    /// Ends all chaos: no more faults, no partitions, and all machines run.
    pub(crate) fn calm(&mut self) {
        self.faults = crate::fault::Faults::none();
        self.partitions.clear();
        for machine in 0..self.machines.len() {
            self.machines[machine].paused_until = 0;
        }
    }

    // --- names --------------------------------------------------------------

    pub(crate) fn resolve(
        &mut self,
        machine: usize,
        host: &str,
        port: u16,
        completion: Completion,
    ) {
        let link = self.link;
        let dice = &mut self.machines[machine].names;
        let delay = 2 * latency(&link, &mut dice.rng);
        let has_failed = dice.draw(Fault::NameFailure, &self.faults).is_some();
        if has_failed {
            self.record_fault(machine, Fault::NameFailure);
        }
        let found = match host.parse::<IpAddr>() {
            Ok(ip) => Some(vec![ip]),
            Err(_) if has_failed => None,
            Err(_) => self.lookup(host.strip_suffix('.').unwrap_or(host)),
        };
        let result = match found {
            Some(ips) => Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
            // The text of getaddrinfo(3).
            None => Err(io::Error::other(
                "failed to lookup address information: Name or service not known",
            )),
        };
        self.schedule(self.now + delay, Event::Resolved { machine, completion, result });
    }

    /// Returns the addresses of `name`. Each host knows itself as `localhost` (RFC 6761).
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        let found = self.zone.get(name).cloned();
        found.or_else(|| (name == "localhost").then(|| vec![Ipv4Addr::LOCALHOST.into()]))
    }

    // --- signals ------------------------------------------------------------

    /// Sends `signal` to a machine. Returns `false` if its program does not handle it.
    pub(crate) fn signal(&mut self, machine: usize, signal: i32) -> bool {
        let handlers = self.open_descriptors().filter(|(_, descriptor)| match &descriptor.object {
            Object::Signals { numbers, .. } => {
                descriptor.machine == machine && numbers.contains(&signal)
            }
            _ => false,
        });
        let handlers: Vec<Fd> = handlers.map(|(fd, _)| fd).collect();
        self.record_world(machine, &[u64::from(signal.unsigned_abs())], || {
            format!("signal {signal}")
        });
        for &fd in &handlers {
            if let Ok(descriptor) = self.descriptor_mut(fd)
                && let Object::Signals { arrived, .. } = &mut descriptor.object
                // Several of one number that are pending are one.
                && !arrived.contains(&signal)
            {
                arrived.push(signal);
            }
            self.update_ready(fd);
        }
        !handlers.is_empty()
    }

    pub(crate) fn take_signals(&mut self, fd: Fd) -> Vec<i32> {
        let arrived = match self.descriptor_mut(fd).map(|descriptor| &mut descriptor.object) {
            Ok(Object::Signals { arrived, .. }) => std::mem::take(arrived),
            _ => Vec::new(),
        };
        self.update_ready(fd);
        arrived
    }
}
