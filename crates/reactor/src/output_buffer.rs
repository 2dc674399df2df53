//! [`OutputBuffer`]: bytes accepted for sending and not yet written.

/// A byte queue with a high and a low mark. It is congested from the moment it
/// reaches the high mark until it is back at the low one.
#[derive(Default)]
pub(crate) struct OutputBuffer {
    /// The queue starts at `start`: the bytes before it are written.
    bytes: Vec<u8>,
    start: usize,
    congested: bool,
    /// The last write took less than it was offered: the next one waits until
    /// the socket is writable.
    blocked: bool,
}

impl OutputBuffer {
    /// The largest allocation that an empty buffer keeps.
    const MAX_KEPT: usize = 128 * 1024;

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == self.start
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

    /// Nothing more can be written: what is queued is only counted.
    pub(crate) fn abandon(&mut self) {
        self.blocked = true;
        self.congested = false;
    }

    /// Returns up to `max` bytes, to be written.
    pub(crate) fn front(&self, max: usize) -> &[u8] {
        &self.bytes[self.start..][..max.min(self.len())]
    }

    /// Appends `data`. The owner bounds the queue: it stops at the `high` mark.
    #[inline(always)]
    pub(crate) fn push(&mut self, data: &[u8], high: usize) {
        if self.bytes.capacity() - self.bytes.len() < data.len() {
            self.reserve(data.len(), high);
        }
        self.bytes.extend_from_slice(data);
        self.congested |= self.len() >= high;
    }

    /// Makes room for `additional` bytes. The capacity doubles, so that appending
    /// costs linear time, but does not exceed what the mark allows.
    #[cold]
    fn reserve(&mut self, additional: usize, high: usize) {
        let needed = self.len() + additional;
        if needed > self.bytes.capacity() {
            let capacity = (2 * self.bytes.capacity()).clamp(needed, needed.max(high));
            let mut bytes = Vec::with_capacity(capacity);
            bytes.extend_from_slice(&self.bytes[self.start..]);
            self.bytes = bytes;
        } else {
            self.bytes.drain(..self.start);
        }
        self.start = 0;
    }

    /// Removes `written` bytes at the front. If some remain, the next write waits until
    /// the socket is writable.
    #[inline(always)]
    pub(crate) fn consume(&mut self, written: usize, low: impl FnOnce() -> usize) {
        self.start += written;
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
            self.congested = false;
            self.blocked = false;
        } else {
            self.congested &= self.len() > low();
            self.blocked = true;
        }
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

    fn take(output: &mut OutputBuffer, max: usize) -> Vec<u8> {
        let taken = output.front(max).to_vec();
        output.consume(taken.len(), || LOW);
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
    fn write_that_takes_less_blocks_until_all_is_written() {
        let mut output = OutputBuffer::default();
        output.push(b"abc", HIGH);
        assert!(!output.is_blocked());
        output.consume(0, || LOW);
        assert!(output.is_blocked());
        assert_eq!(take(&mut output, 2), b"ab");
        assert!(output.is_blocked());
        assert_eq!(take(&mut output, usize::MAX), b"c");
        assert!(!output.is_blocked());
    }
}
