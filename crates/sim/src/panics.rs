//! Panics of simulated programs. A reactor catches those of a callback, and closes that
//! channel only; in a test, each of them is a failure.

use std::any::Any;
use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    /// What panicked on this thread since [`start`], if that was called.
    static CAUGHT: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Collects the panics of this thread, which are not printed from here on.
pub(crate) fn start() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_caught = CAUGHT.with_borrow_mut(|caught| match caught {
                Some(caught) => {
                    let at = info.location().map(|at| format!("{}:{}: ", at.file(), at.line()));
                    let message = message(info.payload());
                    caught.push(format!("{}{message}", at.unwrap_or_default()));
                    true
                }
                None => false,
            });
            if !is_caught {
                previous(info);
            }
        }));
    });
    CAUGHT.set(Some(Vec::new()));
}

/// Returns the panics since [`start`], and ends the collection.
pub(crate) fn finish() -> Vec<String> {
    CAUGHT.take().unwrap_or_default()
}

/// Returns the first panic since [`start`].
pub(crate) fn first() -> Option<String> {
    CAUGHT.with_borrow(|caught| caught.as_ref()?.first().cloned())
}

fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| Some(payload.downcast_ref::<String>()?)).unwrap_or("no message")
}
