//! The open file limit (`RLIMIT_NOFILE`).

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft open file limit to the hard one, and returns the soft limit
/// then in effect, or `None` if there is no limit.
///
/// Shells mostly set a soft limit of 1,024 for programs that use select(2).
/// Programs that hold one descriptor for each connection need more. If the
/// limit cannot be raised, a debug message is logged and the limit stays.
pub fn raise_open_files() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("cannot raise the open file limit: {error}");
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limit_reaches_the_hard_limit() {
        let raised = raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(raised, limit.current);
        // Not every system grants the hard limit, but none lowers the soft one.
        if cfg!(target_os = "linux") {
            assert_eq!(limit.current, limit.maximum);
        }
    }
}
