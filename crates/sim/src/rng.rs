//! [`Rng`]: random numbers from a seed.

/// The increment of `SplitMix64`: the golden ratio, as 64 bits.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A random stream (`SplitMix64`, Steele et al., 2014). Each connection and each machine has
/// its own, so that what happens to one does not change the others.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Returns the stream of what `ids` name in the world of `seed`.
    pub(crate) fn new(seed: u64, ids: &[u64]) -> Self {
        let mut rng = Rng(seed);
        for id in ids {
            rng.0 = rng.next() ^ id.wrapping_mul(GAMMA);
        }
        rng
    }

    /// Returns another stream, which `id` names.
    pub(crate) fn fork(&self, id: u64) -> Self {
        Rng::new(self.0, &[id])
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, or 0 if that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// Returns a number from 1 to `max`, or 0 if that is 0.
    pub(crate) fn up_to(&mut self, max: usize) -> usize {
        if max == 0 {
            return 0;
        }
        let chosen = self.below(u64::try_from(max).unwrap_or(u64::MAX));
        usize::try_from(chosen).unwrap_or(0) + 1
    }

    /// Returns `true` with a probability of `per_million`.
    pub(crate) fn chance(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < u64::from(per_million)
    }

    /// Brings `items` into a random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.up_to(last + 1) - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_independent_and_repeatable() {
        let first = |ids: &[u64]| Rng::new(1, ids).next();
        assert_eq!(first(&[1, 2]), first(&[1, 2]));
        assert_ne!(first(&[1, 2]), first(&[2, 1]));
        assert_ne!(Rng::new(1, &[1]).next(), Rng::new(2, &[1]).next());
    }

    #[test]
    fn numbers_keep_their_bounds() {
        let mut rng = Rng::new(3, &[]);
        for _ in 0..1000 {
            assert!((1..=3).contains(&rng.up_to(3)));
            assert!(rng.below(7) < 7);
        }
        assert_eq!((rng.below(0), rng.up_to(0)), (0, 0));
        assert!(!rng.chance(0) && rng.chance(1_000_000));
    }
}
