//! [`LineQueue`]: a bounded queue of lines, which counts those that it drops.

use std::collections::VecDeque;

/// Lines that wait to be written.
///
/// A line is dropped whole if the queue is full or its write failed. Where lines
/// were dropped, a note with their number follows as soon as something can be
/// written again.
pub(crate) struct LineQueue {
    lines: VecDeque<Line>,
    /// Total length of `lines`.
    bytes: usize,
    /// Number of lines dropped after the last of `lines`.
    dropped: u64,
    /// Number of lines whose write failed, before the first of `lines`.
    failed: u64,
    /// A write failed within a line.
    is_within_line: bool,
}

struct Line {
    text: Box<[u8]>,
    /// Number of lines dropped before this one.
    dropped_before: u64,
}

/// Lines to be written at once.
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// For each line, the end of its text, and how many lines are lost if it is
    /// not written: the lines that it reports, if it is a note.
    ends: Vec<(usize, u64)>,
}

impl LineQueue {
    /// Maximum number of bytes in the queue.
    pub(crate) const CAPACITY: usize = 256 * 1024;

    /// Creates an empty queue.
    pub(crate) const fn new() -> Self {
        LineQueue { lines: VecDeque::new(), bytes: 0, dropped: 0, failed: 0, is_within_line: false }
    }

    /// Queues `text`, which ends with a line feed, or drops it if it does not
    /// fit.
    pub(crate) fn push(&mut self, text: Box<[u8]>) {
        if self.bytes + text.len() > Self::CAPACITY {
            self.dropped += 1;
            return;
        }
        self.bytes += text.len();
        let dropped_before = std::mem::take(&mut self.dropped);
        self.lines.push_back(Line { text, dropped_before });
    }

    /// Returns `true` if there is nothing to write.
    ///
    /// The note about failed writes waits for the next line: writing it at once
    /// would fail again.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// Takes the next lines: one, or as many as fit in `max_len` bytes.
    pub(crate) fn take_batch(&mut self, max_len: usize) -> Batch {
        let mut batch = Batch { bytes: Vec::new(), ends: Vec::new() };
        if std::mem::take(&mut self.is_within_line) {
            batch.bytes.push(b'\n');
        }
        while let Some(line) = self.lines.front_mut() {
            self.failed += std::mem::take(&mut line.dropped_before);
            batch.add_note(&mut self.failed);
            if !batch.ends.is_empty() && batch.bytes.len() + line.text.len() > max_len {
                return batch;
            }
            batch.add(&line.text, 1);
            self.bytes -= line.text.len();
            self.lines.pop_front();
        }
        self.failed += std::mem::take(&mut self.dropped);
        batch.add_note(&mut self.failed);
        batch
    }

    /// Counts the lines of `batch` that were not written, since a write failed
    /// after `written` bytes.
    pub(crate) fn record_failure(&mut self, batch: &Batch, written: usize) {
        self.failed += batch.lines_lost(written);
        self.is_within_line = written > 0 && batch.bytes[written - 1] != b'\n';
    }
}

impl Batch {
    fn add(&mut self, text: &[u8], lines: u64) {
        self.bytes.extend_from_slice(text);
        self.ends.push((self.bytes.len(), lines));
    }

    /// Adds a note about `count` lines, if any, and resets `count`.
    fn add_note(&mut self, count: &mut u64) {
        let count = std::mem::take(count);
        if count > 0 {
            let note = format!("output was blocked or failed, lines dropped: {count}\n");
            self.add(note.as_bytes(), count);
        }
    }

    fn lines_lost(&self, written: usize) -> u64 {
        let lost = self.ends.iter().filter(|(end, _)| *end > written);
        lost.map(|(_, lines)| lines).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut LineQueue, text: &str) {
        queue.push(text.as_bytes().into());
    }

    fn take(queue: &mut LineQueue, max_len: usize) -> String {
        String::from_utf8(queue.take_batch(max_len).bytes).unwrap()
    }

    #[test]
    fn batch_contains_whole_lines() {
        let mut queue = LineQueue::new();
        for text in ["one\n", "two\n", "longer than a batch\n", "end\n"] {
            push(&mut queue, text);
        }
        assert_eq!(take(&mut queue, 9), "one\ntwo\n");
        assert_eq!(take(&mut queue, 9), "longer than a batch\n");
        assert_eq!(take(&mut queue, 9), "end\n");
        assert!(queue.is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn dropped_lines_are_counted_in_their_place() {
        let long = format!("{}\n", "x".repeat(LineQueue::CAPACITY - 1));
        let mut queue = LineQueue::new();
        push(&mut queue, &long);
        push(&mut queue, "dropped\n");
        push(&mut queue, "too\n");
        assert_eq!(take(&mut queue, 4), format!("{long}{}: 2\n", note()));
        assert!(queue.is_empty());
        push(&mut queue, "next\n");
        assert_eq!(take(&mut queue, 4), "next\n");
    }

    #[test]
    fn failed_lines_are_counted_before_the_next() {
        let mut queue = LineQueue::new();
        push(&mut queue, "one\n");
        push(&mut queue, "two\n");
        let batch = queue.take_batch(100);
        queue.record_failure(&batch, 5);
        assert!(queue.is_empty(), "no attempt without a further line");
        for _ in 0..2 {
            push(&mut queue, "three\n");
            let batch = queue.take_batch(100);
            queue.record_failure(&batch, 0);
        }
        queue.is_within_line = true;
        push(&mut queue, "four\n");
        assert_eq!(take(&mut queue, 100), format!("\n{}: 3\nfour\n", note()));
    }

    fn note() -> &'static str {
        "output was blocked or failed, lines dropped"
    }
}
