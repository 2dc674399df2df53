//! [`Terminator`]: where a message ends, and the search for it.

use std::error::Error;
use std::fmt;
use std::io;

/// Where the next message ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Terminator {
    /// At these bytes, which are not part of the message. If there are none, this is the
    /// same as [`Terminator::Never`].
    Bytes(Box<[u8]>),
    /// After this many bytes. A length of 0 is an empty message, complete at once.
    /// Afterwards the terminator is [`Terminator::Never`], until another one is set.
    Length(usize),
    /// At the length that each message starts with. The prefix is not part of the
    /// message.
    Prefixed(LengthPrefix),
    /// Never: all input is collected.
    Never,
}

impl Terminator {
    /// Messages that start with their length as a big-endian `u32`, up to `max` bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{self, Write};
    /// use std::os::unix::net::UnixStream;
    /// use reactor::{Chat, ChatIo, ChatProtocol, Reactor, Stream, Terminator};
    ///
    /// struct Print;
    ///
    /// impl ChatProtocol for Print {
    ///     fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
    ///         assert_eq!(chat.take_collected(), b"hello");
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let (ours, mut theirs) = UnixStream::pair()?;
    /// let mut reactor = Reactor::new()?;
    /// let terminator = Terminator::prefixed_u32_be(1024);
    /// reactor.add(Stream::new(ours, Chat::new(terminator, Print))?)?;
    /// theirs.write_all(b"\0\0\0\x05hello")?;
    /// drop(theirs);
    /// reactor.run()
    /// # }
    /// ```
    #[must_use]
    pub fn prefixed_u32_be(max: usize) -> Self {
        Terminator::Prefixed(LengthPrefix { width: 4, max, missing: None })
    }

    /// Messages that start with their length as a big-endian `u16`.
    #[must_use]
    pub fn prefixed_u16_be() -> Self {
        let max = usize::from(u16::MAX);
        Terminator::Prefixed(LengthPrefix { width: 2, max, missing: None })
    }
}

/// The length at the start of each message, of [`Terminator::Prefixed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LengthPrefix {
    /// In bytes; at most 4.
    width: usize,
    max: usize,
    /// How many bytes of the message have not arrived; `None` in the prefix.
    missing: Option<usize>,
}

impl<T: AsRef<[u8]>> From<T> for Terminator {
    fn from(bytes: T) -> Self {
        Terminator::Bytes(bytes.as_ref().into())
    }
}

/// The result of a search in the next input of a message.
pub(super) enum Scan {
    /// This much belongs to the message, which continues.
    Partial { len: usize },
    /// This much belongs to the message, which is complete after `consumed` bytes.
    Complete { len: usize, consumed: usize },
    /// This much belongs to the message; the rest cannot be judged without more input.
    NeedMore { len: usize },
}

impl Terminator {
    /// Returns the same, with [`Terminator::Never`] for one that never occurs.
    pub(super) fn normalized(self) -> Self {
        match self {
            Terminator::Bytes(bytes) if bytes.is_empty() => Terminator::Never,
            terminator => terminator,
        }
    }

    /// A length that is complete is no terminator any more.
    pub(super) fn clear_if_complete(&mut self) {
        if *self == Terminator::Length(0) {
            *self = Terminator::Never;
        }
    }

    /// Returns `true` if a message is complete without further input.
    pub(super) fn is_complete(&self) -> bool {
        *self == Terminator::Length(0)
    }

    /// Returns `true` if the length of the message is given.
    pub(super) fn is_length(&self) -> bool {
        matches!(self, Terminator::Length(_) | Terminator::Prefixed(_))
    }

    /// Searches the next input of a message, and counts it.
    pub(super) fn scan(&mut self, data: &[u8]) -> io::Result<(usize, Scan)> {
        let mut prefix_len = 0;
        let scan = match self {
            Terminator::Never => Scan::Partial { len: data.len() },
            Terminator::Length(missing) => take_length(missing, data),
            Terminator::Prefixed(prefix) => {
                if prefix.missing.is_none() {
                    if data.len() < prefix.width {
                        return Ok((0, Scan::NeedMore { len: 0 }));
                    }
                    prefix_len = prefix.width;
                    prefix.missing = Some(prefix.parse(&data[..prefix_len])?);
                }
                let mut missing = prefix.missing.unwrap_or(0);
                let scan = take_length(&mut missing, &data[prefix_len..]);
                prefix.missing = Some(missing).filter(|missing| *missing > 0);
                scan
            }
            Terminator::Bytes(bytes) => match find(data, bytes) {
                Some(at) => Scan::Complete { len: at, consumed: at + bytes.len() },
                None => Scan::NeedMore { len: data.len() - find_prefix_at_end(data, bytes) },
            },
        };
        Ok((prefix_len, scan))
    }
}

impl LengthPrefix {
    fn parse(&self, prefix: &[u8]) -> io::Result<usize> {
        let len = prefix.iter().fold(0_u32, |len, &byte| len << 8 | u32::from(byte));
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > self.max { Err(MessageTooLong { limit: self.max }.into()) } else { Ok(len) }
    }
}

fn take_length(missing: &mut usize, data: &[u8]) -> Scan {
    let len = data.len().min(*missing);
    *missing -= len;
    if *missing == 0 { Scan::Complete { len, consumed: len } } else { Scan::Partial { len } }
}

/// Returns the position of the first `needle`, which is not empty, in `haystack`.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|&byte| byte == needle[0]) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Returns the length of the longest proper prefix of `needle` that `haystack`, which
/// does not contain all of it, ends with: asynchat's `find_prefix_at_end`.
fn find_prefix_at_end(haystack: &[u8], needle: &[u8]) -> usize {
    let max = haystack.len().min(needle.len() - 1);
    (1..=max).rev().find(|&len| haystack.ends_with(&needle[..len])).unwrap_or(0)
}

/// A message is longer than the limit. It is the inner error of the [`io::Error`], of
/// kind `InvalidData`, that closes the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageTooLong {
    /// The limit, in bytes.
    pub limit: usize,
}

impl fmt::Display for MessageTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message longer than {} bytes", self.limit)
    }
}

impl Error for MessageTooLong {}

impl From<MessageTooLong> for io::Error {
    fn from(error: MessageTooLong) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_find_prefix_at_end() {
        assert_eq!(find_prefix_at_end(b"qwerty\r", b"\r\n"), 1);
        assert_eq!(find_prefix_at_end(b"qwertydkjf", b"\r\n"), 0);
        assert_eq!(find_prefix_at_end(b"ab", b"ababa"), 2);
        assert_eq!(find_prefix_at_end(b"", b"\r\n"), 0);
    }

    #[test]
    fn needle_is_found_at_its_first_position() {
        assert_eq!(find(b"aab", b"ab"), Some(1));
        assert_eq!(find(b"\r\r\n", b"\r\n"), Some(1));
        assert_eq!(find(b"\r\r", b"\r\n"), None);
        assert_eq!(find(b"", b"x"), None);
    }

    /// Scans `data` in pieces of `size` bytes, and returns the messages.
    fn messages(mut terminator: Terminator, data: &[u8], size: usize) -> Vec<Vec<u8>> {
        let (mut messages, mut message, mut input) = (Vec::new(), Vec::new(), Vec::new());
        for piece in data.chunks(size) {
            input.extend(piece);
            loop {
                let (prefix, scan) = terminator.scan(&input).unwrap();
                input.drain(..prefix);
                let (len, consumed, is_complete) = match scan {
                    Scan::Partial { len } | Scan::NeedMore { len } => (len, len, false),
                    Scan::Complete { len, consumed } => (len, consumed, true),
                };
                message.extend(&input[..len]);
                input.drain(..consumed);
                if !is_complete {
                    break;
                }
                messages.push(std::mem::take(&mut message));
            }
        }
        messages
    }

    #[test]
    fn prefixed_messages_are_found_in_any_split() {
        let data = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x03cde";
        for size in 1..=data.len() {
            let found = messages(Terminator::prefixed_u32_be(3), data, size);
            assert_eq!(found, [&b"ab"[..], b"", b"cde"], "pieces of {size}");
        }
        assert_eq!(messages(Terminator::prefixed_u16_be(), b"\0\x01x\0\0", 5), [&b"x"[..], b""]);
    }

    #[test]
    fn prefix_beyond_the_limit_is_an_error() {
        let result = Terminator::prefixed_u32_be(3).scan(b"\0\0\0\x04");
        let error = result.map(|(prefix, _)| prefix).unwrap_err();
        assert_eq!(error.to_string(), "message longer than 3 bytes");
    }
}
