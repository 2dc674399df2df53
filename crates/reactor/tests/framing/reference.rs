//! What [`Chat`](reactor::Chat) is to find, in as few words as can be.

use reactor::Terminator;

/// What there is in an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) messages: Vec<Vec<u8>>,
    /// What belongs to no complete message.
    pub(crate) rest: Vec<u8>,
    /// How much of a message that has an end that is.
    pub(crate) unfinished: usize,
    /// It ends with a message of more than is allowed.
    pub(crate) too_long: bool,
}

/// The messages in `input`. `terminators` are set one after another, with each
/// message that is found.
pub(crate) fn parse(mut input: &[u8], terminators: &[Terminator], most: usize) -> Parsed {
    let mut parsed = Parsed::default();
    let mut terminators = terminators.iter().cloned();
    let mut terminator = terminators.next().unwrap_or(Terminator::Never);
    loop {
        let (len, skip) = match &terminator {
            Terminator::Bytes(bytes) if !bytes.is_empty() => {
                let at = input.windows(bytes.len()).position(|window| *window == **bytes);
                (at, bytes.len())
            }
            Terminator::Length(len) if *len > 0 => {
                (Some(*len).filter(|len| *len <= input.len()), 0)
            }
            Terminator::Bytes(_) | Terminator::Length(_) | Terminator::Never => (None, 0),
        };
        let counted = matches!(terminator, Terminator::Length(1..));
        parsed.too_long = len.unwrap_or(input.len()) > most && !counted;
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
        // A length that is met is no terminator any more.
        if counted {
            terminator = Terminator::Never;
        }
        terminator = terminators.next().unwrap_or(terminator);
    }
}
