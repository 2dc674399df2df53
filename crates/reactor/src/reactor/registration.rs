//! [`Registration`]: what the poller watches for a channel.

use std::io;

use crate::poll::Interest;
use crate::reactor::Context;
use crate::reactor::panic::log_panic;
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
    pub(super) const POLLED_FOR_INPUT: Registration =
        Registration::Polled { interest: Interest::READ, armed: true };

    /// Returns what is registered, or `None` if nothing is.
    #[inline(always)]
    pub(super) fn interest(self) -> Option<Interest> {
        match self {
            Registration::Polled { interest, .. } | Registration::AlwaysReady { interest } => {
                Some(interest)
            }
            Registration::Detached | Registration::HungUp => None,
        }
    }

    /// Returns `true` if nothing must change for `wanted`.
    #[inline(always)]
    pub(super) fn satisfies(self, wanted: Interest) -> bool {
        match self {
            Registration::Polled { interest, armed: true } => interest == wanted,
            other => other.satisfies_unless_armed(wanted),
        }
    }

    #[cold]
    fn satisfies_unless_armed(self, wanted: Interest) -> bool {
        match self {
            Registration::AlwaysReady { interest } => interest == wanted,
            Registration::HungUp => wanted.is_empty(),
            Registration::Polled { .. } | Registration::Detached => false,
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

    /// Removes the source of a channel that hung up, unless it is wanted again.
    pub(super) fn suspend_registration(&mut self, token: Token) {
        let Some(slot) = self.slots.get_mut(token) else { return };
        let previous = slot.registration();
        if previous.interest().is_some_and(|interest| !interest.is_empty()) {
            return;
        }
        // A channel that is closing leaves the poller when it is closed.
        let Some(channel) = self.slots.take(token) else { return };
        log_panic("source", || {
            self.replace_registration(token, channel.source(), Registration::HungUp);
        });
        self.slots.put_back(token, channel);
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

    #[test]
    fn settling_changes_nothing_if_satisfied() {
        let (read, none) = (Interest::new(true, false), Interest::new(false, false));
        let polled = Registration::Polled { interest: read, armed: true };
        assert!(polled.satisfies(read));
        assert!(!polled.satisfies(none));
        assert!(!polled.disarmed().satisfies(read), "an event of a oneshot poller disarms");
        assert!(Registration::AlwaysReady { interest: read }.satisfies(read));
        assert!(!Registration::AlwaysReady { interest: read }.satisfies(none));
        assert!(!Registration::Detached.satisfies(none), "watched for hang-ups");
        assert!(Registration::HungUp.satisfies(none), "else it would spin");
        assert!(!Registration::HungUp.satisfies(read));
    }

    #[test]
    fn only_polled_sources_are_disarmed() {
        let read = Interest::new(true, false);
        for registration in [
            Registration::Detached,
            Registration::HungUp,
            Registration::AlwaysReady { interest: read },
        ] {
            assert_eq!(registration.disarmed(), registration);
        }
    }
}
