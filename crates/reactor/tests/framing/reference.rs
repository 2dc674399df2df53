//! A simple parser that defines the messages [`Chat`](reactor::Chat) must find.

use reactor::Terminator;

/// The contents of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) messages: Vec<Vec<u8>>,
    /// Input of no complete message.
    pub(crate) rest: Vec<u8>,
    /// The length of `rest` if it is part of a message with a terminator.
    pub(crate) unfinished: usize,
    /// It ends with a message longer than the limit.
    pub(crate) too_long: bool,
}

/// Parses `input`. The next of `terminators` is set after each message.
pub(crate) fn parse(mut input: &[u8], terminators: &[Terminator], max: usize) -> Parsed {
    let mut parsed = Parsed::default();
    let mut terminators = terminators.iter().cloned();
    let mut terminator = terminators.next().unwrap_or(Terminator::Never);
    loop {
        let (len, skip) = match &terminator {
            Terminator::Bytes(bytes) if !bytes.is_empty() => {
                let at = input.windows(bytes.len()).position(|window| *window == **bytes);
                (at, bytes.len())
            }
            Terminator::Length(len) => (Some(*len).filter(|len| *len <= input.len()), 0),
            _ => (None, 0),
        };
        let counted = matches!(terminator, Terminator::Length(_));
        parsed.too_long = len.unwrap_or(input.len()) > max && !counted;
        match len {
            Some(len) if !parsed.too_long => {
                parsed.messages.push(input[..len].to_vec());
                input = &input[len + skip..];
            }
            _ => {
                let endless = skip == 0 && !counted;
                parsed.unfinished = if endless { 0 } else { input.len() };
                parsed.rest = input.to_vec();
                return parsed;
            }
        }
        // A completed length is no terminator any more.
        if counted {
            terminator = Terminator::Never;
        }
        terminator = terminators.next().unwrap_or(terminator);
    }
}
