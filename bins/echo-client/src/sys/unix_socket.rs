//! Unix sockets.

use std::path::Path;

use reactor::{Protocol, Stream};

/// Creates a stream that connects to a Unix socket.
pub(crate) fn connect_unix<P: Protocol>(path: &Path, protocol: P) -> Stream<P> {
    Stream::connect_unix(path, protocol)
}
