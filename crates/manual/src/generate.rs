//! All files, below a folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap_complete::Shell;
use cli::error::without_errno;

use crate::page::page;
use crate::program::{PROGRAMS, Program};

/// Writes the man pages and completions of all programs below `folder`, where
/// `man` and the shells look for them if `folder` is the prefix of an
/// installation. Returns the paths, relative to `folder`.
///
/// # Errors
///
/// Returns an error if a file cannot be written.
pub(crate) fn generate(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for program in &PROGRAMS {
        for (path, content) in files(program)? {
            write(&folder.join(&path), &content)?;
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Returns the paths and the contents of the files for one program.
fn files(program: &Program) -> anyhow::Result<[(PathBuf, Vec<u8>); 4]> {
    let name = program.name;
    let completion = |shell| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut program.command(), name, &mut script);
        script
    };
    Ok([
        (format!("share/man/man1/{name}.1").into(), page(program)?),
        (format!("share/bash-completion/completions/{name}").into(), completion(Shell::Bash)),
        (format!("share/zsh/site-functions/_{name}").into(), completion(Shell::Zsh)),
        (format!("share/fish/vendor_completions.d/{name}.fish").into(), completion(Shell::Fish)),
    ])
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let create = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, content)
    };
    create().map_err(|error| anyhow!("cannot write {}: {}", path.display(), without_errno(&error)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::Arg;
    use tempfile::TempDir;
    use testing::{command, is_installed, run};

    use super::*;

    /// The generated files, and a reader of them.
    struct Generated(TempDir);

    impl Generated {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let paths = generate(folder.path()).unwrap();
            assert_eq!(paths.len(), 4 * PROGRAMS.len());
            Generated(folder)
        }

        fn path(&self, program: &Program, kind: usize) -> String {
            let (path, _) = &files(program).unwrap()[kind];
            self.0.path().join(path).to_str().unwrap().to_owned()
        }
    }

    /// Returns the names of all options, as `-s` and `--long`.
    fn option_names(program: &Program) -> Vec<String> {
        let mut command = program.command();
        command.build();
        let names = command.get_arguments().flat_map(|option: &Arg| {
            let short = option.get_short().map(|short| format!("-{short}"));
            let long = option.get_long().map(|long| format!("--{long}"));
            short.into_iter().chain(long)
        });
        let names: Vec<_> = names.collect();
        assert!(names.len() > 10, "{names:?}");
        names
    }

    /// Splits text into words, so that `--host` is not found in `--hostname`.
    fn words(text: &str) -> HashSet<&str> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect()
    }

    #[test]
    fn every_option_is_in_the_man_page_and_in_the_completions() {
        for program in &PROGRAMS {
            for (path, content) in files(program).unwrap() {
                let mut text = String::from_utf8(content).unwrap().replace("\\-", "-");
                for font in ["\\fB", "\\fI", "\\fR"] {
                    text = text.replace(font, " ");
                }
                for name in option_names(program) {
                    // fish has `-s n -l name`.
                    let is_fish = path.extension().is_some_and(|end| end == "fish");
                    let name = if is_fish { name.trim_start_matches('-') } else { &name };
                    assert!(words(&text).contains(name), "no {name} in {}", path.display());
                }
            }
        }
    }

    /// Each option, in the source of the program's tests: `--long`, and `-s` as a word of
    /// its own.
    #[test]
    fn every_option_is_in_a_test() {
        for program in &PROGRAMS {
            let bins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bins");
            let mut text = String::new();
            for entry in fs::read_dir(bins.join(program.name).join("tests/it")).unwrap() {
                text += &fs::read_to_string(entry.unwrap().path()).unwrap();
            }
            let words = words(&text);
            // Every program has these, by clap.
            let by_clap = ["--help", "-h", "--version", "-V"];
            let options = option_names(program).into_iter();
            let untested: Vec<_> = options
                .filter(|name| !by_clap.contains(&&name[..]))
                .filter(|name| !words.contains(&name[..]))
                .collect();
            assert_eq!(untested, [""; 0], "{}", program.name);
        }
    }

    #[test]
    fn man_formats_the_pages_without_warnings() {
        if !is_installed("man", "--version") || !is_installed("groff", "--version") {
            return;
        }
        let generated = Generated::new();
        for program in &PROGRAMS {
            let mut man = command("man");
            man.args(["-E", "UTF-8", "--warnings", "-l", &generated.path(program, 0)]);
            // Without bold letters and underlines.
            man.env("MANWIDTH", "80").env("MAN_KEEP_FORMATTING", "").env("LC_ALL", "C.UTF-8");
            let (code, stdout, stderr) = run(&mut man);
            assert_eq!((code, stderr), (0, vec![]), "{}", program.name);
            let text = stdout.join("\n");
            for section in ["NAME", "SYNOPSIS", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"] {
                assert!(stdout.iter().any(|line| line == section), "no {section} in {text}");
            }
            for name in option_names(program) {
                assert!(words(&text).contains(&name[..]), "no {name} in {text}");
            }
            // Examples stay on separate lines.
            let examples = stdout.iter().filter(|line| line.trim().starts_with(program.name));
            assert!(examples.count() >= 4, "{text}");
        }
    }

    /// Returns what a shell prints that runs `script`.
    fn shell(shell: &str, script: &str) -> String {
        let (code, stdout, stderr) = run(command(shell).args(["-c", script]));
        assert_eq!((code, stderr), (0, vec![]), "{shell}: {script}");
        stdout.join("\n")
    }

    #[test]
    fn bash_completes_every_option() {
        if !is_installed("bash", "--version") {
            return;
        }
        let generated = Generated::new();
        for program in &PROGRAMS {
            let (name, path) = (program.name, generated.path(program, 1));
            // As bash does: the function that is registered for the name is called
            // with the name, the word and the one before it.
            let script = format!(
                "source {path}; function=$(complete -p {name} | sed 's/.* -F //; s/ .*//'); \
                 COMP_WORDS=({name} -); COMP_CWORD=1; $function {name} - {name}; \
                 printf '%s\\n' \"${{COMPREPLY[@]}}\""
            );
            let text = shell("bash", &script);
            for option in &option_names(program) {
                assert!(text.lines().any(|line| line == option), "no {option} in {text}");
            }
        }
    }

    #[test]
    fn fish_completes_every_option() {
        if !is_installed("fish", "--version") {
            return;
        }
        let generated = Generated::new();
        for program in &PROGRAMS {
            let (name, path) = (program.name, generated.path(program, 3));
            let text = shell("fish", &format!("source {path}; complete -C '{name} -'"));
            for option in &option_names(program) {
                let is_offered = text.lines().any(|line| line.split('\t').next() == Some(option));
                assert!(is_offered, "no {option} in {text}");
            }
        }
    }

    /// The completion system needs a terminal, so this loads the function and
    /// checks what it passes to `_arguments`.
    #[test]
    fn zsh_loads_every_option() {
        if !is_installed("zsh", "--version") {
            return;
        }
        let generated = Generated::new();
        for program in &PROGRAMS {
            let (name, path) = (program.name, generated.path(program, 2));
            let script = format!(
                "_arguments() {{ print -rl -- \"$@\" }}; compdef() {{ }}; \
                 source {path}; words=({name}); _{name}"
            );
            let text = shell("zsh", &script);
            for option in &option_names(program) {
                assert!(words(&text).contains(&option[..]), "no {option} in {text}");
            }
        }
    }
}
