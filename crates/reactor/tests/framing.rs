//! `Chat`'s framing: for any bytes, any terminators and any split into reads it
//! finds the messages that a simple parser finds in the whole input.
//!
//! A failure prints the shortest failing case, and adds its seed to
//! `tests/framing.regressions`, whose cases run first from then on. `../fuzz`
//! searches for such cases without a limit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

#[path = "framing/conversation.rs"]
mod conversation;
#[path = "framing/reference.rs"]
mod reference;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseResult};
use reactor::{Reactor, Terminator};

use crate::conversation::{Answers, Conversation, End};

const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/framing.regressions");

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn split_of_input_does_not_change_messages(
        input in bytes(0..400),
        terminators in terminators(),
        pieces in vec(1..20_usize, 1..30),
    ) {
        check(&Conversation { input, terminators, pieces, ..Conversation::default() })?;
    }

    /// Each message is answered to a peer that reads late: no answer is lost,
    /// and parsing stops while there is no room for an answer.
    #[test]
    fn late_reader_gets_every_answer(
        input in bytes(0..20_000),
        terminators in terminators(),
        pieces in vec(1..5_000_usize, 1..30),
        answers in answers(),
    ) {
        let answers = Some(answers);
        check(&Conversation { input, terminators, pieces, answers, ..Conversation::default() })?;
    }

    #[test]
    fn message_up_to_limit_is_accepted_and_longer_one_rejected(
        input in bytes(0..400),
        terminators in terminators(),
        pieces in vec(1..20_usize, 1..30),
        max_message in option::of(0..30_usize),
        answers in option::of(answers()),
    ) {
        let conversation =
            Conversation { input, terminators, pieces, max_message, answers, ..Conversation::default() };
        check(&conversation)?;
    }

    #[test]
    fn no_message_is_found_after_close(
        input in bytes(0..400),
        terminators in terminators(),
        pieces in vec(1..100_usize, 1..30),
        answers in option::of(answers()),
        end in (0..8_usize, end()),
    ) {
        let end = Some(end);
        let conversation =
            Conversation { input, terminators, pieces, answers, end, ..Conversation::default() };
        check(&conversation)?;
    }

    #[test]
    fn discard_drops_the_rest_of_the_same_read(
        input in bytes(0..400),
        terminators in terminators(),
        last in 0..8_usize,
    ) {
        // An empty message before any input belongs to no read.
        prop_assume!(terminators.first() != Some(&Terminator::Length(0)));
        let (pieces, end) = (vec![input.len().max(1)], Some((last, End::Discard)));
        check(&Conversation { input, terminators, pieces, end, ..Conversation::default() })?;
    }
}

fn check(conversation: &Conversation) -> TestCaseResult {
    conversation.check(&mut Reactor::new().unwrap()).map_err(TestCaseError::fail)
}

/// Generates few different bytes, so that terminators and their prefixes are
/// frequent.
fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(b"ab\n".as_slice()), len)
}

/// Generates one terminator per message; the last one applies to the rest.
fn terminators() -> impl Strategy<Value = Vec<Terminator>> {
    let terminator = prop_oneof![
        20 => bytes(1..6).prop_map(Terminator::from),
        10 => (1..20_usize).prop_map(Terminator::Length),
        1 => prop_oneof![
            Just(Terminator::Never),
            Just(Terminator::Length(0)),
            Just(Terminator::from("")),
        ],
    ];
    vec(terminator, 1..12)
}

fn answers() -> impl Strategy<Value = Answers> {
    let high_water = prop_oneof![Just(1), Just(50), Just(1_000), Just(64 * 1024)];
    (high_water, 0..3_000_usize, any::<bool>()).prop_map(|(high_water, reads, produced)| Answers {
        high_water,
        reads,
        produced,
    })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::WhenDone), Just(End::Close), Just(End::Token)]
}
