//! [`OutputBuffer`]: bytes accepted for sending and not yet written.

use std::collections::VecDeque;
use std::io;

/// How output that is sent now counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SendMode {
    /// Nothing is accepted above the high mark: outside callbacks, in `handle_write`, and
    /// in callbacks that start above it.
    #[default]
    Strict,
    /// In another callback: what it sends is accepted although it exceeds the mark.
    Burst,
    /// In reply to input: as `Burst`, and the input stops until the output is back at the
    /// low mark.
    Reply,
}

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
    mode: SendMode,
    /// Replies were queued, and the queue has not been empty since.
    has_replies: bool,
    /// How many bytes were accepted above the high mark, beyond the message that exceeded
    /// it.
    excess: usize,
    /// If the stream has, or had, a filter.
    filtered: Option<Box<Filtered>>,
}

/// What the output of a stream with a filter needs.
#[derive(Default)]
struct Filtered {
    /// Output that has not passed the filter yet.
    plain: Vec<u8>,
    /// Some of `plain` was sent in reply to input.
    has_replies: bool,
    /// What the queue consists of, if it has passed a filter.
    pieces: VecDeque<Piece>,
    /// How many bytes of the user the pieces stand for.
    pieces_len: usize,
    /// How many bytes of the user were accepted, and rejected by the filter.
    lost: usize,
}

/// A part of the queue that a filter produced at once.
struct Piece {
    len: usize,
    /// How many bytes of the user it stands for.
    user_len: usize,
}

impl OutputBuffer {
    /// The largest allocation that an empty buffer keeps.
    const MAX_KEPT: usize = 128 * 1024;

    /// What a filter usually adds to a piece at most: room for it is reserved.
    const PIECE_OVERHEAD: usize = 64;

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == self.start
    }

    /// Returns `true` if writing must wait until the socket is writable.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Returns `true` if input must wait until replies are written.
    pub(crate) fn holds_back_input(&self) -> bool {
        self.congested && self.has_replies
    }

    pub(crate) fn mode(&self) -> SendMode {
        self.mode
    }

    /// Sets how output counts that is sent from now on.
    #[inline(always)]
    pub(crate) fn set_mode(&mut self, mode: SendMode) {
        self.mode = mode;
    }

    /// Records that output sent now remains queued; `is_first` if nothing was queued
    /// before.
    #[cold]
    pub(crate) fn record_rest(&mut self, is_first: bool) {
        self.record_queued(is_first, self.mode == SendMode::Reply);
    }

    /// Like [`record_rest`](Self::record_rest), for what passes a filter now: what was
    /// gathered, and more if `has_more`.
    pub(crate) fn record_passed(&mut self, has_more: bool) {
        let gathered = self.filtered.as_mut();
        let has_replied =
            gathered.is_some_and(|filtered| std::mem::take(&mut filtered.has_replies));
        let is_reply = has_more && self.mode == SendMode::Reply;
        self.record_queued(self.is_empty(), has_replied || is_reply);
    }

    fn record_queued(&mut self, is_first: bool, is_reply: bool) {
        if is_first {
            self.has_replies = false;
            self.excess = 0;
        }
        self.has_replies |= is_reply;
    }

    /// Accepts `len` bytes above the high mark, unless they exceed `max`.
    pub(crate) fn accept_excess(&mut self, len: usize, max: usize) -> bool {
        let excess = self.excess.saturating_add(len);
        if excess > max {
            return false;
        }
        self.excess = excess;
        true
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

    /// Appends `data` and returns `true`, unless the output must wait, or would exceed
    /// `limit`, which is below the high mark.
    #[inline(always)]
    pub(crate) fn gather(&mut self, data: &[u8], limit: usize) -> bool {
        if self.blocked || self.bytes.len() + data.len() > limit {
            return false;
        }
        debug_assert!(self.start == 0, "what is written in part is blocked");
        if self.bytes.capacity() - self.bytes.len() < data.len() {
            self.reserve(data.len(), limit);
        }
        self.bytes.extend_from_slice(data);
        true
    }

    /// Appends `data`. The owner bounds the queue: it stops at the `high` mark.
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
        let (len, capacity) = (self.len(), self.bytes.capacity());
        let needed = len + additional;
        // To move the queue to the front pays if as much was written since the last time. At
        // the mark there is no choice: memory is bounded, rather than the cost linear.
        if needed <= capacity && (self.start >= len || capacity >= high) {
            self.bytes.drain(..self.start);
        } else {
            let capacity = if len < high {
                (2 * capacity).clamp(needed, needed.max(high))
            } else {
                // A callback sends more than the mark in several messages.
                needed.max(capacity + capacity / 2)
            };
            let mut bytes = Vec::with_capacity(capacity);
            bytes.extend_from_slice(&self.bytes[self.start..]);
            self.bytes = bytes;
        }
        self.start = 0;
    }

    /// Removes `written` bytes at the front. If some remain, the next write waits until
    /// the socket is writable.
    #[inline(always)]
    pub(crate) fn consume(&mut self, written: usize, low: impl FnOnce() -> usize) {
        self.start += written;
        if self.is_empty() {
            self.clear();
        } else {
            self.blocked = true;
            if self.congested {
                self.end_congestion(low());
            }
        }
    }

    /// Ends the congestion if the queue is back at the low mark. A record of a filter counts
    /// until all of it is written.
    #[cold]
    fn end_congestion(&mut self, low: usize) {
        if self.len() <= low && self.user_len() <= low {
            self.congested = false;
            self.excess = 0;
        }
    }

    /// All of it is written.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
        self.congested = false;
        self.blocked = false;
    }

    /// Returns `true` if the empty buffer is small enough to be kept for reuse.
    #[inline(always)]
    pub(crate) fn is_reusable(&self) -> bool {
        debug_assert!(self.is_empty() && self.plain_len() == 0, "output would be lost");
        self.bytes.capacity() <= Self::MAX_KEPT
            && self.filtered.as_ref().is_none_or(|filtered| filtered.is_reusable())
    }
}

/// Output that passes a filter.
impl OutputBuffer {
    /// Returns how much has not passed the filter yet.
    pub(crate) fn plain_len(&self) -> usize {
        self.filtered.as_ref().map_or(0, |filtered| filtered.plain.len())
    }

    /// Returns how many bytes of the user are not written completely. What the filter
    /// adds does not count.
    pub(crate) fn user_len(&self) -> usize {
        self.filtered
            .as_ref()
            .map_or(0, |filtered| filtered.plain.len() + filtered.pieces_len + filtered.lost)
    }

    /// Appends output that passes the filter later.
    pub(crate) fn push_plain(&mut self, data: &[u8]) {
        let is_reply = self.mode == SendMode::Reply;
        let filtered = self.filtered.get_or_insert_default();
        filtered.plain.extend_from_slice(data);
        filtered.has_replies |= is_reply;
    }

    /// Appends what the filter itself sends. Input waits for it as for replies.
    pub(crate) fn push_wire(&mut self, wire: &[u8], high: usize) {
        self.push(wire, high);
        self.filtered.get_or_insert_default().push_piece(wire.len(), 0);
        self.has_replies = true;
    }

    /// Passes all output, then `data`, through the filter, in pieces of up to `max_piece`
    /// bytes.
    ///
    /// # Errors
    ///
    /// Returns the error of the filter. `data` does not count then.
    pub(crate) fn pass(
        &mut self,
        data: &[u8],
        max_piece: usize,
        high: usize,
        mut filter: impl FnMut(&[u8], &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut filtered = self.filtered.take().unwrap_or_default();
        let mut plain = std::mem::take(&mut filtered.plain);
        let (mut result, mut passed) = (Ok(()), 0);
        let pieces = || plain.chunks(max_piece).chain(data.chunks(max_piece));
        let additional = pieces().map(|piece| piece.len() + Self::PIECE_OVERHEAD).sum();
        if self.bytes.capacity() - self.bytes.len() < additional {
            self.reserve(additional, high);
        }
        for piece in pieces() {
            let before = self.bytes.len();
            result = filter(piece, &mut self.bytes);
            let len = self.bytes.len().checked_sub(before);
            let Some(len) = len.filter(|_| result.is_ok()) else { break };
            filtered.push_piece(len, piece.len());
            passed += piece.len();
        }
        filtered.lost += plain.len().saturating_sub(passed);
        let passed_of_data = passed.saturating_sub(plain.len());
        plain.clear();
        filtered.plain = plain;
        if self.is_empty() {
            // The filter turned it into nothing: there is nothing to write.
            filtered.remove_all_pieces();
        }
        self.filtered = Some(filtered);
        self.congested |= self.len().max(self.user_len()) >= high;
        if result.is_err() {
            self.reject(passed_of_data);
        }
        result
    }

    /// Does not count the last `len` bytes of the user that have passed the filter: the
    /// connection is lost, and `send` returns an error for them.
    #[cold]
    pub(crate) fn reject(&mut self, mut len: usize) {
        let Some(filtered) = &mut self.filtered else { return };
        for piece in filtered.pieces.iter_mut().rev() {
            let rejected = piece.user_len.min(len);
            piece.user_len -= rejected;
            filtered.pieces_len -= rejected;
            len -= rejected;
        }
    }

    /// Removes the pieces of which the first `written` bytes were consumed.
    pub(crate) fn remove_pieces(&mut self, written: usize, low: usize) {
        let is_empty = self.is_empty();
        if let Some(filtered) = &mut self.filtered {
            if is_empty {
                filtered.remove_all_pieces();
            } else {
                filtered.remove_pieces(written);
            }
        }
        if self.congested {
            self.end_congestion(low);
        }
    }

    /// From here on, output passes a filter. What is queued does not.
    pub(crate) fn start_filter(&mut self) {
        let len = self.len();
        self.filtered.get_or_insert_default().push_piece(len, len);
    }

    /// Lets all that is queued pass a filter later.
    pub(crate) fn filter_queued(&mut self) {
        let filtered = self.filtered.get_or_insert_default();
        filtered.plain.extend_from_slice(&self.bytes[self.start..]);
        self.bytes.clear();
        self.start = 0;
        self.congested = false;
    }

    /// From here on, output passes no filter.
    pub(crate) fn end_filter(&mut self, high: usize) {
        if let Some(filtered) = self.filtered.take() {
            self.push(&filtered.plain, high);
        }
    }
}

impl Filtered {
    fn push_piece(&mut self, len: usize, user_len: usize) {
        self.pieces.push_back(Piece { len, user_len });
        self.pieces_len += user_len;
    }

    fn remove_all_pieces(&mut self) {
        self.pieces.clear();
        self.pieces_len = 0;
    }

    fn remove_pieces(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut()
            && written >= piece.len
        {
            written -= piece.len;
            self.pieces_len -= piece.user_len;
            self.pieces.pop_front();
        }
        if let Some(piece) = self.pieces.front_mut() {
            piece.len -= written;
        }
    }

    #[cold]
    fn is_reusable(&self) -> bool {
        self.pieces.is_empty() && self.plain.capacity() <= OutputBuffer::MAX_KEPT
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
        assert!(!output.congested);
        output.push(&[0], HIGH);
        assert!(output.congested);
        take(&mut output, HIGH - LOW - 1);
        assert!(output.congested, "one byte above the low mark");
        take(&mut output, 1);
        assert!(!output.congested);
    }

    #[test]
    fn reply_below_the_low_mark_still_holds_back_input() {
        let mut output = OutputBuffer::default();
        output.set_mode(SendMode::Reply);
        output.push(&[0; HIGH], HIGH);
        output.record_rest(true);
        output.set_mode(SendMode::Strict);
        take(&mut output, HIGH - 1);
        assert!(!output.holds_back_input());
        output.push(&[0; HIGH], HIGH);
        output.record_rest(false);
        assert!(output.holds_back_input(), "one byte of the reply is still queued");
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
    fn output_is_gathered_up_to_the_limit_unless_it_must_wait() {
        let mut output = OutputBuffer::default();
        assert!(output.gather(&[1; 60], HIGH - 1));
        assert!(output.gather(&[2; 39], HIGH - 1));
        assert!(!output.gather(&[3; 1], HIGH - 1));
        assert_eq!(output.len(), HIGH - 1);
        assert!(!output.congested, "the limit is below the mark");
        take(&mut output, 1);
        assert!(!output.gather(&[], HIGH - 1), "the rest of a write waits");
        output.clear();
        assert!(output.gather(&[4], HIGH - 1));
        assert_eq!(take(&mut output, HIGH), [4]);
    }

    #[test]
    fn acceptance_06_cost_is_linear_in_output() {
        /// Where the queue starts: if this changes, the queue was copied.
        fn place(output: &OutputBuffer) -> *const u8 {
            output.front(0).as_ptr()
        }
        let (mut output, mut copied, mut total) = (OutputBuffer::default(), 0, 0);
        for round in 0..4_096 {
            let (before, len) = (place(&output), output.len());
            output.push(&[7; 4_096], usize::MAX);
            total += 4_096;
            if place(&output) != before {
                copied += len;
            }
            // A slow reader, until the queue has 6 MiB, and then one in step.
            let (before, written) = (place(&output), if round < 2_048 { round } else { 4_096 });
            output.consume(written, || LOW);
            assert_eq!(place(&output), before.wrapping_add(written), "writing copies nothing");
        }
        assert!(output.len() > 6_000_000, "{}", output.len());
        assert!(copied <= 2 * total, "{copied} bytes copied for {total}");
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

    /// What was accepted before remains counted, and what is rejected now is not.
    #[test]
    fn failure_of_a_filter_keeps_the_count_of_accepted_output() {
        for fails_at in 0..4 {
            let mut output = OutputBuffer::default();
            output.push_plain(&[1; 20]);
            let mut pieces = 0;
            let result = output.pass(&[2; 20], 10, HIGH, |piece, wire| {
                if pieces == fails_at {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                pieces += 1;
                wire.extend(piece);
                Ok(())
            });
            assert!(result.is_err());
            assert_eq!(output.user_len(), 20, "fails at piece {fails_at}");
        }
    }
}
