//! [`Log`]: what the callbacks of a script's programs saw, and where two logs differ.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The widest entry that is shown.
const MAX_SHOWN: usize = 46;

/// What was seen, by the name of who saw it. The order between two of them is not recorded:
/// a poller reports what is ready at one time in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log(BTreeMap<String, Vec<Entry>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// All that consecutive calls of `handle_read` received: TCP may split and merge it.
    Read(Vec<u8>),
    Line(String),
}

impl Log {
    pub(crate) fn add(&mut self, name: &str, line: impl Into<String>) {
        self.of(name).push(Entry::Line(line.into()));
    }

    pub(crate) fn add_read(&mut self, name: &str, data: &[u8]) {
        match self.of(name).last_mut() {
            Some(Entry::Read(all)) => all.extend(data),
            _ => self.of(name).push(Entry::Read(data.to_vec())),
        }
    }

    fn of(&mut self, name: &str) -> &mut Vec<Entry> {
        self.0.entry(name.to_owned()).or_default()
    }

    /// Returns `true` if this log may still become `other` by further entries.
    pub(crate) fn may_become(&self, other: &Log) -> bool {
        self.0.iter().all(|(name, entries)| {
            let others = other.0.get(name).map_or(&[][..], |entries| entries);
            entries.len() <= others.len()
                && entries.iter().zip(others).enumerate().all(|(index, pair)| match pair {
                    (Entry::Read(read), Entry::Read(all)) if index + 1 == entries.len() => {
                        all.starts_with(read)
                    }
                    (entry, other) => entry == other,
                })
        })
    }

    /// Returns a page with both logs next to each other, below the first difference.
    pub(crate) fn compare(&self, title: &str, other: &Log, other_title: &str) -> Option<String> {
        let mut first = None;
        let mut page = String::new();
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        for name in names {
            let of = |log: &Log| log.0.get(name).cloned().unwrap_or_default();
            let (left, right) = (of(self), of(other));
            for index in 0..left.len().max(right.len()) {
                let (left, right) = (left.get(index), right.get(index));
                let mark = if left == right { ' ' } else { '>' };
                let texts = [left, right].map(|entry| entry.map_or_else(String::new, shown));
                if left != right && first.is_none() {
                    let [left, right] =
                        [left, right].map(|entry| entry.map_or("nothing".into(), shown));
                    first = Some(format!(
                        "{name}, entry {}: {title} {left}, {other_title} {right}",
                        index + 1
                    ));
                }
                let [left, right] = texts;
                // A line of text cannot fail.
                let _ = writeln!(page, "  {mark} {name:10} {left:MAX_SHOWN$} | {right}");
            }
        }
        let first = first?;
        Some(format!(
            "first difference: {first}\n    {:10} {title:MAX_SHOWN$} | {other_title}\n{page}",
            ""
        ))
    }
}

fn shown(entry: &Entry) -> String {
    match entry {
        Entry::Line(line) => line.clone(),
        Entry::Read(data) if data.len() <= 24 => format!("read \"{}\"", data.escape_ascii()),
        // So that two that differ look different.
        Entry::Read(data) => {
            let sum = data
                .iter()
                .fold(0_u32, |sum, &byte| sum.wrapping_mul(16_777_619).wrapping_add(byte.into()));
            format!("read {} bytes, sum {sum:08x}", data.len())
        }
    }
}
