//! Panics of simulated programs. A reactor catches those of a callback, and closes that
//! channel only; in a test, each of them is a failure.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

thread_local! {
    /// How many calls of [`collect`] this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What panicked in them since [`clear`].
    static COLLECTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Calls `body`. A panic in it is collected and not printed, even if `body` catches it.
pub(crate) fn collect<R>(body: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                return previous(info);
            }
            let at = info.location().map(|at| format!("{}:{}: ", at.file(), at.line()));
            let message = format!("{}{}", at.unwrap_or_default(), message(info.payload()));
            COLLECTED.with_borrow_mut(|collected| collected.push(message));
        }));
    });
    DEPTH.set(DEPTH.get() + 1);
    let _leave = Leave;
    body()
}

/// Forgets what was collected.
pub(crate) fn clear() {
    COLLECTED.take();
}

/// Returns the first panic since [`clear`].
pub(crate) fn first() -> Option<String> {
    COLLECTED.with_borrow(|collected| collected.first().cloned())
}

fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| Some(payload.downcast_ref::<String>()?)).unwrap_or("no message")
}
