//! [`Trace`]: what happened in a world, as a hash and, on request, as a list.

use std::fmt;
use std::time::Duration;

/// The offset and the factor of FNV-1a with 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Something travelled from one machine to another, and has arrived.
    Message,
    /// A machine made a system call.
    Call,
    /// Something went wrong.
    Fault,
    /// A timer of a machine has expired.
    Timer,
    /// The test or the world did something: a start, a crash, a signal.
    World,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// The simulated time since the start of the world.
    pub at: Duration,
    /// What kind of thing it was.
    pub kind: EventKind,
    /// The machine that it happened to, or from which a message came.
    pub machine: usize,
    /// The machine at which a message arrived, or the other one if a fault is between two.
    pub to: Option<usize>,
    /// What it was, in a few words.
    pub text: String,
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14.6}s  ", self.at.as_secs_f64())?;
        match self.to {
            Some(to) => write!(f, "{} -> {to}", self.machine)?,
            None => write!(f, "{}", self.machine)?,
        }
        write!(f, "  {}", self.text)
    }
}

/// What happened so far.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    /// `None` if only the hash is wanted.
    events: Option<Vec<TraceEvent>>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Trace { hash: FNV_OFFSET, events: None }
    }

    pub(crate) fn start_recording(&mut self) {
        self.events.get_or_insert_default();
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn events(&self) -> &[TraceEvent] {
        self.events.as_deref().unwrap_or_default()
    }

    /// Adds `bytes` to the hash.
    pub(crate) fn mix(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
    }

    /// Adds an event. `numbers` are what distinguishes it; `text` describes it, and is only
    /// called if events are recorded.
    pub(crate) fn record(
        &mut self,
        at: u64,
        kind: EventKind,
        machines: (usize, Option<usize>),
        numbers: &[u64],
        text: impl FnOnce() -> String,
    ) {
        let (machine, to) = machines;
        self.mix(&[kind as u8]);
        for number in [at, machine as u64].iter().chain(numbers) {
            self.mix(&number.to_le_bytes());
        }
        if let Some(events) = &mut self.events {
            events.push(TraceEvent {
                at: Duration::from_nanos(at),
                kind,
                machine,
                to,
                text: text(),
            });
        }
    }
}
