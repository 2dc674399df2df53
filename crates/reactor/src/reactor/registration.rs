//! [`Registration`]: what the poller watches for a channel.

use std::io;

use crate::poll::Interest;
use crate::reactor::Context;
use crate::sys::source::Source;
use crate::token::Token;

/// State machine for a channel's registration in the poller.
///
/// | from | event | to |
/// | --- | --- | --- |
/// | `Detached`, `HungUp` with interest | settle: `Poller::add` returns `true` / `false` / an error | `Polled` armed / `AlwaysReady` / the channel closes |
/// | `HungUp` | settle, interest empty | `HungUp` |
/// | `Polled` armed, `AlwaysReady` | settle, interest unchanged | the same, without a system call |
/// | `Polled` | an event, if the poller is oneshot | `Polled`, not armed |
/// | `Polled` | settle, interest changed or not armed | `Polled` armed, by `Poller::modify` |
/// | `AlwaysReady` | settle, interest changed | `AlwaysReady` |
/// | any | hang-up without interest | `HungUp`, by `Poller::delete` |
/// | any | `Context::deregister` | `Detached` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registration {
    /// The source is not in the poller.
    Detached,
    /// The source left the poller because it hung up.
    HungUp,
    /// The poller watches the source, for hang-ups even if the interest is empty.
    Polled { interest: Interest, armed: bool },
    /// The poller does not watch sources that never block; they have a turn each
    /// time while the interest is not empty.
    AlwaysReady { interest: Interest },
}

impl Registration {
    /// Returns what is registered, or `None` if nothing is.
    pub(super) fn interest(self) -> Option<Interest> {
        match self {
            Registration::Detached | Registration::HungUp => None,
            Registration::Polled { interest, .. } | Registration::AlwaysReady { interest } => {
                Some(interest)
            }
        }
    }

    /// Returns `true` if nothing must change for `wanted`.
    pub(super) fn satisfies(self, wanted: Interest) -> bool {
        match self {
            Registration::Polled { interest, armed } => armed && interest == wanted,
            Registration::AlwaysReady { interest } => interest == wanted,
            Registration::HungUp => wanted.is_empty(),
            Registration::Detached => false,
        }
    }

    /// The state after an event of a oneshot poller.
    pub(super) fn disarmed(self) -> Self {
        match self {
            Registration::Polled { interest, .. } => {
                Registration::Polled { interest, armed: false }
            }
            other => other,
        }
    }
}

impl Context {
    /// Changes what the poller watches for `token`, if that differs from `wanted`.
    pub(super) fn update_registration(
        &mut self,
        token: Token,
        source: Source<'_>,
        wanted: Interest,
    ) -> io::Result<()> {
        let Some(slot) = self.slots.get_mut(token) else { return Ok(()) };
        let current = slot.registration();
        if current.satisfies(wanted) {
            return Ok(());
        }
        let next = match current {
            Registration::Polled { .. } => {
                self.poller.modify(source, token, wanted)?;
                Registration::Polled { interest: wanted, armed: true }
            }
            Registration::AlwaysReady { .. } => {
                self.always_ready.retain(|&other| other != token);
                Registration::AlwaysReady { interest: wanted }
            }
            Registration::Detached | Registration::HungUp => {
                if self.poller.add(source, token, wanted)? {
                    Registration::Polled { interest: wanted, armed: true }
                } else {
                    Registration::AlwaysReady { interest: wanted }
                }
            }
        };
        slot.set_registration(next);
        if matches!(next, Registration::AlwaysReady { .. }) && !wanted.is_empty() {
            self.always_ready.push(token);
        }
        Ok(())
    }

    /// Removes the source of a channel that hung up.
    pub(super) fn suspend_registration(&mut self, token: Token, source: Source<'_>) {
        self.replace_registration(token, source, Registration::HungUp);
    }

    pub(super) fn replace_registration(
        &mut self,
        token: Token,
        source: Source<'_>,
        next: Registration,
    ) {
        let Some(slot) = self.slots.get_mut(token) else { return };
        let previous = slot.registration();
        slot.set_registration(next);
        self.deregister_source(token, source, previous);
    }

    /// Stops watching `source`, which was registered as `previous`.
    pub(super) fn deregister_source(
        &mut self,
        token: Token,
        source: Source<'_>,
        previous: Registration,
    ) {
        match previous {
            Registration::Detached | Registration::HungUp => {}
            Registration::AlwaysReady { .. } => {
                self.always_ready.retain(|&other| other != token);
            }
            Registration::Polled { .. } => {
                if let Err(error) = self.poller.delete(source) {
                    // Only if the dispatcher closed or exchanged its source.
                    log::error!("channel {token:?}: its source was not registered: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Interest = Interest { readable: true, writable: false };
    const NONE: Interest = Interest { readable: false, writable: false };

    #[test]
    fn settling_changes_nothing_if_satisfied() {
        let polled = Registration::Polled { interest: READ, armed: true };
        assert!(polled.satisfies(READ));
        assert!(!polled.satisfies(NONE));
        assert!(!polled.disarmed().satisfies(READ), "an event of a oneshot poller disarms");
        assert!(Registration::AlwaysReady { interest: READ }.satisfies(READ));
        assert!(!Registration::AlwaysReady { interest: READ }.satisfies(NONE));
        assert!(!Registration::Detached.satisfies(NONE), "watched for hang-ups");
        assert!(Registration::HungUp.satisfies(NONE), "else it would spin");
        assert!(!Registration::HungUp.satisfies(READ));
    }

    #[test]
    fn only_polled_sources_are_disarmed() {
        for registration in [
            Registration::Detached,
            Registration::HungUp,
            Registration::AlwaysReady { interest: READ },
        ] {
            assert_eq!(registration.disarmed(), registration);
        }
    }
}
