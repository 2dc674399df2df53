//! The pages of the guide, `src/how_it_works.rs` and `src/guarantees.rs`, name files,
//! functions and constants that exist.
#![allow(clippy::unwrap_used, reason = "a panic in a test is the report of a failure")]

use std::fs;
use std::path::{Path, PathBuf};

/// The page with the path of an event.
const PATH: &str = "how_it_works.rs";

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the lines of a section of `page`, without the comment signs.
fn section(page: &str, heading: &str) -> Vec<String> {
    let guide = fs::read_to_string(src().join(page)).unwrap();
    let lines = guide.lines().filter_map(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned());
    let start = format!("# {heading}");
    let section = lines.skip_while(|line| *line != start).skip(1);
    let section: Vec<_> = section.take_while(|line| !line.starts_with("# ")).collect();
    assert!(!section.is_empty(), "{page} has no section `{heading}`");
    section
}

/// Returns what is between backticks.
fn code_spans(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

fn is_file(span: &str) -> bool {
    Path::new(span).extension().is_some_and(|extension| extension == "rs")
}

#[test]
fn each_named_file_exists() {
    let path = section(PATH, "One event, from the kernel to the bytes written back");
    let decisions = section(PATH, "Where decisions are made");
    for line in path.iter().chain(&decisions) {
        for file in code_spans(line).into_iter().filter(|span| is_file(span)) {
            assert!(src().join(file).exists(), "there is no {file}: {line}");
        }
    }
}

#[test]
fn each_decision_is_where_the_table_says() {
    let rows = section(PATH, "Where decisions are made");
    let rows: Vec<_> = rows.iter().filter(|line| line.contains('`')).collect();
    assert!(rows.len() >= 12, "{} rows", rows.len());
    for row in rows {
        let spans = code_spans(row);
        let text = fs::read_to_string(src().join(spans[0])).unwrap();
        let function = format!("fn {}", spans[1]);
        let has_function = text
            .match_indices(&function)
            .any(|(at, _)| matches!(text.as_bytes()[at + function.len()], b'(' | b'<'));
        assert!(has_function, "{} has no `{function}`: {row}", spans[0]);
    }
}

#[test]
fn limits_are_those_of_the_source() {
    let rows = section("guarantees.rs", "Limits");
    let rows: Vec<_> = rows.iter().filter(|line| line.matches('`').count() == 4).collect();
    assert!(rows.len() >= 5, "{} rows", rows.len());
    for row in rows {
        let spans = code_spans(row);
        let text = fs::read_to_string(src().join(spans[0])).unwrap();
        let line = text.lines().find(|line| line.contains(&format!("const {}:", spans[1])));
        let (_, value) =
            line.unwrap_or_else(|| panic!("no constant: {row}")).split_once('=').unwrap();
        let factors = value.trim().trim_end_matches(';').split('*');
        let value: u64 = factors.map(|factor| factor.trim().parse::<u64>().unwrap()).product();
        let stated = row.split('|').nth(2).unwrap().trim().replace(',', "");
        assert_eq!(stated.parse::<u64>().unwrap(), value, "{row}");
    }
}

/// The module map lists each file, unless it lists its folder as a whole.
#[test]
fn module_map_lists_each_file() {
    let mut listed = Vec::new();
    let mut folder = String::new();
    let map = section(PATH, "The modules");
    for line in map.iter().skip_while(|line| !line.starts_with("```")).skip(1) {
        if line.starts_with("```") {
            break;
        }
        if !line.starts_with(' ') {
            folder.clear();
        }
        for word in line.split_whitespace().map(|word| word.trim_end_matches(',')) {
            if word.ends_with('/') {
                word.clone_into(&mut folder);
                listed.push(word.to_owned());
            } else if is_file(word) {
                listed.push(format!("{folder}{word}"));
            } else {
                break;
            }
        }
    }
    for entry in &listed {
        assert!(src().join(entry).exists(), "the map lists {entry}, which does not exist");
    }
    for entry in fs::read_dir(src()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !path.is_dir() {
            assert!(name == "lib.rs" || listed.contains(&name.to_owned()), "not listed: {name}");
            continue;
        }
        let folder = format!("{name}/");
        assert!(listed.contains(&folder), "not listed: {folder}");
        let is_detailed = listed.iter().any(|entry| entry.starts_with(&folder) && *entry != folder);
        for file in fs::read_dir(&path).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            // Other systems: listed beside the file that each replaces.
            let is_replacement =
                file == "fallback.rs" || file == "windows" || file.starts_with("portable_");
            let is_exempt = file == "mod.rs" || file == "tests.rs" || is_replacement;
            let is_listed = listed.contains(&format!("{folder}{file}"));
            assert!(is_listed || is_exempt || !is_detailed, "not listed: {folder}{file}");
        }
    }
    for file in fs::read_dir(src().join("sys/windows")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let is_replacement = src().join("sys").join(&file).exists();
        let is_listed = listed.contains(&format!("sys/windows/{file}"));
        assert!(is_replacement || is_listed, "not listed: sys/windows/{file}");
    }
}
