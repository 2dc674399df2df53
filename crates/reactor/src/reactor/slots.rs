//! [`Slots`]: the table of channels.

use crate::compact_instant::CompactInstant;
use crate::poll::{Event, Interest};
use crate::reactor::call::Channel;
use crate::reactor::registration::Registration;
use crate::token::Token;

/// State machine for a slot.
///
/// | from | event | to |
/// | --- | --- | --- |
/// | `Vacant` | `insert` | `Added` |
/// | `Added` | the first settle, before `handle_add` | `Open` |
/// | `Added`, `Open` | `start_closing` | `Closing` |
/// | `Added`, `Open`, `Closing` | `remove` | `Vacant`, with the next generation |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Vacant,
    /// `handle_add` is pending.
    Added,
    Open,
    /// The end is decided: only `handle_close` follows.
    Closing,
}

/// One place in the table.
pub(super) struct Slot {
    /// `None` while the channel is being called, and in a vacant slot.
    channel: Option<Box<dyn Channel>>,
    /// The deadline for which the timers have an entry.
    armed_deadline: Option<CompactInstant>,
    generation: u32,
    registration: Registration,
    phase: Phase,
    /// It has an entry in the queue of channels to settle.
    dirty: bool,
    /// It does not keep the loop running.
    background: bool,
    /// Events in a row without progress; `None` if progress is not measured.
    idle_events: Option<u16>,
}

impl Slot {
    pub(super) fn registration(&self) -> Registration {
        self.registration
    }

    pub(super) fn set_registration(&mut self, registration: Registration) {
        self.registration = registration;
    }

    pub(super) fn armed_deadline(&self) -> Option<CompactInstant> {
        self.armed_deadline
    }

    pub(super) fn set_armed_deadline(&mut self, armed: Option<CompactInstant>) {
        self.armed_deadline = armed;
    }

    /// Marks the channel for settling. Returns `false` if it was marked already.
    pub(super) fn set_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    pub(super) fn clear_dirty(&mut self) {
        self.dirty = false;
    }

    /// Opens a channel that was added. Returns `false` if it is not in that phase.
    pub(super) fn open(&mut self) -> bool {
        let is_added = self.phase == Phase::Added;
        if is_added {
            self.phase = Phase::Open;
        }
        is_added
    }

    /// Counts an event. Returns `true` if it is the `limit`th without progress, and
    /// restarts the count.
    pub(super) fn count_idle_event(&mut self, limit: u16) -> bool {
        let Some(count) = &mut self.idle_events else { return false };
        *count += 1;
        let is_spinning = *count >= limit;
        if is_spinning {
            *count = 0;
        }
        is_spinning
    }

    pub(super) fn record_progress(&mut self) {
        self.idle_events = Some(0);
    }

    pub(super) fn type_name(&self) -> &'static str {
        self.channel.as_deref().map_or("being called", |channel| channel.type_name())
    }

    pub(super) fn unsent(&self) -> usize {
        self.channel.as_deref().map_or(0, super::dispatcher::Dispatcher::unsent)
    }

    pub(super) fn channel_mut(&mut self) -> Option<&mut dyn Channel> {
        Some(&mut **self.channel.as_mut()?)
    }
}

/// What remains of a channel when its slot is freed.
pub(super) struct RemovedChannel {
    pub(super) channel: Box<dyn Channel>,
    pub(super) armed_deadline: Option<CompactInstant>,
    pub(super) registration: Registration,
}

/// The channels of one reactor.
#[derive(Default)]
pub(super) struct Slots {
    table: Vec<Slot>,
    free: Vec<u32>,
    foreground_count: usize,
}

impl Slots {
    /// How many channels a reactor can contain: the bits that a poller key leaves for
    /// the index, without the values reserved for the poller.
    const MAX_CHANNELS: usize = (1 << Token::KEY_HALF) - 2;

    /// Puts a channel into a slot. Returns `None` if all slots are used.
    pub(super) fn insert(&mut self, channel: Box<dyn Channel>, background: bool) -> Option<Token> {
        let slot = Slot {
            channel: Some(channel),
            armed_deadline: None,
            generation: 0,
            registration: Registration::Detached,
            phase: Phase::Added,
            dirty: false,
            background,
            idle_events: None,
        };
        let token = if let Some(index) = self.free.pop() {
            let vacant = &mut self.table[index as usize];
            let generation = vacant.generation;
            *vacant = Slot { generation, ..slot };
            Token::new(index, generation)
        } else {
            let index = u32::try_from(self.table.len()).ok()?;
            if self.table.len() >= Self::MAX_CHANNELS {
                return None;
            }
            self.table.push(slot);
            Token::new(index, 0)
        };
        self.foreground_count += usize::from(!background);
        Some(token)
    }

    #[inline(always)]
    fn get(&self, token: Token) -> Option<&Slot> {
        let slot = self.table.get(token.index())?;
        (slot.generation == token.generation() && slot.phase != Phase::Vacant).then_some(slot)
    }

    /// Returns the slot for `token`, or `None` if the channel was removed.
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.table.get_mut(token.index())?;
        (slot.generation == token.generation() && slot.phase != Phase::Vacant).then_some(slot)
    }

    /// Returns the open channel that a poller key names, and what is registered for
    /// it. `None` drops an event that belongs to an earlier channel in the slot.
    #[inline(always)]
    pub(super) fn resolve(&self, key: usize) -> Option<(Token, Interest)> {
        let index = Token::index_of_key(key);
        let slot = self.table.get(index)?;
        let token = Token::new(u32::try_from(index).ok()?, slot.generation);
        if token.key() != key || slot.phase != Phase::Open {
            return None;
        }
        Some((token, slot.registration.interest()?))
    }

    /// Like [`resolve`](Self::resolve), but returns `None` too if the channel was touched
    /// since it settled, so that what is registered for it may be outdated.
    #[inline(always)]
    pub(super) fn resolve_settled(&self, key: usize) -> Option<(Token, Interest)> {
        let slot = self.table.get(Token::index_of_key(key))?;
        if slot.dirty { None } else { self.resolve(key) }
    }

    /// Returns the token of the channel in slot `index`, if there is one.
    pub(super) fn token_at(&self, index: usize) -> Option<Token> {
        let slot = self.table.get(index).filter(|slot| slot.phase != Phase::Vacant)?;
        Some(Token::new(u32::try_from(index).ok()?, slot.generation))
    }

    /// Returns the number of slots; the index of every channel is below it.
    pub(super) fn capacity(&self) -> usize {
        self.table.len()
    }

    /// Takes a channel out for a call. Returns `None` if it is closed or closing, or
    /// is being called already.
    #[inline(always)]
    pub(super) fn take(&mut self, token: Token) -> Option<Box<dyn Channel>> {
        let slot = self.table.get_mut(token.index())?;
        let is_callable = matches!(slot.phase, Phase::Added | Phase::Open);
        if slot.generation != token.generation() || !is_callable {
            return None;
        }
        slot.channel.take()
    }

    /// Takes out the channel that an event is for, if it can be read from at once: it is
    /// open, has settled, and waits for nothing but the input that is ready.
    #[inline(always)]
    pub(super) fn take_readable(&mut self, event: Event) -> Option<(Token, Box<dyn Channel>)> {
        let index = Token::index_of_key(event.key);
        let slot = self.table.get_mut(index)?;
        let token = Token::new(u32::try_from(index).ok()?, slot.generation);
        let is_readable = token.key() == event.key
            && slot.phase == Phase::Open
            && !slot.dirty
            && slot.registration == Registration::POLLED_FOR_INPUT
            && event.ready.readable()
            && !event.ready.urgent();
        if !is_readable {
            return None;
        }
        Some((token, slot.channel.take()?))
    }

    /// Puts back a channel that waits for input only. Returns `true` if that is all that
    /// is watched for it.
    #[inline(always)]
    pub(super) fn put_back_waiting(&mut self, token: Token, channel: Box<dyn Channel>) -> bool {
        self.restore(token, channel).is_some_and(|slot| {
            slot.phase == Phase::Open
                && slot.registration == Registration::POLLED_FOR_INPUT
                && slot.armed_deadline.is_none()
        })
    }

    /// Puts back what [`take`](Self::take) returned.
    #[inline(always)]
    pub(super) fn put_back(&mut self, token: Token, channel: Box<dyn Channel>) {
        self.restore(token, channel);
    }

    #[inline(always)]
    fn restore(&mut self, token: Token, channel: Box<dyn Channel>) -> Option<&Slot> {
        // The slot is not freed while the channel is out.
        let slot = self.table.get_mut(token.index())?;
        debug_assert!(slot.generation == token.generation() && slot.channel.is_none());
        // Not an assignment, which would drop the previous value.
        std::mem::forget(slot.channel.replace(channel));
        Some(slot)
    }

    /// Returns `true` if nothing must change for what the channel wants.
    #[inline(always)]
    pub(super) fn is_settled(&self, token: Token, wanted: Interest) -> bool {
        self.table.get(token.index()).is_some_and(|slot| {
            slot.registration.satisfies(wanted)
                && slot.armed_deadline.is_none()
                && slot.phase == Phase::Open
        })
    }

    pub(super) fn is_closing(&self, token: Token) -> bool {
        self.get(token).is_some_and(|slot| slot.phase == Phase::Closing)
    }

    /// Returns `true` if the channel has had its `handle_add`.
    pub(super) fn is_open(&self, token: Token) -> bool {
        self.get(token).is_some_and(|slot| slot.phase == Phase::Open)
    }

    /// Decides the channel's end. Returns `false` if it was decided already.
    pub(super) fn start_closing(&mut self, token: Token) -> bool {
        let Some(slot) = self.get_mut(token) else { return false };
        if slot.phase == Phase::Closing {
            return false;
        }
        slot.phase = Phase::Closing;
        true
    }

    /// Records that an event of a oneshot poller disarmed the channel's source.
    pub(super) fn disarm(&mut self, token: Token) {
        if let Some(slot) = self.get_mut(token) {
            slot.registration = slot.registration.disarmed();
        }
    }

    /// Like [`disarm`](Self::disarm), for a channel that is not open yet.
    pub(super) fn disarm_key(&mut self, key: usize) {
        if let Some(token) = self.token_at(Token::index_of_key(key))
            && token.key() == key
        {
            self.disarm(token);
        }
    }

    pub(super) fn clear_deadline(&mut self, token: Token) {
        if let Some(slot) = self.get_mut(token) {
            slot.armed_deadline = None;
        }
    }

    /// Frees the channel's slot: `token` resolves to nothing from here on.
    pub(super) fn remove(&mut self, token: Token) -> Option<RemovedChannel> {
        let slot = self.get_mut(token)?;
        let removed = RemovedChannel {
            channel: slot.channel.take()?,
            armed_deadline: slot.armed_deadline.take(),
            registration: slot.registration,
        };
        slot.phase = Phase::Vacant;
        let background = slot.background;
        // A slot without further generations is retired, so that no token ever names
        // two channels.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.extend(u32::try_from(token.index()));
        }
        self.foreground_count -= usize::from(!background);
        Some(removed)
    }

    /// Returns how many channels keep the loop running.
    pub(super) fn foreground_count(&self) -> usize {
        self.foreground_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Dispatcher;
    use crate::sys::source::Source;

    struct Dummy;

    impl Dispatcher for Dummy {
        fn source(&self) -> Source<'_> {
            Source::NONE
        }
    }

    fn channel() -> Box<dyn Channel> {
        Box::new(Dummy)
    }

    /// Opens and registers the channel, as the reactor does.
    fn open(slots: &mut Slots, token: Token) -> Interest {
        let interest = Interest::new(true, false);
        let slot = slots.get_mut(token).unwrap();
        assert!(slot.open());
        slot.set_registration(Registration::Polled { interest, armed: true });
        interest
    }

    #[test]
    fn invariant_1_token_never_names_a_later_channel_in_the_same_slot() {
        let mut slots = Slots::default();
        let first = slots.insert(channel(), false).unwrap();
        slots.remove(first).unwrap();
        let second = slots.insert(channel(), false).unwrap();
        assert_eq!(first.index(), second.index(), "the slot is used again");
        assert_ne!(first, second);
        assert!(slots.get_mut(first).is_none());
        let interest = open(&mut slots, second);
        assert_eq!(slots.resolve(first.key()), None);
        assert_eq!(slots.resolve(second.key()), Some((second, interest)));
    }

    #[test]
    fn slot_without_further_generations_is_retired() {
        let mut slots = Slots::default();
        let token = slots.insert(channel(), false).unwrap();
        slots.table[0].generation = u32::MAX;
        let last = Token::new(0, u32::MAX);
        slots.remove(last).unwrap();
        let next = slots.insert(channel(), false).unwrap();
        assert_ne!(next.index(), token.index());
    }

    #[test]
    fn reserved_keys_name_no_channel() {
        let slots = Slots::default();
        assert_eq!(slots.resolve(usize::MAX), None);
        assert_eq!(slots.resolve(usize::MAX - 1), None);
    }

    #[test]
    fn channel_being_called_is_not_taken_again() {
        let mut slots = Slots::default();
        let token = slots.insert(channel(), false).unwrap();
        let channel = slots.take(token).unwrap();
        assert!(slots.take(token).is_none());
        slots.put_back(token, channel);
        assert!(slots.take(token).is_some());
    }

    /// Each row of the table of [`Phase`].
    #[test]
    fn phases_change_as_documented() {
        let mut slots = Slots::default();
        let phase = |slots: &Slots| slots.table[0].phase;
        let token = slots.insert(channel(), false).unwrap();
        assert_eq!(phase(&slots), Phase::Added);
        assert!(slots.get_mut(token).unwrap().open());
        assert_eq!(phase(&slots), Phase::Open);
        assert!(!slots.get_mut(token).unwrap().open(), "only once");
        assert!(slots.start_closing(token));
        assert_eq!(phase(&slots), Phase::Closing);
        assert!(!slots.start_closing(token), "the first cause counts");
        assert!(!slots.get_mut(token).unwrap().open());
        assert!(slots.take(token).is_none());
        slots.remove(token).unwrap();
        assert_eq!(phase(&slots), Phase::Vacant);
        assert_eq!(slots.table[0].generation, token.generation() + 1);
        assert!(slots.remove(token).is_none());

        let token = slots.insert(channel(), false).unwrap();
        assert!(slots.start_closing(token), "from `Added` too");
        assert_eq!(phase(&slots), Phase::Closing);
    }
}
