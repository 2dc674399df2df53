//! Generates the man pages and shell completions of the programs from the
//! definitions of their command lines. The programs themselves do not contain the
//! generators.
//!
//! - [`program`]: the command lines.
//! - [`page`]: a man page.
//! - [`generate`]: all files, below a folder like `/usr/local`.

mod generate;
mod page;
mod program;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Writes the man pages and shell completions of the programs
///
/// Prints the path of each file, relative to DIR.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Folder to write `share` to, as installed below a prefix
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let paths = generate::generate(&options.folder).map(|paths| {
        for path in paths {
            cli::output::STDOUT.write_line(&path.display().to_string());
        }
    });
    cli::error::exit_code("manual", paths)
}
