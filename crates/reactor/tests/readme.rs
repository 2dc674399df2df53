//! The README's server is the one in `examples/echo.rs`, which is compiled.

const README: &str = include_str!("../../../README.md");
const EXAMPLE: &str = include_str!("../examples/echo.rs");

#[test]
fn readme_matches_the_example() {
    // Everything except the example's module comment.
    let code: Vec<_> = EXAMPLE.lines().filter(|line| !line.starts_with("//!")).collect();
    let code = code.join("\n");
    assert!(README.contains(&format!("```rust{code}\n```")), "README.md lacks:{code}");
}
