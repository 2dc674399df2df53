//! Sockets that a service manager such as systemd passes to the server, and
//! messages to it: `sd_listen_fds(3)`, `sd_notify(3)`.

use std::env;

use anyhow::{anyhow, bail};
use cli::error::without_errno;
use reactor::OwnedDescriptor;

use crate::sys;

/// The number of the first inherited descriptor (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;

/// More sockets than any service has.
const MAX_SOCKETS: usize = 1024;

/// Returns the listening sockets that the environment variable `LISTEN_FDS`
/// announces to this process, or none. Removes `LISTEN_FDS` and `LISTEN_PID`
/// from the environment. Call it before threads are started.
///
/// # Errors
///
/// Returns an error if one of the descriptors is not a TCP or Unix stream
/// socket, or the variable is not the number of sockets.
pub(crate) fn listening_sockets() -> anyhow::Result<Vec<OwnedDescriptor>> {
    check_count()?;
    sys::service_manager::take_sockets()
        .map_err(|index| anyhow!(refusal(index, "it is not a TCP or Unix stream socket")))
}

/// What would be ignored otherwise, so that the server listened elsewhere.
fn check_count() -> anyhow::Result<()> {
    let Some(count) = env::var_os("LISTEN_FDS") else { return Ok(()) };
    let number = count.to_str().and_then(|count| count.parse::<usize>().ok());
    if count.is_empty() || number.is_some_and(|number| number <= MAX_SOCKETS) {
        return Ok(());
    }
    bail!(
        "the environment variable LISTEN_FDS is {:?}: expected the number of inherited \
         sockets, at most {MAX_SOCKETS}; unset it to listen on --host and --port",
        count.to_string_lossy()
    )
}

/// Returns the text for an inherited descriptor that cannot be used.
pub(crate) fn refusal(index: usize, cause: &str) -> String {
    format!(
        "cannot listen on inherited descriptor {}: {cause}; pass listening stream sockets \
         (ListenStream= in a systemd unit), or unset LISTEN_FDS",
        FIRST + index
    )
}

/// How far the server is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// It listens, and catches signals.
    Ready,
    /// It lets its peers finish.
    Stopping,
}

/// Reports the state to the service manager, if there is one (`NOTIFY_SOCKET`).
pub(crate) fn notify(state: State) {
    let result = match state {
        State::Ready => sys::service_manager::notify_ready(),
        State::Stopping => sys::service_manager::notify_stopping(),
    };
    if let Err(error) = result {
        log::warn!("cannot notify the service manager: {}", without_errno(&error));
    }
}
