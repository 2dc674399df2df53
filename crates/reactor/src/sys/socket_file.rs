//! [`SocketFile`]: the mode and the owner of the file that a Unix socket is bound to.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

/// The mode and the owner of the file that a Unix socket is bound to. To connect, a program
/// needs permission to write to the file (unix(7), on Linux; other systems may ignore it).
///
/// What is `None` stays as bind(2) sets it: the mode that umask(2) leaves of 777, and the
/// user and the group of this process. No other user should be able to write to the
/// directory, and so to exchange the file.
///
/// # Examples
///
/// ```
/// use reactor::SocketFile;
///
/// // For this user, and the members of group 33.
/// let file = SocketFile { mode: Some(0o660), gid: Some(33), ..SocketFile::default() };
/// # let _ = file;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFile {
    /// The permissions, such as `0o660` (chmod(2)).
    pub mode: Option<u32>,
    /// The user that owns it; to change this requires privileges (chown(2)).
    pub uid: Option<u32>,
    /// Its group: one of this process, unless that has privileges (chown(2)).
    pub gid: Option<u32>,
}

impl SocketFile {
    /// Sets mode and owner of `path`.
    ///
    /// # Errors
    ///
    /// Returns an error that names what cannot be set.
    pub(super) fn set_on(self, path: &Path) -> io::Result<()> {
        // The mode first: who is no longer the owner cannot change it.
        if let Some(mode) = self.mode {
            fs::set_permissions(path, Permissions::from_mode(mode))
                .map_err(named(format!("cannot set the mode to {mode:03o}")))?;
        }
        if self.uid.is_some() || self.gid.is_some() {
            let name = |id: Option<u32>| id.map_or(String::new(), |id| id.to_string());
            lchown(path, self.uid, self.gid).map_err(named(format!(
                "cannot set the owner to {}:{}",
                name(self.uid),
                name(self.gid)
            )))?;
        }
        Ok(())
    }

    /// # Errors
    ///
    /// Returns `InvalidInput` if something is to be set, as there is no file.
    pub(super) fn check_none(self) -> io::Result<()> {
        if self == SocketFile::default() {
            return Ok(());
        }
        let message = "an abstract name has no file with a mode and an owner";
        Err(io::Error::new(ErrorKind::InvalidInput, message))
    }
}

fn named(what: String) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}
