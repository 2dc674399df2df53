//! [`Pattern`]: bytes whose place in a conversation can be told.

/// How long the pattern is before it repeats: a prime, so that no message size
/// hides a message that came twice or not at all.
const PERIOD: usize = 65_521;

/// What every conversation sends: an endless sequence, any part of which is a
/// slice that need not be made.
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    /// One of which parts of up to `longest` bytes can be had.
    pub(crate) fn new(longest: usize) -> Self {
        let mut state = 1_u32;
        let mut bytes: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        for index in 0..longest {
            bytes.push(bytes[index]);
        }
        Pattern(bytes)
    }

    /// The `len` bytes from `position` on.
    pub(crate) fn part(&self, position: u64, len: usize) -> &[u8] {
        let begin = usize::try_from(position % PERIOD as u64).unwrap_or(0);
        &self.0[begin..begin + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_without_a_seam() {
        let pattern = Pattern::new(200_000);
        let whole = pattern.part(65_000, 200_000);
        let mut joined = Vec::<u8>::new();
        for len in [1, 520, 1, 65_521, 100_000, 33_957] {
            joined.extend(pattern.part(65_000 + joined.len() as u64, len));
        }
        assert_eq!(joined.len(), 200_000);
        assert!(joined == whole);
    }

    #[test]
    fn a_message_that_is_missing_shows() {
        let pattern = Pattern::new(64);
        assert_ne!(pattern.part(0, 64), pattern.part(64, 64));
        assert_ne!(pattern.part(0, 64), pattern.part(65_536, 64));
    }
}
