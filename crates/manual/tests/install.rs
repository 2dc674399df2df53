//! Installing and uninstalling, by `scripts/install.sh`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the script, without the compiler flags of this test.
fn install(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(root.join("scripts/install.sh"));
    command.args(arguments).env_remove("RUSTFLAGS").output().unwrap()
}

/// Returns the paths of all files below `folder`.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn installation_is_complete_and_removed_completely() {
    let prefix = tempfile::tempdir().unwrap();
    let other = prefix.path().join("share/man/man1/other.1");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, "a file of another program").unwrap();

    let at = prefix.path().to_str().unwrap();
    let output = install(&["--prefix", at, "--profile", "dev"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut listed: Vec<PathBuf> =
        String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect();
    assert_eq!(listed.len(), 15, "{listed:#?}");
    for program in ["echo-server", "echo-client", "echo-bench"] {
        let output = Command::new(prefix.path().join("bin").join(program)).arg("-V").output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(text, format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
        let page = prefix.path().join(format!("share/man/man1/{program}.1"));
        assert!(fs::read_to_string(page).unwrap().contains(".SH NAME"));
    }
    listed.push(other.clone());
    listed.sort();
    assert_eq!(files_below(prefix.path()), listed);

    let output = install(&["--prefix", at, "--uninstall"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(files_below(prefix.path()), [other]);
    assert!(!prefix.path().join("bin").exists(), "empty folders are removed");
}

/// And does so before a build, whose output would be on standard error too.
#[test]
fn unwritable_prefix_is_reported_in_one_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let prefix = file.path().join("below");
    let output = install(&["--prefix", prefix.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "install: cannot write {}/bin/echo-server; choose another --prefix, or run it as root\n",
        prefix.display()
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

#[test]
fn wrong_command_line_exits_with_2() {
    for arguments in [&["--prefix"][..], &["--nonsense"]] {
        let output = install(arguments);
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("install: ") && text.contains("--help"), "{text}");
    }
}
