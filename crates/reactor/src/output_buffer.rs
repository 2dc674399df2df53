//! [`OutputBuffer`]: bytes accepted for sending and not yet written.

use std::collections::VecDeque;
use std::io;

/// A byte queue with a high and a low mark. It is congested from the moment it
/// reaches the high mark until it is back at the low one.
#[derive(Default)]
pub(crate) struct OutputBuffer {
    bytes: VecDeque<u8>,
    congested: bool,
    /// The last write took less than it was offered: the next one waits until
    /// the socket is writable.
    blocked: bool,
}

impl OutputBuffer {
    /// The largest allocation that an empty buffer keeps.
    const MAX_KEPT: usize = 128 * 1024;

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn is_congested(&self) -> bool {
        self.congested
    }

    /// Returns `true` if writing must wait until the socket is writable.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Appends `data`. The owner bounds the queue: it stops at the `high` mark.
    pub(crate) fn push(&mut self, data: &[u8], high: usize) {
        self.reserve(data.len(), high);
        self.bytes.extend(data);
        self.congested |= self.bytes.len() >= high;
    }

    /// Makes room for `additional` bytes. The capacity doubles, so that appending
    /// costs linear time, but does not exceed what the mark allows.
    fn reserve(&mut self, additional: usize, high: usize) {
        let needed = self.bytes.len() + additional;
        if needed > self.bytes.capacity() {
            let max = needed.max(high);
            let capacity = (2 * self.bytes.capacity()).clamp(needed, max);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }

    /// Offers up to `max` bytes to `write`, which returns how many it took, and
    /// removes those.
    pub(crate) fn write_to(
        &mut self,
        max: usize,
        low: usize,
        write: impl FnOnce(&[u8], &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let (front, back) = self.bytes.as_slices();
        let front = &front[..front.len().min(max)];
        let back = &back[..back.len().min(max - front.len())];
        let written = write(front, back)?;
        if written == self.bytes.len() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..written);
        }
        self.congested &= self.bytes.len() > low;
        Ok(written)
    }

    /// Returns `true` if the empty buffer is small enough to be kept for reuse.
    pub(crate) fn is_reusable(&self) -> bool {
        self.is_empty() && self.bytes.capacity() <= Self::MAX_KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIGH: usize = 100;
    const LOW: usize = 20;

    fn take(output: &mut OutputBuffer, most: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        output
            .write_to(most, LOW, |front, back| {
                taken.extend(front);
                taken.extend(back);
                Ok(taken.len())
            })
            .unwrap();
        taken
    }

    #[test]
    fn invariant_4_bytes_leave_in_order_for_any_split() {
        let mut output = OutputBuffer::default();
        let (mut bytes, mut expected) = ((0..=u8::MAX).cycle(), (0..=u8::MAX).cycle());
        for round in 0..1_000 {
            let more: Vec<u8> = bytes.by_ref().take(round % 7).collect();
            output.push(&more, HIGH);
            for byte in take(&mut output, round % 5) {
                assert_eq!(Some(byte), expected.next());
            }
        }
    }

    #[test]
    fn invariant_5_congested_from_high_to_low_mark() {
        let mut output = OutputBuffer::default();
        output.push(&[0; HIGH - 1], HIGH);
        assert!(!output.is_congested());
        output.push(&[0], HIGH);
        assert!(output.is_congested());
        take(&mut output, HIGH - LOW - 1);
        assert!(output.is_congested(), "one byte above the low mark");
        take(&mut output, 1);
        assert!(!output.is_congested());
    }

    #[test]
    fn invariant_5_capacity_is_at_most_the_mark_and_one_message() {
        let mut output = OutputBuffer::default();
        for _ in 0..HIGH {
            output.push(&[0], HIGH);
            assert!(output.bytes.capacity() <= HIGH);
        }
        output.push(&[0; 50], HIGH);
        assert!(output.bytes.capacity() <= HIGH + 50);
        take(&mut output, usize::MAX);
        assert!(output.is_reusable());
        output.push(&vec![0; OutputBuffer::MAX_KEPT + 1], HIGH);
        take(&mut output, usize::MAX);
        assert!(!output.is_reusable(), "a large allocation is not kept");
    }

    #[test]
    fn bytes_stay_after_a_failed_write() {
        let mut output = OutputBuffer::default();
        output.push(b"abc", HIGH);
        let failed = output.write_to(3, LOW, |_, _| Err(io::ErrorKind::BrokenPipe.into()));
        assert!(failed.is_err());
        assert_eq!(take(&mut output, usize::MAX), b"abc");
    }
}
