//! [`Schedule`]: when a connection sends its messages in the open loop.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::options::Spacing;

/// The times at which one of several connections sends its messages, whatever
/// the replies do.
///
/// With even spacing, the connections take turns, so that the messages of all of
/// them are evenly spaced too. With random spacing, each connection is a Poisson
/// process, and so are all of them together.
pub(crate) struct Schedule {
    start: Instant,
    /// Mean distance between two messages of this connection, in seconds.
    mean: f64,
    /// Time of the next message, in seconds from `start`.
    position: f64,
    /// The source of the distances, or `None` if they are equal.
    random: Option<Rng>,
}

impl Schedule {
    /// Creates the schedule of connection number `index` of `connections`, which
    /// send `rate` messages per second in all.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn new(
        start: Instant,
        rate: usize,
        connections: usize,
        index: usize,
        spacing: Spacing,
    ) -> Self {
        let mean = connections as f64 / rate as f64;
        let mut schedule = Schedule { start, mean, position: 0.0, random: None };
        match spacing {
            Spacing::Even => schedule.position = index as f64 / rate as f64,
            Spacing::Poisson => {
                schedule.random = Some(Rng::with_seed(index as u64));
                schedule.advance();
            }
        }
        schedule
    }

    /// Returns when the next message is due.
    pub(crate) fn due(&self) -> Instant {
        // Far within the range: the lowest rate and the most connections make a
        // mean distance of two weeks.
        self.start + Duration::from_secs_f64(self.position)
    }

    /// Moves on to the message after the next one.
    pub(crate) fn advance(&mut self) {
        self.position += match &mut self.random {
            None => self.mean,
            // The inverse of the distribution function, for a number in (0, 1].
            Some(random) => -self.mean * (1.0 - random.f64()).ln(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the times of all messages in the first `seconds`, in order.
    fn times(rate: usize, connections: usize, seconds: f64, spacing: Spacing) -> Vec<f64> {
        let start = Instant::now();
        let mut times = Vec::new();
        for index in 0..connections {
            let mut schedule = Schedule::new(start, rate, connections, index, spacing);
            while schedule.position < seconds {
                times.push(schedule.due().duration_since(start).as_secs_f64());
                schedule.advance();
            }
        }
        times.sort_by(f64::total_cmp);
        times
    }

    #[test]
    fn even_messages_of_all_connections_are_evenly_spaced() {
        for connections in [1, 3, 64] {
            let times = times(1000, connections, 0.9999, Spacing::Even);
            assert_eq!(times.len(), 1000, "{connections}");
            for pair in times.windows(2) {
                assert!((pair[1] - pair[0] - 0.001).abs() < 1e-8, "{connections}: {pair:?}");
            }
        }
    }

    /// The count of a Poisson process has the variance of its mean, and the
    /// distances have a standard deviation equal to their mean.
    #[test]
    fn poisson_messages_have_the_rate_and_the_variance() {
        for connections in [1, 64] {
            let times = times(1000, connections, 100.0, Spacing::Poisson);
            let count = f64::from(u32::try_from(times.len()).unwrap());
            assert!((count - 100_000.0).abs() < 5.0 * 100_000_f64.sqrt(), "{count}");
            let squares: f64 =
                times.windows(2).map(|pair| (pair[1] - pair[0] - 0.001).powi(2)).sum();
            let deviation = (squares / count).sqrt();
            assert!((deviation - 0.001).abs() < 0.000_05, "{connections}: {deviation}");
        }
    }
}
