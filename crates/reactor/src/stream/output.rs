//! [`Output`]: bytes accepted for sending that the kernel has not taken yet.

use std::collections::VecDeque;
use std::io;

/// A queue of bytes with two marks: at the high one it is full, and it counts
/// as full until it is back at the low one.
#[derive(Default)]
pub(crate) struct Output {
    bytes: VecDeque<u8>,
    full: bool,
}

impl Output {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether it reached the high mark, and is not yet back at the low one.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Queues `data`, however long: what bounds the queue is that its owner
    /// stops at the `high` mark.
    pub(crate) fn push(&mut self, data: &[u8], high: usize) {
        self.reserve(data.len(), high);
        self.bytes.extend(data);
        self.full |= self.bytes.len() >= high;
    }

    /// Makes room for `more` bytes: doubling, for linear cost, but never
    /// beyond what the mark lets the queue hold.
    fn reserve(&mut self, more: usize, high: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let most = needed.max(high);
            let room = (2 * self.bytes.capacity()).clamp(needed, most);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
    }

    /// Offers the first `most` bytes to `write`, which says how many it took.
    /// Those leave the queue.
    pub(crate) fn write_to(
        &mut self,
        most: usize,
        low: usize,
        write: impl FnOnce(&[u8], &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let (front, back) = self.bytes.as_slices();
        let front = &front[..front.len().min(most)];
        let back = &back[..back.len().min(most - front.len())];
        let written = write(front, back)?;
        if written == self.bytes.len() {
            // An idle stream holds no buffer.
            self.bytes = VecDeque::new();
        } else {
            self.bytes.drain(..written);
        }
        self.full &= self.bytes.len() > low;
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIGH: usize = 100;
    const LOW: usize = 20;

    fn take(output: &mut Output, most: usize) -> Vec<u8> {
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
    fn invariant_4_bytes_leave_in_order_however_they_are_cut() {
        let mut output = Output::default();
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
    fn invariant_5_it_is_full_from_the_high_mark_down_to_the_low_one() {
        let mut output = Output::default();
        output.push(&[0; HIGH - 1], HIGH);
        assert!(!output.is_full());
        output.push(&[0], HIGH);
        assert!(output.is_full());
        take(&mut output, HIGH - LOW - 1);
        assert!(output.is_full(), "one byte above the low mark");
        take(&mut output, 1);
        assert!(!output.is_full());
    }

    #[test]
    fn invariant_5_it_takes_no_more_room_than_the_mark_and_one_message() {
        let mut output = Output::default();
        for _ in 0..HIGH {
            output.push(&[0], HIGH);
            assert!(output.bytes.capacity() <= HIGH);
        }
        output.push(&[0; 50], HIGH);
        assert!(output.bytes.capacity() <= HIGH + 50);
        take(&mut output, usize::MAX);
        assert_eq!(output.bytes.capacity(), 0, "and none at all when it is empty");
    }

    #[test]
    fn what_is_not_taken_stays() {
        let mut output = Output::default();
        output.push(b"abc", HIGH);
        let failed = output.write_to(3, LOW, |_, _| Err(io::ErrorKind::BrokenPipe.into()));
        assert!(failed.is_err());
        assert_eq!(take(&mut output, usize::MAX), b"abc");
    }
}
