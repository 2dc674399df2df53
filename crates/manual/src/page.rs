//! The man page of a program.

use std::io;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::program::Program;

/// Returns the man page, as roff source.
///
/// # Errors
///
/// Does not return an error: it writes to memory.
pub(crate) fn page(program: &Program) -> io::Result<Vec<u8>> {
    let command = program.command();
    let version = command.get_version().unwrap_or_default();
    let after_help = command.get_after_long_help().or(command.get_after_help());
    let after_help = after_help.map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command.clone())
        .title(program.name.to_uppercase())
        .source(format!("{} {version}", program.name))
        .manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for part in after_help.split("\n\n") {
        section(part).to_writer(&mut page)?;
    }
    see_also(program).to_writer(&mut page)?;
    Ok(page)
}

/// Returns a section for a part of the text after the options: a heading that ends
/// with a colon and lines that stay as they are, or a paragraph.
fn section(part: &str) -> Roff {
    let mut roff = Roff::new();
    match part.split_once(":\n") {
        Some((heading, lines)) if !heading.contains('\n') => {
            let heading = match heading {
                "Exit codes" => "EXIT STATUS".to_owned(),
                other => other.to_uppercase(),
            };
            roff.control("SH", [&heading[..]]).control("nf", []);
            for line in lines.lines() {
                roff.text([roman(line)]);
            }
            roff.control("fi", []);
        }
        _ => {
            roff.control("SH", ["NOTES"]);
            roff.text([roman(part)]);
        }
    }
    roff
}

fn see_also(program: &Program) -> Roff {
    let [first, second] = program.see_also;
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold(first), roman("(1), "), bold(second), roman("(1)")]);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heading_with_a_colon_keeps_its_lines() {
        let text = section("Exit codes:\n  0  success\n  1  failure").to_roff();
        assert_eq!(text, ".SH \"EXIT STATUS\"\n.nf\n  0  success\n  1  failure\n.fi\n");
        let text = section("Durations are long:\nor short.\nBoth").to_roff();
        assert!(text.starts_with(".SH \"DURATIONS ARE LONG\"\n"), "{text}");
        let text = section("A note\nin two lines: here").to_roff();
        assert_eq!(text, ".SH NOTES\nA note\nin two lines: here\n");
    }
}
