//! Random numbers that differ between programs.

use std::hash::{BuildHasher, RandomState};

/// Returns a random number from 0 to 1. It is not for secrets.
pub(crate) fn random_fraction() -> f64 {
    let [.., a, b, c, d] = random().to_be_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

fn random() -> u64 {
    #[cfg(all(unix, feature = "sim"))]
    if let Some(kernel) = crate::sys::kernel::current() {
        return kernel.random();
    }
    // The keys of std's hash tables are random.
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_cover_their_range() {
        let fractions: Vec<_> = (0..1_000).map(|_| random_fraction()).collect();
        assert!(fractions.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
        // Each tenth is missed with a probability of 0.9 to the power of 1,000: 1e-46.
        for tenth in 0..10 {
            let tenth = f64::from(tenth) / 10.0..f64::from(tenth + 1) / 10.0;
            assert!(fractions.iter().any(|fraction| tenth.contains(fraction)), "{tenth:?}");
        }
    }
}
