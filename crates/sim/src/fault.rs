//! [`Fault`]: what can go wrong in a world, and how often.

use std::fmt;

/// Something that goes wrong. Each occurrence is drawn from the random stream of the
/// connection, the socket or the machine that it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A read returns less than has arrived.
    ShortRead,
    /// A write accepts less than there is room for.
    ShortWrite,
    /// A system call fails with `EINTR`.
    Interrupt,
    /// A source is reported as readable, and a read finds nothing.
    Spurious,
    /// A segment is lost, and sent again after 200 ms; so is a request to connect, after a
    /// second.
    Loss,
    /// A segment is late, by up to a second.
    Delay,
    /// Something in the network resets a connection, at both ends.
    Reset,
    /// A request to connect is refused, although a program listens.
    Refuse,
    /// accept(2) fails with `ECONNABORTED`, and the connection is lost.
    AcceptAborted,
    /// accept(2) fails with `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM`.
    NoDescriptors,
    /// A datagram is lost.
    DatagramLoss,
    /// A datagram arrives twice.
    DatagramDuplicate,
    /// A datagram is overtaken by later ones.
    DatagramReorder,
    /// A name is not resolved.
    NameFailure,
    /// A machine stands still for up to two seconds, as after `SIGSTOP`.
    Pause,
    /// Nothing passes between two machines for up to ten seconds.
    Partition,
    /// A machine loses power, and starts again within ten seconds: its peers receive nothing.
    Crash,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 17] = [
        Fault::ShortRead,
        Fault::ShortWrite,
        Fault::Interrupt,
        Fault::Spurious,
        Fault::Loss,
        Fault::Delay,
        Fault::Reset,
        Fault::Refuse,
        Fault::AcceptAborted,
        Fault::NoDescriptors,
        Fault::DatagramLoss,
        Fault::DatagramDuplicate,
        Fault::DatagramReorder,
        Fault::NameFailure,
        Fault::Pause,
        Fault::Partition,
        Fault::Crash,
    ];

    /// Returns the fault's name, as a trace shows it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::ShortRead => "short read",
            Fault::ShortWrite => "short write",
            Fault::Interrupt => "interrupt",
            Fault::Spurious => "spurious event",
            Fault::Loss => "loss",
            Fault::Delay => "delay",
            Fault::Reset => "reset",
            Fault::Refuse => "refuse",
            Fault::AcceptAborted => "accept aborted",
            Fault::NoDescriptors => "no descriptors",
            Fault::DatagramLoss => "datagram loss",
            Fault::DatagramDuplicate => "datagram duplicate",
            Fault::DatagramReorder => "datagram reorder",
            Fault::NameFailure => "name failure",
            Fault::Pause => "pause",
            Fault::Partition => "partition",
            Fault::Crash => "crash",
        }
    }

    /// Returns `true` for a fault that [`Sim::chaos`](crate::Sim::chaos) schedules: its rate
    /// counts for each second, of each machine or pair of machines. The others are drawn
    /// whenever they can happen.
    pub fn is_scheduled(self) -> bool {
        matches!(self, Fault::Partition | Fault::Crash | Fault::Pause)
    }

    fn index(self) -> usize {
        self as usize
    }

    /// The rate in [`Faults::all`], in a million.
    fn usual_rate(self) -> u32 {
        match self {
            Fault::ShortRead | Fault::ShortWrite => 250_000,
            Fault::Spurious | Fault::Interrupt => 30_000,
            Fault::Loss | Fault::Delay | Fault::Refuse | Fault::Pause => 20_000,
            Fault::Reset => 4_000,
            Fault::DatagramLoss | Fault::DatagramDuplicate | Fault::DatagramReorder => 100_000,
            Fault::AcceptAborted | Fault::NoDescriptors | Fault::NameFailure => 50_000,
            Fault::Partition | Fault::Crash => 10_000,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each fault happens, in a million; 0 for never.
///
/// # Examples
///
/// ```
/// use sim::{Fault, Faults};
///
/// let faults = Faults::none().with(Fault::ShortRead, 500_000).with(Fault::Reset, 1_000);
/// assert_eq!(faults.declared().count(), 2);
/// assert!(Faults::all().without(Fault::Crash).rate(Fault::Crash) == 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults([u32; Fault::ALL.len()]);

impl Faults {
    /// Returns the rates of a perfect world.
    pub fn none() -> Self {
        Faults([0; Fault::ALL.len()])
    }

    /// Returns a rate for every fault.
    pub fn all() -> Self {
        Faults(Fault::ALL.map(Fault::usual_rate))
    }

    /// Returns a rate for every fault that can happen to a program which uses streams only,
    /// and addresses instead of names.
    pub fn of_streams() -> Self {
        let others = [
            Fault::DatagramLoss,
            Fault::DatagramDuplicate,
            Fault::DatagramReorder,
            Fault::NameFailure,
        ];
        others.into_iter().fold(Self::all(), Self::without)
    }

    /// Sets the rate of `fault`.
    #[must_use]
    pub fn with(mut self, fault: Fault, per_million: u32) -> Self {
        self.0[fault.index()] = per_million;
        self
    }

    /// Sets the rate of `fault` to 0.
    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        self.with(fault, 0)
    }

    /// Returns the rate of `fault`.
    pub fn rate(&self, fault: Fault) -> u32 {
        self.0[fault.index()]
    }

    /// Returns the higher one of the two rates of each fault.
    #[must_use]
    pub fn or(mut self, other: &Faults) -> Self {
        for (rate, other) in self.0.iter_mut().zip(other.0) {
            *rate = other.max(*rate);
        }
        self
    }

    /// Returns the faults whose rate is not 0.
    pub fn declared(&self) -> impl Iterator<Item = Fault> + '_ {
        Fault::ALL.into_iter().filter(|&fault| self.rate(fault) > 0)
    }
}

/// How often each fault has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    /// Returns how often `fault` has happened.
    pub fn get(&self, fault: Fault) -> u64 {
        self.0[fault.index()]
    }

    /// Counts an occurrence of `fault`.
    pub(crate) fn record(&mut self, fault: Fault) {
        self.0[fault.index()] += 1;
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &FaultCounts) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for fault in Fault::ALL.into_iter().filter(|&fault| self.get(fault) > 0) {
            write!(f, "{separator}{fault} {}", self.get(fault))?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_each_fault_at_its_index() {
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault.index(), index);
            assert!(Faults::all().rate(fault) > 0, "{fault}");
        }
    }
}
