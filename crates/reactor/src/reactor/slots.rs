//! The table of channels: slots with generations, named by [`Token`]s.

use std::fmt;

use crate::compact_instant::Moment;
use crate::poll::Interest;
use crate::reactor::dispatcher::Dispatcher;

/// The name of one channel of one reactor, for as long as the program runs.
///
/// Tokens are plain values: copy them, keep them, hash them. A token outlives
/// its channel without harm. Once the channel is closed the token resolves to
/// nothing, even when another channel has taken its place in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// The token of no channel: what runs outside of every channel has it.
    pub(crate) const NONE: Token = Token { index: u32::MAX, generation: u32::MAX };

    /// What the poller is given to name this channel by. Both halves take
    /// part, so an event for a channel that is gone names no later one. (On
    /// 32-bit systems the halves are 16 bits: the generation then repeats
    /// after 65,536 uses of a slot, which no batch of events can span.)
    pub(crate) fn key(self) -> usize {
        const HALF: u32 = usize::BITS / 2;
        ((self.generation as usize) << HALF) | (self.index as usize & (usize::MAX >> HALF))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// One place in the table, and what the reactor knows of the channel in it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, in any combination")]
pub(crate) struct Slot {
    /// `None` while the dispatcher is being called, or where nobody lives.
    pub(crate) dispatcher: Option<Box<dyn Dispatcher>>,
    /// The deadline that the timers know of.
    pub(crate) armed: Option<Moment>,
    generation: u32,
    /// What the poller was last told; `None` where the source is not in it.
    pub(crate) registered: Option<Interest>,
    live: bool,
    /// `handle_add` is still owed.
    pub(crate) fresh: bool,
    /// Its source left the poller as it had hung up.
    pub(crate) hung_up: bool,
    /// An event ended its registration, where the poller does that.
    pub(crate) disarmed: bool,
    /// Its source is one that the poller refuses to watch, for it never
    /// blocks.
    pub(crate) always_ready: bool,
    /// Events in a row by which nothing was done.
    pub(crate) fruitless: u16,
    /// Waits in the reactor's list of channels to settle.
    pub(crate) touched: bool,
    /// Its end is decided: no callback any more but `handle_close`.
    pub(crate) doomed: bool,
    /// Does not keep the loop running.
    background: bool,
}

/// The channels of one reactor.
#[derive(Default)]
pub(crate) struct Channels {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Live channels that keep the loop running.
    foreground: usize,
}

impl Channels {
    /// The most channels that one reactor can hold: the bits that a poller's
    /// key leaves for the index, less the value that is reserved.
    #[cfg(target_pointer_width = "64")]
    const MOST: usize = u32::MAX as usize;
    #[cfg(not(target_pointer_width = "64"))]
    const MOST: usize = u16::MAX as usize;

    /// Puts a dispatcher into a slot; `None` where every slot is taken.
    pub(crate) fn insert(&mut self, dispatcher: Box<dyn Dispatcher>) -> Option<Token> {
        let background = dispatcher.is_background();
        let index = if let Some(index) = self.free.pop() {
            index
        } else {
            let index = u32::try_from(self.slots.len()).ok()?;
            if self.slots.len() >= Self::MOST {
                return None;
            }
            self.slots.push(Slot {
                dispatcher: None,
                armed: None,
                generation: 0,
                registered: None,
                live: false,
                fresh: false,
                hung_up: false,
                disarmed: false,
                always_ready: false,
                fruitless: 0,
                touched: false,
                doomed: false,
                background: false,
            });
            index
        };
        let slot = &mut self.slots[index as usize];
        *slot = Slot {
            dispatcher: Some(dispatcher),
            armed: None,
            generation: slot.generation,
            registered: None,
            live: true,
            fresh: true,
            hung_up: false,
            disarmed: false,
            always_ready: false,
            fruitless: 0,
            touched: false,
            doomed: false,
            background,
        };
        self.foreground += usize::from(!background);
        Some(Token { index, generation: slot.generation })
    }

    /// The slot that `token` names, as long as its channel lives.
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index as usize)?;
        (slot.live && slot.generation == token.generation).then_some(slot)
    }

    /// Whether the end of `token`'s channel is decided.
    pub(crate) fn is_doomed(&self, token: Token) -> bool {
        let slot = self.slots.get(token.index as usize);
        slot.is_some_and(|slot| slot.live && slot.generation == token.generation && slot.doomed)
    }

    /// The channel that the poller means by `key`.
    pub(crate) fn by_key(&self, key: usize) -> Option<Token> {
        let index = key & (usize::MAX >> (usize::BITS / 2));
        let token = self.at(index)?;
        (token.key() == key).then_some(token)
    }

    /// The channel in slot `index`, as long as one lives there.
    pub(crate) fn at(&self, index: usize) -> Option<Token> {
        let slot = self.slots.get(index).filter(|slot| slot.live)?;
        Some(Token { index: u32::try_from(index).ok()?, generation: slot.generation })
    }

    /// How many slots there are; live channels have an index below it.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Takes the dispatcher out for a call. `None` where the channel is gone,
    /// about to close, or being called already further up the stack.
    pub(crate) fn take(&mut self, token: Token) -> Option<Box<dyn Dispatcher>> {
        self.get_mut(token).filter(|slot| !slot.doomed)?.dispatcher.take()
    }

    /// Puts back what [`Channels::take`] took.
    pub(crate) fn put_back(&mut self, token: Token, dispatcher: Box<dyn Dispatcher>) {
        if let Some(slot) = self.get_mut(token) {
            debug_assert!(slot.dispatcher.is_none(), "a dispatcher was put back twice");
            slot.dispatcher = Some(dispatcher);
        }
    }

    /// Ends the channel: `token` resolves to nothing from here on.
    pub(crate) fn remove(&mut self, token: Token) -> Option<Removed> {
        let slot = self.get_mut(token)?;
        let removed = Removed {
            dispatcher: slot.dispatcher.take()?,
            armed: slot.armed.take(),
            registered: slot.registered.take().is_some(),
            always_ready: slot.always_ready,
        };
        slot.live = false;
        let background = slot.background;
        // A slot whose generations are used up is retired, so that no token
        // ever names two channels.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(token.index);
        }
        self.foreground -= usize::from(!background);
        Some(removed)
    }

    /// How many live channels keep the loop running.
    pub(crate) fn foreground(&self) -> usize {
        self.foreground
    }
}

/// What is left of a channel when its slot is freed.
pub(crate) struct Removed {
    pub(crate) dispatcher: Box<dyn Dispatcher>,
    pub(crate) armed: Option<Moment>,
    pub(crate) registered: bool,
    pub(crate) always_ready: bool,
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use super::*;

    pub(crate) fn token(index: u32, generation: u32) -> Token {
        Token { index, generation }
    }

    struct Source(OwnedFd);

    impl Dispatcher for Source {
        fn source(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    fn source() -> Box<dyn Dispatcher> {
        Box::new(Source(UnixStream::pair().unwrap().0.into()))
    }

    #[test]
    fn invariant_1_a_token_never_names_a_later_channel_in_the_same_slot() {
        let mut channels = Channels::default();
        let first = channels.insert(source()).unwrap();
        channels.remove(first).unwrap();
        let second = channels.insert(source()).unwrap();
        assert_eq!(first.index, second.index, "the slot is used again");
        assert_ne!(first, second);
        assert_ne!(first.key(), second.key());
        assert!(channels.get_mut(first).is_none());
        assert_eq!(channels.by_key(first.key()), None);
        assert_eq!(channels.by_key(second.key()), Some(second));
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_is_retired() {
        let mut channels = Channels::default();
        let token = channels.insert(source()).unwrap();
        channels.slots[0].generation = u32::MAX;
        let last = Token { generation: u32::MAX, ..token };
        channels.remove(last).unwrap();
        let next = channels.insert(source()).unwrap();
        assert_ne!(next.index, last.index);
    }

    #[test]
    fn the_reserved_key_names_no_channel() {
        let channels = Channels::default();
        assert_eq!(Token::NONE.key(), usize::MAX);
        assert_eq!(channels.by_key(usize::MAX), None);
    }

    #[test]
    fn a_dispatcher_that_is_out_for_a_call_is_not_called_again() {
        let mut channels = Channels::default();
        let token = channels.insert(source()).unwrap();
        let out = channels.take(token).unwrap();
        assert!(channels.take(token).is_none());
        channels.put_back(token, out);
        assert!(channels.take(token).is_some());
    }
}
