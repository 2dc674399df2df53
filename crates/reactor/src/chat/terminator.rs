//! [`Terminator`]: where a message ends, and how that is found.

/// Where the next message ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terminator {
    /// With these bytes, which belong to no message. None at all: as
    /// [`Terminator::Never`].
    Bytes(Box<[u8]>),
    /// After so many bytes; then as [`Terminator::Never`], until another is
    /// set. None at all: as [`Terminator::Never`].
    Length(usize),
    /// Never: everything is collected.
    Never,
}

impl<T: AsRef<[u8]>> From<T> for Terminator {
    fn from(bytes: T) -> Self {
        Terminator::Bytes(bytes.as_ref().into())
    }
}

/// What to do with the next bytes received.
pub(crate) struct Step {
    /// So many belong to the message.
    pub(crate) collect: usize,
    /// So many are dealt with then.
    pub(crate) consume: usize,
    /// The message ends.
    pub(crate) found: bool,
    /// What is left cannot be judged without more.
    pub(crate) starved: bool,
}

impl Terminator {
    /// The same, where one that is empty never comes.
    pub(crate) fn normal(self) -> Self {
        match self {
            Terminator::Bytes(bytes) if bytes.is_empty() => Terminator::Never,
            Terminator::Length(0) => Terminator::Never,
            terminator => terminator,
        }
    }

    /// A length that is met is no terminator any more: what comes then has no
    /// end, until one is set.
    pub(crate) fn met(&mut self) {
        if *self == Terminator::Length(0) {
            *self = Terminator::Never;
        }
    }

    pub(crate) fn is_length(&self) -> bool {
        matches!(self, Terminator::Length(_))
    }

    /// Judges the next bytes of a message; `data` is not empty.
    pub(crate) fn judge(&mut self, data: &[u8]) -> Step {
        match self {
            Terminator::Never => {
                let all = data.len();
                Step { collect: all, consume: all, found: false, starved: false }
            }
            Terminator::Length(missing) => {
                let part = data.len().min(*missing);
                *missing -= part;
                Step { collect: part, consume: part, found: *missing == 0, starved: false }
            }
            Terminator::Bytes(bytes) => {
                if let Some(at) = find(data, bytes) {
                    let consume = at + bytes.len();
                    return Step { collect: at, consume, found: true, starved: false };
                }
                let sure = data.len() - find_prefix_at_end(data, bytes);
                Step { collect: sure, consume: sure, found: false, starved: true }
            }
        }
    }
}

/// Where `needle`, which is not empty, stands in `haystack` first.
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

/// How long the beginning of `needle` is that `haystack` ends with, where it
/// does not hold the whole: asynchat's `find_prefix_at_end`.
fn find_prefix_at_end(haystack: &[u8], needle: &[u8]) -> usize {
    let most = haystack.len().min(needle.len() - 1);
    (1..=most).rev().find(|&len| haystack.ends_with(&needle[..len])).unwrap_or(0)
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
    fn a_needle_is_found_where_it_first_stands() {
        assert_eq!(find(b"aab", b"ab"), Some(1));
        assert_eq!(find(b"\r\r\n", b"\r\n"), Some(1));
        assert_eq!(find(b"\r\r", b"\r\n"), None);
        assert_eq!(find(b"", b"x"), None);
    }
}
