//! The README agrees with the files that it describes.

use std::collections::BTreeSet;

const README: &str = include_str!("../../../README.md");
const EXAMPLE: &str = include_str!("../examples/echo.rs");

#[test]
fn readme_matches_the_example() {
    // The README's server is `examples/echo.rs`, which is compiled: all of it except the
    // module comment.
    let code: Vec<_> = EXAMPLE.lines().filter(|line| !line.starts_with("//!")).collect();
    let code = code.join("\n");
    assert!(README.contains(&format!("```rust{code}\n```")), "README.md lacks:{code}");
}

#[test]
fn readme_counts_the_faults_of_the_script() {
    let script = include_str!("../../../scripts/faults.sh");
    let row = |line: &str| -> Option<u32> {
        let mut words = line.split_whitespace();
        matches!(words.next()?, "tests" | "long_tests" | "show" | "wanted")
            .then(|| words.next()?.parse().ok())?
    };
    let rows: BTreeSet<u32> = script.lines().filter_map(row).collect();
    assert!(README.contains(&format!("provokes {} faults", rows.len())), "{} rows", rows.len());
}
