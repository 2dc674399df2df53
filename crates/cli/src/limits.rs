//! The open file limit (`RLIMIT_NOFILE`).

use crate::sys;

/// Raises the soft open file limit to the hard one, and returns the soft limit
/// then in effect, or `None` if there is no limit.
///
/// Shells mostly set a soft limit of 1,024 for programs that use select(2).
/// Programs that hold one descriptor for each connection need more. If the
/// limit cannot be raised, a debug message is logged and the limit stays.
/// Windows has no such limit.
pub fn raise_open_files() -> Option<u64> {
    sys::raise_open_files()
}
