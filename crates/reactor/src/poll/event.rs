//! [`Interest`]: what is wanted from a source; [`Event`]: what it reports.

/// Reading, writing, both or neither. Urgent data is wanted whenever reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest(u8);

impl Interest {
    const READABLE: u8 = 1;
    const WRITABLE: u8 = 2;

    /// Reading, and nothing else.
    pub(crate) const READ: Interest = Interest(Self::READABLE);

    pub(crate) fn new(readable: bool, writable: bool) -> Self {
        let readable = if readable { Self::READABLE } else { 0 };
        let writable = if writable { Self::WRITABLE } else { 0 };
        Interest(readable | writable)
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
}

/// What a source is ready for, as the bits of epoll(7): only what is asked for needs to be
/// decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready(pub(super) u32);

impl Ready {
    const IN: u32 = 0x1;
    const PRI: u32 = 0x2;
    const OUT: u32 = 0x4;
    const ERR: u32 = 0x8;
    const HUP: u32 = 0x10;
    const RDHUP: u32 = 0x2000;

    pub(crate) fn new(readable: bool, writable: bool) -> Self {
        let readable = if readable { Self::IN } else { 0 };
        let writable = if writable { Self::OUT } else { 0 };
        Ready(readable | writable)
    }

    /// Adds urgent data, if `is_urgent`.
    pub(crate) fn with_urgent(self, is_urgent: bool) -> Self {
        if is_urgent { Ready(self.0 | Self::PRI) } else { self }
    }

    pub(crate) fn readable(self) -> bool {
        self.0 & (Self::IN | Self::PRI | Self::RDHUP | Self::HUP | Self::ERR) != 0
    }

    pub(crate) fn writable(self) -> bool {
        self.0 & (Self::OUT | Self::HUP | Self::ERR) != 0
    }

    /// Urgent data, which counts as readable too. Only some systems report it.
    pub(crate) fn urgent(self) -> bool {
        self.0 & Self::PRI != 0
    }

    /// Returns what of `wanted` is ready.
    pub(crate) fn intersection(self, wanted: Interest) -> Interest {
        Interest::new(self.readable() && wanted.readable(), self.writable() && wanted.writable())
    }
}

/// The readiness of one source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// [`Token::key`](crate::token::Token::key) of the channel that was registered.
    pub(crate) key: usize,
    /// Neither readable nor writable if the source has only failed.
    pub(crate) ready: Ready,
}
