//! [`Pattern`]: the data that is sent.

/// Length after which the pattern repeats. It is a prime, so that with every
/// message size a duplicate or missing message changes the data.
const PERIOD: usize = 65_521;

/// An endless sequence of bytes, any part of which is available as a slice.
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    /// Creates a pattern for slices of up to `max_len` bytes.
    pub(crate) fn new(max_len: usize) -> Self {
        let mut state = 1_u32;
        let mut bytes: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        for index in 0..max_len {
            bytes.push(bytes[index]);
        }
        Pattern(bytes)
    }

    /// Returns `len` bytes of the sequence, starting at `position`.
    ///
    /// # Panics
    ///
    /// Panics if `len` exceeds the maximum that the pattern was created for.
    pub(crate) fn slice_at(&self, position: u64, len: usize) -> &[u8] {
        let start = usize::try_from(position % PERIOD as u64).unwrap_or(0);
        &self.0[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_join_to_the_whole() {
        let pattern = Pattern::new(200_000);
        let whole = pattern.slice_at(65_000, 200_000);
        let mut joined = Vec::<u8>::new();
        for len in [1, 520, 1, 65_521, 100_000, 33_957] {
            joined.extend(pattern.slice_at(65_000 + joined.len() as u64, len));
        }
        assert_eq!(joined.len(), 200_000);
        assert!(joined == whole);
    }

    #[test]
    fn missing_message_changes_the_data() {
        let pattern = Pattern::new(64);
        assert_ne!(pattern.slice_at(0, 64), pattern.slice_at(64, 64));
        assert_ne!(pattern.slice_at(0, 64), pattern.slice_at(65_536, 64));
    }
}
