//! Fuzzes a conversation with a `Chat`: terminators, the peer's bytes and their
//! split, limits, answers, and the close. `../../tests/framing.rs` uses the same
//! code with generated conversations.
#![no_main]

#[path = "../../tests/framing/conversation.rs"]
mod conversation;
#[path = "../../tests/framing/reference.rs"]
mod reference;

use std::cell::RefCell;

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use reactor::{Reactor, Terminator};

use crate::conversation::{Answers, Conversation, End};

fuzz_target!(|conversation: Conversation| {
    thread_local!(static REACTOR: RefCell<Reactor> = RefCell::new(Reactor::new().unwrap()));
    REACTOR.with_borrow_mut(|reactor| {
        if let Err(why) = conversation.check(reactor) {
            panic!("{why}");
        }
    });
});

impl<'a> Arbitrary<'a> for Conversation {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let terminators =
            (0..u.int_in_range(1..=8)?).map(|_| terminator(u)).collect::<Result<_>>()?;
        let pieces =
            (0..u.int_in_range(1..=6)?).map(|_| u.int_in_range(1..=200)).collect::<Result<_>>()?;
        let max_message = u.ratio(1, 4)?.then(|| u.int_in_range(0..=40)).transpose()?;
        let answers = u.ratio(1, 4)?.then(|| answers(u)).transpose()?;
        let end = u.ratio(1, 4)?.then(|| end(u)).transpose()?;
        let input = u.bytes(u.len())?.to_vec();
        Ok(Conversation { input, terminators, pieces, max_message, answers, end })
    }
}

fn terminator(u: &mut Unstructured<'_>) -> Result<Terminator> {
    Ok(match u.int_in_range(0..=15)? {
        0 => Terminator::Never,
        1..=4 => Terminator::Length(u.int_in_range(0..=300)?),
        kind => Terminator::from(u.bytes(kind % 6)?),
    })
}

fn answers(u: &mut Unstructured<'_>) -> Result<Answers> {
    Ok(Answers {
        high_water: *u.choose(&[1, 50, 1_000, 64 * 1024])?,
        reads: u.int_in_range(0..=3_000)?,
        produced: u.arbitrary()?,
    })
}

fn end(u: &mut Unstructured<'_>) -> Result<(usize, End)> {
    let end = *u.choose(&[End::WhenDone, End::Close, End::Token, End::Discard])?;
    Ok((u.int_in_range(0..=10)?, end))
}
