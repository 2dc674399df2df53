//! [`Producer`]: output that is produced only when there is room for it.

use std::io::{self, Read};

/// How much a [`producer_from_reader`] reads at a time.
const READ_CHUNK: usize = 16 * 1024;

/// What a [`Producer`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Produced {
    /// The buffer contains the next piece.
    Data,
    /// Nothing is available yet. The producer is called again after
    /// [`ChatIo::resume_output`](crate::ChatIo::resume_output). The call to
    /// `resume_output` must not depend on receiving another message: parsing stops when
    /// too much output is queued behind the producer, unless
    /// [`Limits::read_while_congested`](crate::Limits::read_while_congested) is set.
    Later,
    /// There is no more.
    End,
}

/// Output that is never in memory as a whole, like asynchat's producers. Pass it to
/// [`ChatIo::push_with_producer`](crate::ChatIo::push_with_producer).
///
/// Any closure that fills a buffer is a producer. [`producer_from_reader`] creates one
/// from a file, and [`producer_from_iter`] from an iterator.
///
/// # Examples
///
/// ```
/// use std::io;
/// use reactor::{ChatIo, Produced};
///
/// /// Sends the numbers up to `max`.
/// fn count(chat: &mut ChatIo<'_>, max: u32) -> io::Result<()> {
///     let mut next = 1;
///     // The type of the parameter is required.
///     chat.push_with_producer(move |buffer: &mut Vec<u8>| {
///         if next > max {
///             return Ok(Produced::End);
///         }
///         buffer.extend(format!("{next}\n").as_bytes());
///         next += 1;
///         Ok(Produced::Data)
///     })
/// }
/// ```
pub trait Producer: 'static {
    /// Appends the next piece to `buffer`, which is empty. The piece is sent as a whole,
    /// so it should be no longer than about 64 KiB.
    ///
    /// # Errors
    ///
    /// An `Err` closes the stream.
    fn more(&mut self, buffer: &mut Vec<u8>) -> io::Result<Produced>;
}

impl<F: FnMut(&mut Vec<u8>) -> io::Result<Produced> + 'static> Producer for F {
    fn more(&mut self, buffer: &mut Vec<u8>) -> io::Result<Produced> {
        self(buffer)
    }
}

/// Returns a producer of all that `source` contains, read 16 KiB at a time. It is read on
/// the loop's thread, so it should not block. A file is suitable.
pub fn producer_from_reader(mut source: impl Read + 'static) -> impl Producer {
    move |buffer: &mut Vec<u8>| {
        let read = source.by_ref().take(READ_CHUNK as u64).read_to_end(buffer)?;
        Ok(if read == 0 { Produced::End } else { Produced::Data })
    }
}

/// Like [`producer_from_reader`], but produces exactly `len` bytes, for a length that was
/// announced to the peer.
///
/// # Errors
///
/// The producer fails with `UnexpectedEof` if `source` contains fewer bytes.
pub fn producer_from_reader_exact(mut source: impl Read + 'static, len: u64) -> impl Producer {
    let mut remaining = len;
    move |buffer: &mut Vec<u8>| {
        if remaining == 0 {
            return Ok(Produced::End);
        }
        let chunk = remaining.min(READ_CHUNK as u64);
        let read = source.by_ref().take(chunk).read_to_end(buffer)? as u64;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        remaining -= read;
        Ok(Produced::Data)
    }
}

/// Returns a producer of the pieces that an iterator yields, one at a time.
pub fn producer_from_iter<T: AsRef<[u8]> + 'static>(
    pieces: impl IntoIterator<Item = T> + 'static,
) -> impl Producer {
    let mut pieces = pieces.into_iter();
    move |buffer: &mut Vec<u8>| {
        let Some(piece) = pieces.next() else { return Ok(Produced::End) };
        buffer.extend(piece.as_ref());
        Ok(Produced::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pieces until the end or an error.
    fn all(mut producer: impl Producer) -> (Vec<Vec<u8>>, io::Result<Produced>) {
        let mut pieces = Vec::new();
        loop {
            let mut buffer = Vec::new();
            match producer.more(&mut buffer) {
                Ok(Produced::Data) => pieces.push(buffer),
                result => return (pieces, result),
            }
        }
    }

    #[test]
    fn reader_is_read_in_chunks() {
        let data = vec![7; 3 * READ_CHUNK + 1];
        let (pieces, _) = all(producer_from_reader(io::Cursor::new(data)));
        let lengths: Vec<_> = pieces.iter().map(Vec::len).collect();
        assert_eq!(lengths, [READ_CHUNK, READ_CHUNK, READ_CHUNK, 1]);
    }

    #[test]
    fn reader_of_exact_length_fails_if_it_ends_early() {
        let (pieces, result) = all(producer_from_reader_exact(io::Cursor::new("abcd"), 3));
        assert_eq!((pieces, result.unwrap()), (vec![b"abc".to_vec()], Produced::End));
        let (_, result) = all(producer_from_reader_exact(io::Cursor::new("ab"), 3));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn empty_piece_is_not_the_end() {
        let (pieces, _) = all(producer_from_iter(["a", "", "bc"]));
        assert_eq!(pieces, [b"a".to_vec(), b"".to_vec(), b"bc".to_vec()]);
    }
}
