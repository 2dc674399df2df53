//! Addresses of Unix sockets: paths, and names in Linux's abstract namespace.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use socket2::SockAddr;

use crate::address::Address;

/// Returns the address of a Unix socket: its path, or a zero byte and its name in the
/// abstract namespace.
pub(super) fn unix_address(path: &[u8]) -> Address {
    match path.split_first() {
        None => Address::Unix(None),
        Some((0, name)) => Address::Abstract(name.into()),
        Some(_) => Address::Unix(Some(Path::new(OsStr::from_bytes(path)).to_path_buf())),
    }
}

/// Returns the address of the Unix socket at `path`, which may also be a zero byte and a
/// name in the abstract namespace.
pub(super) fn path_address(path: &Path) -> Address {
    unix_address(path.as_os_str().as_bytes())
}

/// Returns `path` for an error message of one line.
fn shown(path: &Path) -> String {
    match path.as_os_str().as_bytes() {
        [0, name @ ..] => format!("@{}", String::from_utf8_lossy(name).escape_debug()),
        bytes if bytes.iter().any(u8::is_ascii_control) => {
            format!("{}", path.to_string_lossy().escape_debug())
        }
        _ => path.display().to_string(),
    }
}

/// Returns an error that names `path`.
pub(super) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", shown(path)))
}

/// Returns `true` if `path` is a zero byte and a name: there is no such file.
pub(super) fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&0)
}

/// Converts `path` for the system.
///
/// # Errors
///
/// Returns `InvalidInput` if it is empty, contains a zero byte, or is too long: the
/// system would bind a nameless socket, or another path.
pub(super) fn unix_sock_addr(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_bytes();
    let invalid = |message: &str| Err(io::Error::new(ErrorKind::InvalidInput, message));
    match bytes {
        [] => return invalid("the path of a Unix socket is empty"),
        [0] => return invalid("the name of a Unix socket is empty"),
        [0, ..] if !cfg!(any(target_os = "linux", target_os = "android")) => {
            return invalid("this system has no abstract names of Unix sockets");
        }
        [0, ..] => {}
        bytes if bytes.contains(&0) => {
            return invalid("the path of a Unix socket contains a zero byte");
        }
        _ => {}
    }
    let addr = SockAddr::unix(path);
    match addr {
        // The system's structure also has room for the final zero byte of a path.
        Ok(addr) if bytes.len() <= MAX_LEN => Ok(addr),
        _ => invalid("the path of a Unix socket is too long"),
    }
}

/// The longest path in bytes: `sun_path` of unix(7), less its zero byte. An abstract name
/// may be as long, with its leading zero byte in addition.
const MAX_LEN: usize =
    if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };
