//! [`Interest`]: what is wanted from a source; [`Event`]: what it reports.

/// Reading, writing, both or neither: what is wanted, or what is ready. Urgent data can
/// only be ready; it is wanted whenever reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest(u8);

impl Interest {
    const READABLE: u8 = 1;
    const WRITABLE: u8 = 2;
    const URGENT: u8 = 4;

    /// Reading, and nothing else.
    pub(crate) const READ: Interest = Interest(Self::READABLE);

    pub(crate) fn new(readable: bool, writable: bool) -> Self {
        let readable = if readable { Self::READABLE } else { 0 };
        let writable = if writable { Self::WRITABLE } else { 0 };
        Interest(readable | writable)
    }

    /// Adds urgent data, if `is_urgent`.
    pub(crate) fn with_urgent(self, is_urgent: bool) -> Self {
        if is_urgent { Interest(self.0 | Self::URGENT) } else { self }
    }

    /// Returns what is contained in both.
    pub(crate) fn intersection(self, other: Interest) -> Self {
        Interest(self.0 & other.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn readable(self) -> bool {
        self.0 & Self::READABLE != 0
    }

    pub(crate) fn writable(self) -> bool {
        self.0 & Self::WRITABLE != 0
    }

    pub(crate) fn urgent(self) -> bool {
        self.0 & Self::URGENT != 0
    }
}

/// The readiness of one source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// [`Token::key`](crate::token::Token::key) of the channel that was registered.
    pub(crate) key: usize,
    /// Empty if the source has only failed. Urgent only on systems that report it.
    pub(crate) ready: Interest,
}
