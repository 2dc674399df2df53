//! [`Filter`]: a layer between the socket of a stream and its protocol.

use std::any::Any;
use std::io;

use crate::address::Address;

/// A layer between the socket of a stream and its [`Protocol`](crate::Protocol), such as
/// TLS. It turns the bytes that arrive into those that the protocol reads, and the bytes
/// that the protocol sends into those that are written. A filter does no I/O itself.
///
/// Give a filter to a stream with [`Stream::with_filter`](crate::Stream::with_filter), to
/// the streams of a listener with
/// [`Listener::with_filter`](crate::Listener::with_filter), or to a connection in use with
/// [`Connection::start_filter`](crate::Connection::start_filter). A stream can have
/// several in a row: each is used until it [gives way](Flow::give_way) to the next one.
/// The last one stays, or gives way to the protocol, after which the stream costs no more
/// than one without a filter.
///
/// Until the filter is [ready](Flow::ready), the protocol is not called, and what it sends
/// is kept. [`Limits::handshake_timeout`](crate::Limits::handshake_timeout) limits this
/// time, for all filters of a stream together.
///
/// An `Err` from a filter closes the stream. [`Flow::wire`], for example an alert, is sent
/// before. Then the stream waits until the peer closes its side, for at most two seconds
/// without progress, so that the peer can read it.
///
/// # Examples
///
/// A filter that disguises each byte:
///
/// ```
/// use std::io::{self, Read, Write};
/// use std::os::unix::net::UnixStream;
/// use reactor::{Filter, Flow, Io, Protocol, Reactor, Stream};
///
/// struct Xor(u8);
///
/// impl Filter for Xor {
///     fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
///         flow.plain.extend(raw.iter().map(|byte| byte ^ self.0));
///         Ok(())
///     }
///     fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
///         wire.extend(plain.iter().map(|byte| byte ^ self.0));
///         Ok(())
///     }
/// }
///
/// struct Greeter;
///
/// impl Protocol for Greeter {
///     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
///         assert_eq!(data, b"hello");
///         io.send(b"good day")?;
///         io.close();
///         Ok(())
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let (ours, mut theirs) = UnixStream::pair()?;
/// let mut reactor = Reactor::new()?;
/// reactor.add(Stream::new(ours, Greeter)?.with_filter(Xor(1)))?;
/// theirs.write_all(b"idmmn")?;
/// reactor.run()?;
/// let mut reply = String::new();
/// theirs.read_to_string(&mut reply)?;
/// assert_eq!(reply, "fnne!e`x");
/// # Ok(())
/// # }
/// ```
#[expect(clippy::missing_errors_doc, reason = "the trait documents what an `Err` does")]
pub trait Filter: Any {
    /// Called first, once the connection is established. Default: ready at once.
    fn start(&mut self, flow: &mut Flow<'_>) -> io::Result<()> {
        flow.ready();
        Ok(())
    }

    /// Called with bytes that arrived. The filter keeps what it cannot use yet. It may
    /// overwrite them, for example to decrypt in place.
    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()>;

    /// Called when the connection has ended, unless [`Flow::end`] was called before.
    /// Returns `UnexpectedEof` if the filter's own end is missing: the stream closes with
    /// [`Cause::Truncated`](crate::Cause::Truncated), if the filter was ready. If
    /// it is not ready after this call, the stream closes with
    /// [`Cause::PeerClosed`](crate::Cause::PeerClosed). Default: this is also the end of the
    /// protocol's input.
    fn ended(&mut self, flow: &mut Flow<'_>) -> io::Result<()> {
        flow.end();
        Ok(())
    }

    /// Appends to `wire` what is to be written for `plain`, which the protocol sends: 1 to
    /// 16,384 bytes. Called only while the filter is ready. Small pieces that one callback
    /// of the protocol sends are passed to the filter together.
    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()>;

    /// Appends to `wire` what ends the output. Called at most once, when the protocol has
    /// closed the stream or shut it down, and only while the filter is ready. Default:
    /// nothing.
    fn finish(&mut self, _wire: &mut Vec<u8>) {}
}

/// What a [`Filter`] reads into, writes to, and reports.
#[derive(Debug)]
pub struct Flow<'a> {
    /// Input for the protocol, to which the filter appends.
    pub plain: &'a mut Vec<u8>,
    /// Output of the filter itself, to which it appends.
    pub wire: &'a mut Vec<u8>,
    pub(crate) report: Report,
}

/// What a filter has reported in one call.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) is_ready: bool,
    pub(crate) has_ended: bool,
    pub(crate) peer: Option<Address>,
    /// The filter gives way, and these bytes are for what follows it.
    pub(crate) rest: Option<Vec<u8>>,
}

impl<'a> Flow<'a> {
    pub(crate) fn new(plain: &'a mut Vec<u8>, wire: &'a mut Vec<u8>) -> Self {
        Flow { plain, wire, report: Report::default() }
    }

    /// Lets the protocol start. [`Protocol::handle_connect`](crate::Protocol::handle_connect)
    /// follows, or [`handle_upgrade`](crate::Protocol::handle_upgrade) on a connection
    /// that was in use.
    pub fn ready(&mut self) {
        self.report.is_ready = true;
    }

    /// Ends the protocol's input, although the connection may continue.
    pub fn end(&mut self) {
        self.report.has_ended = true;
    }

    /// Sets the address that [`Connection::peer_addr`](crate::Connection::peer_addr)
    /// returns.
    pub fn set_peer(&mut self, peer: Address) {
        self.report.peer = Some(peer);
    }

    /// Ends this filter. The next one continues, or, if there is none, the protocol.
    /// `rest` was received and is for what follows.
    pub fn give_way(&mut self, rest: &[u8]) {
        self.report.rest = Some(rest.to_vec());
    }
}
