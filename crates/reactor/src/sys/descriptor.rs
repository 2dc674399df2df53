//! [`Descriptor`]: a pipe, a terminal or a file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroU8;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::address::Address;
use crate::sys::process::Owner;
use crate::sys::shared_mode;
use crate::sys::source::Source;

/// An open descriptor or socket that is handed to the library: what a `TcpStream`, a
/// `UnixStream`, a `File` or a pipe converts into.
pub type OwnedDescriptor = OwnedFd;

/// Returns how many descriptors this process may have open, if that is limited.
pub(crate) fn open_file_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// An open file in non-blocking mode.
///
/// The mode belongs to the open file description, which other processes may share,
/// for example a shell. It is restored when the last of our descriptors that share it is
/// dropped.
pub(crate) struct Descriptor {
    file: File,
    owner: Owner,
    access: Access,
    /// The group that shares the mode, if it is to be restored.
    group: Option<NonZeroU8>,
}

/// What the file was opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Both,
}

impl Descriptor {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let access = match fcntl_getfl(&fd)? & OFlags::RWMODE {
            OFlags::RDONLY => Access::Read,
            OFlags::WRONLY => Access::Write,
            _ => Access::Both,
        };
        let group = shared_mode::set_nonblocking(&fd)?;
        Ok(Descriptor { file: fd.into(), owner: Owner::this_process(), access, group })
    }

    /// Returns `true` if it was not opened for writing only.
    pub(crate) fn can_read(&self) -> bool {
        self.access != Access::Write
    }

    /// Returns `true` if it was not opened for reading only.
    pub(crate) fn can_write(&self) -> bool {
        self.access != Access::Read
    }

    /// Reads once. Returns the number of bytes, 0 at the end of input.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&self.file).read(buffer) {
            // Linux reports it for a terminal whose other end is closed.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => Ok(0),
            result => result,
        }
    }

    /// Writes once. Returns the number of bytes.
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        (&self.file).write(data)
    }

    /// Returns the error that a hang-up stands for: EPIPE for the write end of a
    /// pipe without readers.
    pub(crate) fn hangup_error(&self) -> io::Result<()> {
        if self.can_read() { Ok(()) } else { Err(Errno::PIPE.into()) }
    }

    pub(crate) fn address(&self) -> Address {
        Address::Descriptor(self.file.as_raw_fd())
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::from(&self.file)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Some(group) = self.group
            && self.owner.is_this_process()
        {
            // The descriptor was valid when it was opened, and still is.
            let _ = shared_mode::restore(&self.file, group);
        }
    }
}
