//! Where a panic of the program is caught.
//!
//! | code of the user | is called by | a panic in it |
//! | --- | --- | --- |
//! | a callback or a query of a channel | `Context::read`, `Context::enter` (`call.rs`) | is passed to `handle_error` and closes the channel |
//! | the first queries of a channel | `Context::add` (`context.rs`) | is the error of `add` |
//! | a listener's handler of a connection | `Listener::handle_accepted` | rejects the connection |
//! | a listener's message to rejected peers | `Listener::reject` | is logged |
//! | `handle_error`, `handle_close`, and what the closing of a channel queries and drops | `end_channel` (`call.rs`), `finish_close` (`settle.rs`) | is logged |
//! | a job, and the destructors of jobs and calls that never run | `run_job` (`call.rs`), `shut_down` (`context.rs`), `drain.rs` | is logged |
//! | `source` of a channel that hung up | `suspend_registration` (`registration.rs`) | is logged |
//! | what is passed to `with_stream` or `with_chat` | `Context::with_channel` (`call.rs`) | continues in the caller |

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::reactor::Cause;

/// Calls `f`. Returns a panic in it as the cause for which something ends.
#[inline(always)]
pub(crate) fn catch_panic<R>(f: impl FnOnce() -> R) -> Result<R, Cause> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| to_cause(&*payload))
}

/// Calls `f`. Logs a panic in it, as an error of `what`.
pub(super) fn log_panic(what: &str, f: impl FnOnce()) {
    if let Err(cause) = catch_panic(f) {
        log::error!("{what}: {cause}");
    }
}

#[cold]
fn to_cause(payload: &(dyn Any + Send)) -> Cause {
    let message = if let Some(message) = payload.downcast_ref::<&str>() {
        message
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message
    } else {
        "no message"
    };
    Cause::Panicked(message.into())
}
