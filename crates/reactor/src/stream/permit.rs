//! [`Permit`]: one of the connections that a listener may have open.

use std::cell::Cell;
use std::rc::Rc;

/// One accepted connection, counted for as long as it lives.
pub(crate) struct Permit(Rc<Cell<usize>>);

impl Permit {
    pub(crate) fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Permit(Rc::clone(open))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
