//! Non-blocking mode of open files that several of our descriptors may share.
//!
//! The mode belongs to the open file description (open(2)). If two descriptors of this
//! process share one, the first to be closed must not take the mode from the other. The
//! system does not report which descriptors share a description; but one that is already
//! in the mode that another of ours has set, on the same file, is taken to.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU8;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};

/// Identifies a group of descriptors that share a description: device, inode, and a
/// number for each description of that file.
type Group = (u64, u64, NonZeroU8);

/// How many descriptors each group has.
static GROUPS: Mutex<BTreeMap<Group, usize>> = Mutex::new(BTreeMap::new());

/// Sets `file` to non-blocking mode. Returns the number of its group, or `None` if
/// another program has set the mode, so that it must stay.
pub(super) fn set_nonblocking(file: impl AsFd) -> io::Result<Option<NonZeroU8>> {
    let (device, inode) = file_id(&file)?;
    // From here on no other thread restores the mode that is read.
    let mut groups = lock();
    let flags = fcntl_getfl(&file)?;
    let range = (device, inode, NonZeroU8::MIN)..=(device, inode, NonZeroU8::MAX);
    let latest = groups.range(range).next_back().map(|(group, _)| group.2);
    if flags.contains(OFlags::NONBLOCK) {
        if let Some(number) = latest {
            *groups.entry((device, inode, number)).or_default() += 1;
        }
        return Ok(latest);
    }
    fcntl_setfl(&file, flags | OFlags::NONBLOCK)?;
    let number = latest.map_or(NonZeroU8::MIN, |latest| latest.saturating_add(1));
    *groups.entry((device, inode, number)).or_default() += 1;
    Ok(Some(number))
}

/// Sets `file` back to blocking mode if it is the last of its group. Other flags keep
/// what others have set meanwhile.
pub(super) fn restore(file: impl AsFd, number: NonZeroU8) -> io::Result<()> {
    let (device, inode) = file_id(&file)?;
    let mut groups = lock();
    let Some(count) = groups.get_mut(&(device, inode, number)) else { return Ok(()) };
    *count -= 1;
    if *count > 0 {
        return Ok(());
    }
    groups.remove(&(device, inode, number));
    let flags = fcntl_getfl(&file)?;
    Ok(fcntl_setfl(&file, flags & !OFlags::NONBLOCK)?)
}

fn lock() -> MutexGuard<'static, BTreeMap<Group, usize>> {
    // No code that can panic runs under the lock.
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "types differ by system")]
fn file_id(file: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = fstat(file)?;
    Ok((stat.st_dev as u64, stat.st_ino as u64))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn is_nonblocking(file: impl AsFd) -> bool {
        fcntl_getfl(file).unwrap().contains(OFlags::NONBLOCK)
    }

    #[test]
    fn last_descriptor_of_a_description_restores_the_mode() {
        let (first, _peer) = UnixStream::pair().unwrap();
        let second = first.try_clone().unwrap();
        let (one, other) = (set_nonblocking(&first).unwrap(), set_nonblocking(&second).unwrap());
        restore(&first, one.unwrap()).unwrap();
        assert!(is_nonblocking(&second), "the first took the mode from the second");
        restore(&second, other.unwrap()).unwrap();
        assert!(!is_nonblocking(&second));
    }

    #[test]
    fn separate_descriptions_of_a_file_are_restored_separately() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let [first, second] = [(); 2].map(|()| File::open(file.path()).unwrap());
        let (one, other) = (set_nonblocking(&first).unwrap(), set_nonblocking(&second).unwrap());
        restore(&first, one.unwrap()).unwrap();
        assert!(!is_nonblocking(&first) && is_nonblocking(&second));
        restore(&second, other.unwrap()).unwrap();
        assert!(!is_nonblocking(&second));
    }

    #[test]
    fn mode_that_another_program_has_set_stays() {
        let (ours, _peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        assert_eq!(set_nonblocking(&ours).unwrap(), None);
    }

    #[test]
    fn flags_that_others_changed_meanwhile_are_kept() {
        let file = tempfile::tempfile().unwrap();
        let group = set_nonblocking(&file).unwrap();
        let flags = fcntl_getfl(&file).unwrap();
        fcntl_setfl(&file, flags | OFlags::APPEND).unwrap();
        restore(&file, group.unwrap()).unwrap();
        let flags = fcntl_getfl(&file).unwrap();
        assert!(flags.contains(OFlags::APPEND) && !flags.contains(OFlags::NONBLOCK));
    }
}
