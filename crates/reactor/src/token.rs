//! [`Token`]: the name of one channel.

use std::fmt;

/// The name of one channel of one reactor.
///
/// Tokens are plain values that can be copied, stored and hashed. A token may outlive its
/// channel. Once the channel is closed, the token names no channel, even after another
/// channel has taken its slot in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// Names no channel. It is current while a job runs.
    pub(crate) const NONE: Token = Token::new(u32::MAX, u32::MAX);

    /// Half of a poller key holds the index, the other half the generation. On
    /// 32-bit systems that is 16 bits each: a generation then repeats after
    /// 65,536 uses of a slot, more than one batch of events can contain.
    pub(crate) const KEY_HALF: u32 = usize::BITS / 2;

    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Token { index, generation }
    }

    /// Returns the position of the channel's slot.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }

    pub(crate) fn generation(self) -> u32 {
        self.generation
    }

    /// Returns the key under which the channel is registered in the poller.
    pub(crate) fn key(self) -> usize {
        let generation = (self.generation as usize) << Self::KEY_HALF;
        generation | (self.index as usize & (usize::MAX >> Self::KEY_HALF))
    }

    /// Returns the slot position that a poller key contains.
    pub(crate) fn index_of_key(key: usize) -> usize {
        key & (usize::MAX >> Self::KEY_HALF)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_has_the_reserved_key() {
        // `polling` reserves `usize::MAX`, so no event carries it.
        assert_eq!(Token::NONE.key(), usize::MAX);
    }

    #[test]
    fn key_contains_index_and_generation() {
        let token = Token::new(7, 3);
        assert_eq!(Token::index_of_key(token.key()), 7);
        assert_ne!(token.key(), Token::new(7, 4).key());
    }
}
