//! The example of the guide, as a test.

#[allow(dead_code, reason = "a test runs `scenario`, and not `main`")]
#[path = "../../examples/chat.rs"]
mod example;

#[test]
fn every_line_arrives_or_its_sender_knows() {
    sim::check(0..100, example::scenario);
}
