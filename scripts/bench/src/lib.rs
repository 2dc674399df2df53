//! What the Rust peers have in common: the listening socket, and one step of an
//! echo on a socket that does not block.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use socket2::{Domain, Socket, Type};

/// As much as any server here reads at once, ours included.
pub const BUFFER: usize = 64 * 1024;

/// Listens on the port that the command line names, without blocking, and says
/// so. Where std's own `bind` has a queue of 128, this one has what ours has.
pub fn listen() -> io::Result<TcpListener> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let port = port.ok_or_else(|| io::Error::other("usage: SERVER PORT"))?;
    let addr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    // Standard output is line-buffered.
    println!("Listening on {addr}");
    Ok(socket.into())
}

/// What a connection has read and not yet sent back.
#[derive(Default)]
pub struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

impl Unsent {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Sends what the kernel takes. Whether that was all.
    pub fn flush(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            match stream.write(self.bytes()) {
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(true)
    }
}

/// Reads once and sends it back; what the kernel does not take at once is kept
/// as `unsent`, which must be empty before. Returns how much was read.
pub fn echo(
    stream: &mut (impl Read + Write),
    buffer: &mut [u8],
    unsent: &mut Unsent,
) -> io::Result<usize> {
    let read = stream.read(buffer)?;
    if read == 0 {
        return Ok(0);
    }
    let sent = match stream.write(&buffer[..read]) {
        Ok(sent) => sent,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    unsent.keep(&buffer[sent..read]);
    Ok(read)
}
