//! [`Log`]: what the callbacks of a test noted.

use std::cell::RefCell;
use std::rc::Rc;

/// A list of lines, in order. Clones share it.
#[derive(Clone, Default)]
pub struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    /// Appends a line.
    pub fn note(&self, line: impl Into<String>) {
        self.0.borrow_mut().push(line.into());
    }

    /// Returns all lines.
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Returns `true` if a line contains `part`.
    pub fn has(&self, part: &str) -> bool {
        self.count(part) > 0
    }

    /// Returns how many lines contain `part`.
    pub fn count(&self, part: &str) -> usize {
        self.0.borrow().iter().filter(|line| line.contains(part)).count()
    }

    /// Returns the rest of the line that starts with `start`.
    pub fn get(&self, start: &str) -> Option<String> {
        self.0.borrow().iter().find_map(|line| Some(line.strip_prefix(start)?.trim().to_owned()))
    }
}
