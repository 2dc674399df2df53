//! The setting of a world: its limits, links and faults.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use reactor::Limits;
use sim::{Fault, Faults, Link};

use crate::rng::Rng;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Returns limits of which some are tight.
pub(crate) fn limits(rng: &mut Rng) -> Limits {
    let mut limits = Limits::default();
    if rng.one_in(2) {
        limits.high_water = 1 + rng.len_of([10, 1000, 50_000]);
        limits.low_water = rng.len(2 * limits.high_water as u64);
    }
    if rng.one_in(3) {
        limits.max_excess = rng.len(30_000);
    }
    limits.read_while_congested = rng.one_in(4);
    let timeout = |rng: &mut Rng, default| match rng.below(3) {
        0 => None,
        1 => Some(SECOND / 2 + rng.millis(20_000)),
        _ => default,
    };
    limits.idle_timeout = timeout(rng, None);
    // Without it, two ends that have closed, and do not read any more, wait forever.
    limits.stall_timeout = Some(SECOND / 2 + rng.millis(60_000));
    limits.close_timeout = timeout(rng, limits.close_timeout);
    limits.connect_timeout = timeout(rng, limits.connect_timeout);
    // Without it, a client does not learn that a server has lost power, which had not answered.
    limits.handshake_timeout = Some(SECOND / 2 + rng.millis(60_000));
    if rng.one_in(6) {
        limits.read_rate = NonZeroU64::new(1 + rng.below(50_000));
    }
    if rng.one_in(6) {
        limits.write_rate = NonZeroU64::new(1 + rng.below(50_000));
    }
    limits
}

/// Returns limits of which some are tight, without those on time.
pub(crate) fn patient_limits(rng: &mut Rng) -> Limits {
    Limits {
        idle_timeout: None,
        stall_timeout: None,
        close_timeout: None,
        connect_timeout: None,
        handshake_timeout: None,
        ..limits(rng)
    }
}

/// Returns a slow or a fast link, with small or large buffers.
pub(crate) fn link(rng: &mut Rng) -> Link {
    let latency = Duration::from_millis(1 + rng.below(3) * rng.below(100));
    let buffer = 50 + rng.len_of([100, 5000, 100_000]);
    let other = 50 + rng.len_of([100, 5000, 100_000]);
    let link = Link::default().with_latency(latency, latency).with_buffers(buffer, other);
    if rng.one_in(4) { link.with_bandwidth(1000 + rng.below(1_000_000)) } else { link }
}

/// Returns some of the faults that lose no connection.
pub(crate) fn harmless_faults(rng: &mut Rng) -> Faults {
    let harmful = [Fault::Reset, Fault::Refuse, Fault::AcceptAborted, Fault::Crash];
    harmful.into_iter().fold(some_faults(rng), Faults::without)
}

/// Returns some of the faults that can happen to streams.
pub(crate) fn some_faults(rng: &mut Rng) -> Faults {
    let omitted = Fault::ALL.into_iter().filter(|_| rng.one_in(2));
    omitted.fold(Faults::of_streams(), Faults::without)
}

pub(crate) fn server_addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7))
}
