//! [`Dice`]: what decides about the faults of a connection, a socket or a machine.

use std::array;

use crate::fault::{Fault, Faults};
use crate::rng::Rng;

/// The random streams of a connection, a socket or a machine: one for each fault, and one
/// for everything else. So a fault that no longer happens leaves the others as they were.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    pub(crate) rng: Rng,
    faults: [Rng; Fault::ALL.len()],
}

impl Dice {
    /// Returns the streams of what `ids` name in the world of `seed`.
    pub(crate) fn new(seed: u64, ids: &[u64]) -> Self {
        let rng = Rng::new(seed, ids);
        let faults = array::from_fn(|index| rng.fork(index as u64 + 1));
        Dice { rng, faults }
    }

    /// Draws whether `fault` happens now. Returns a stream for its details if it does.
    pub(crate) fn draw(&mut self, fault: Fault, faults: &Faults) -> Option<Rng> {
        let stream = &mut self.faults[fault as usize];
        // Drawn even if it does not happen, so that the next occurrence is independent of
        // the rate.
        let happens = stream.chance(faults.rate(fault));
        let details = Rng::new(stream.next(), &[]);
        happens.then_some(details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws `fault` 100 times, and the others of `faults` before each.
    fn occurrences(fault: Fault, faults: &Faults) -> Vec<Option<u64>> {
        let mut dice = Dice::new(7, &[1, 2]);
        let mut draw = |_| {
            for other in Fault::ALL.into_iter().filter(|&other| other != fault) {
                if let Some(mut details) = dice.draw(other, faults) {
                    details.next();
                }
            }
            dice.draw(fault, faults).map(|mut rng| rng.next())
        };
        (0..100).map(&mut draw).collect()
    }

    #[test]
    fn each_fault_is_independent_of_the_others() {
        let alone = occurrences(Fault::Loss, &Faults::none().with(Fault::Loss, 300_000));
        let among_all = occurrences(Fault::Loss, &Faults::all().with(Fault::Loss, 300_000));
        assert_eq!(alone, among_all);
        assert!((10..60).contains(&alone.iter().flatten().count()));
        let other = occurrences(Fault::Delay, &Faults::none().with(Fault::Delay, 300_000));
        assert_ne!(alone, other);
    }

    #[test]
    fn a_lower_rate_only_removes_occurrences() {
        let often = occurrences(Fault::Reset, &Faults::none().with(Fault::Reset, 500_000));
        let seldom = occurrences(Fault::Reset, &Faults::none().with(Fault::Reset, 100_000));
        assert!(seldom.iter().flatten().count() > 0);
        for (often, seldom) in often.into_iter().zip(seldom) {
            assert!(seldom.is_none() || seldom == often);
        }
    }
}
