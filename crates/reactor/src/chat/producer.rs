//! [`Producer`]: output that is made only when there is room for it.

use std::io::{self, Read};

/// How much a [`producer_from_reader`] reads at a time.
const PIECE: usize = 16 * 1024;

/// Something to send that is never held whole: asynchat's producers. Give it to
/// [`ChatIo::push_with_producer`](crate::ChatIo::push_with_producer).
///
/// Any closure that fills a buffer is one; [`producer_from_reader`] makes one of a file, and
/// [`producer_from_iter`] of an iterator.
pub trait Producer: 'static {
    /// Appends the next piece to `buffer`, which is empty. Left empty, it says
    /// that there is no more. The buffer is sent whole, so a piece should be
    /// no longer than some ten KiB.
    ///
    /// An `Err` closes the stream.
    fn more(&mut self, buffer: &mut Vec<u8>) -> io::Result<()>;
}

impl<F: FnMut(&mut Vec<u8>) -> io::Result<()> + 'static> Producer for F {
    fn more(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self(buffer)
    }
}

/// A producer of all that `source` holds, read 16 KiB at a time. Reading is
/// done on the loop's thread, so `source` should be one that does not block,
/// such as a file.
pub fn producer_from_reader(mut source: impl Read + 'static) -> impl Producer {
    move |buffer: &mut Vec<u8>| source.by_ref().take(PIECE as u64).read_to_end(buffer).map(drop)
}

/// A producer of the pieces that an iterator yields, one at a time.
pub fn producer_from_iter<T: AsRef<[u8]> + 'static>(
    pieces: impl IntoIterator<Item = T> + 'static,
) -> impl Producer {
    let mut pieces = pieces.into_iter();
    move |buffer: &mut Vec<u8>| {
        // An empty piece is not the end.
        if let Some(piece) = pieces.by_ref().find(|piece| !piece.as_ref().is_empty()) {
            buffer.extend(piece.as_ref());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut producer: impl Producer) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| {
            let mut buffer = Vec::new();
            producer.more(&mut buffer).unwrap();
            (!buffer.is_empty()).then_some(buffer)
        })
        .collect()
    }

    #[test]
    fn a_reader_is_read_in_pieces() {
        let data = vec![7; 3 * PIECE + 1];
        let lengths: Vec<_> =
            all(producer_from_reader(io::Cursor::new(data))).iter().map(Vec::len).collect();
        assert_eq!(lengths, [PIECE, PIECE, PIECE, 1]);
    }

    #[test]
    fn an_empty_piece_is_not_the_end() {
        assert_eq!(all(producer_from_iter(["a", "", "bc"])), [b"a".to_vec(), b"bc".to_vec()]);
    }
}
