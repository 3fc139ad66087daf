//! Wrong arguments in one line. The full usage is one `--help` away; a script's log wants the reason.

use std::process::ExitCode;

use millstream_common::printable::printable;

use super::{exit::Exit, say};

/// Prints help or version as asked for, or one line about what is wrong with the arguments.
pub fn tell(error: &clap::Error, program: &str) -> ExitCode {
    if !error.use_stderr() {
        // A reader that has gone has seen enough of the help.
        let _ = error.print();
        return Exit::Done.into();
    }
    say(&one_line(&error.to_string(), program));
    Exit::Usage.into()
}

/// The reason and the tips out of clap's paragraphs, and where to read on.
fn one_line(text: &str, program: &str) -> String {
    let mut paragraphs = text.split("\n\n");
    let mut line = joined(paragraphs.next().unwrap_or_default());
    for tip in text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("tip:"))
    {
        line = format!("{line}; {tip}");
    }
    match text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Usage: "))
    {
        Some(usage) => format!("{line}; see \"{} --help\"", command_of(usage)),
        None => format!("{line}; see \"{program} --help\""),
    }
}

fn joined(paragraph: &str) -> String {
    let parts: Vec<_> = paragraph
        .lines()
        .map(|part| printable(part.trim()))
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(" ")
}

/// `millstream jobs list [OPTIONS] <ID>` is the command `millstream jobs list`.
fn command_of(usage: &str) -> String {
    let words = usage.split_whitespace().take_while(|word| {
        word.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
            && !word.starts_with('-')
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_wrong_option_is_one_line_with_the_tip() {
        let text = "error: unexpected argument '--paylod' found\n\n  tip: a similar argument exists: '--payload'\n\nUsage: millstream enqueue --payload <JSON> <KIND>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            one_line(text, "millstream"),
            "error: unexpected argument '--paylod' found; tip: a similar argument exists: '--payload'; see \"millstream enqueue --help\""
        );
    }

    #[test]
    fn a_missing_argument_is_named_on_the_same_line() {
        let text = "error: the following required arguments were not provided:\n  <KIND>\n\nUsage: millstream enqueue <KIND>\n";
        assert_eq!(
            one_line(text, "millstream"),
            "error: the following required arguments were not provided: <KIND>; see \"millstream enqueue --help\""
        );
    }
}
