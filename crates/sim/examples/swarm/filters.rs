//! Filters between socket and protocol.

use std::io::{self, ErrorKind};

use reactor::{Filter, Flow, Listener, Protocol, Stream};

use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilterKind {
    None,
    Frames,
    /// A header, and then frames.
    Header,
}

impl FilterKind {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        [FilterKind::None, FilterKind::None, FilterKind::Frames, FilterKind::Header][rng.len(4)]
    }

    /// Adds the filters of a client.
    pub(crate) fn connect<P: Protocol>(self, stream: Stream<P>) -> Stream<P> {
        match self {
            FilterKind::None => stream,
            FilterKind::Frames => stream.with_filter(Frames::default()),
            FilterKind::Header => stream
                .with_filter(Header { is_client: true, buffer: Vec::new() })
                .with_filter(Frames::default()),
        }
    }

    /// Adds the filters of a server.
    pub(crate) fn listen(self, listener: Listener) -> Listener {
        match self {
            FilterKind::None => listener,
            FilterKind::Frames => listener.with_filter(|_| Ok(Frames::default())),
            FilterKind::Header => listener
                .with_filter(|_| Ok(Header { is_client: false, buffer: Vec::new() }))
                .with_filter(|_| Ok(Frames::default())),
        }
    }
}

/// Frames with a length; one of length 0 is the end. Each end says hello first.
#[derive(Default)]
pub(crate) struct Frames {
    is_ready: bool,
    buffer: Vec<u8>,
}

impl Filter for Frames {
    fn start(&mut self, flow: &mut Flow<'_>) -> io::Result<()> {
        flow.wire.extend(b"hello");
        Ok(())
    }

    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        self.buffer.extend_from_slice(raw);
        if !self.is_ready {
            if self.buffer.len() < 5 {
                return Ok(());
            }
            assert_eq!(self.buffer.drain(..5).collect::<Vec<_>>(), b"hello");
            self.is_ready = true;
            flow.ready();
        }
        while let [high, low, rest @ ..] = &self.buffer[..] {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            if len == 0 {
                flow.end();
            }
            if rest.len() < len {
                break;
            }
            flow.plain.extend(rest[..len].iter().map(|byte| !byte));
            self.buffer.drain(..2 + len);
        }
        Ok(())
    }

    fn ended(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
        Err(ErrorKind::UnexpectedEof.into())
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        assert!(self.is_ready && (1..=16_384).contains(&plain.len()));
        wire.extend(u16::try_from(plain.len()).unwrap_or(0).to_be_bytes());
        wire.extend(plain.iter().map(|byte| !byte));
        Ok(())
    }

    fn finish(&mut self, wire: &mut Vec<u8>) {
        wire.extend([0, 0]);
    }
}

const HEADER: &[u8] = b"HEADER\n";

/// Sends a header, or reads one, and gives way.
struct Header {
    is_client: bool,
    buffer: Vec<u8>,
}

impl Filter for Header {
    fn start(&mut self, flow: &mut Flow<'_>) -> io::Result<()> {
        if self.is_client {
            flow.wire.extend(HEADER);
            flow.give_way(&[]);
        }
        Ok(())
    }

    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        self.buffer.extend_from_slice(raw);
        if let Some(rest) = self.buffer.strip_prefix(HEADER) {
            flow.give_way(rest);
        }
        Ok(())
    }

    fn ended(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
        Err(ErrorKind::UnexpectedEof.into())
    }

    fn send(&mut self, _: &[u8], _: &mut Vec<u8>) -> io::Result<()> {
        Err(ErrorKind::NotConnected.into())
    }
}
