//! Turns what poppler says about a file into an error for the file's owner, or into a remark on what is missing.

use super::super::error::{ToolError, clean, code};
use super::super::sandbox::Finished;

/// Poppler's exit code for a file whose permissions forbid what was asked.
const EXIT_FORBIDDEN: i32 = 3;

/// Complaints that explain nothing: one per broken reference, and what follows from there being no page.
const IN_PASSING: [&str; 2] = ["Failed to parse XRef entry", "Wrong page range given"];

/// Longest quoted complaint in characters; the first line says what matters.
const QUOTE_CHARS_MAX: usize = 300;

/// Complaints that cost no text: of the frame of the file, which poppler then mends, and of what is drawn beside text.
const NOT_OF_TEXT: [&str; 24] = [
    "XRef",
    "xref",
    "hint",
    "trailer",
    "Top-level pages",
    "endstream",
    "page range",
    "olor space",
    "pattern",
    "hading",
    "unction",
    "nnot",
    "orm field",
    "FormField",
    "FormWidget",
    "ignature",
    "ptional content",
    "blend mode",
    "soft mask",
    "JPEG",
    "JPX",
    "JBIG2",
    "mage",
    "estination",
];

/// Complaints of one page that are told; the first ones say what there is to say.
const TOLD_MAX: usize = 3;

/// What poppler says, though it ended well, of text that it could not read: whole lines, with the place in the file.
pub(super) fn of_lost_text(stderr: &str) -> impl Iterator<Item = &str> {
    let kinds = [
        "Syntax Error",
        "Internal Error",
        "Unimplemented Feature",
        "Config Error",
    ];
    let lines = stderr
        .lines()
        .map(str::trim)
        .filter(move |line| kinds.iter().any(|kind| line.starts_with(kind)));
    lines.filter(|line| !NOT_OF_TEXT.iter().any(|words| line.contains(words)))
}

/// These lines for people: each once, the first [`TOLD_MAX`].
pub(super) fn told<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for line in lines {
        let said = clean(
            &without_place(line)
                .chars()
                .take(QUOTE_CHARS_MAX)
                .collect::<String>(),
        );
        if told.len() < TOLD_MAX && !told.contains(&said) {
            told.push(said);
        }
    }
    told
}

/// `Syntax Error (123): …` is the same complaint at another byte.
fn without_place(line: &str) -> String {
    match line
        .split_once(" (")
        .and_then(|(kind, rest)| Some((kind, rest.split_once("): ")?)))
    {
        Some((kind, (place, words))) if place.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{kind}: {words}")
        }
        _ => line.to_owned(),
    }
}

/// `Ok` if poppler ended well, else why it refused the file.
pub(super) fn check(finished: &Finished) -> Result<(), ToolError> {
    match finished.exit_code {
        0 => Ok(()),
        EXIT_FORBIDDEN => Err(ToolError::document(
            code::COPY_FORBIDDEN,
            "the file's permissions forbid taking text and images out of it (it needs the owner's password)",
        )),
        _ if finished.stderr.contains("Incorrect password") => Err(ToolError::document(
            code::ENCRYPTED,
            "the file is encrypted (needs a password)",
        )),
        _ if finished.stderr.contains("I/O Error") => Err(ToolError::transient(&format!(
            "poppler could not read or write: {}",
            quote(&finished.stderr)
        ))),
        _ => Err(damaged(&finished.stderr)),
    }
}

/// The error of a file that poppler opens but cannot make sense of.
pub(super) fn damaged(stderr: &str) -> ToolError {
    ToolError::document(
        code::DAMAGED,
        &format!("damaged: poppler says {}", quote(stderr)),
    )
}

/// The complaint that explains most: the last one that is not about a single cross reference, since poppler goes on
/// as long as it can and the last complaint is about what it could not do without.
fn quote(stderr: &str) -> String {
    let line = stderr
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| line.contains("Error") && !IN_PASSING.iter().any(|words| line.contains(words)))
        .unwrap_or("no page was found");
    format!(
        "“{}”",
        line.chars().take(QUOTE_CHARS_MAX).collect::<String>()
    )
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    fn finished(exit_code: i32, stderr: &str) -> Finished {
        Finished {
            exit_code,
            stdout: Vec::new(),
            stderr: stderr.to_owned(),
        }
    }

    // P4
    #[test]
    fn the_reasons_of_poppler_are_told_apart() {
        let code_of = |exit, stderr| {
            check(&finished(exit, stderr))
                .expect_err("not 0")
                .document_code()
        };
        assert_eq!(
            code_of(1, "Command Line Error: Incorrect password\n"),
            Some(code::ENCRYPTED)
        );
        assert_eq!(
            code_of(3, "Copying of text from this document is not allowed.\n"),
            Some(code::COPY_FORBIDDEN)
        );
        assert_eq!(
            code_of(1, "Syntax Error: Couldn't read xref table\n"),
            Some(code::DAMAGED)
        );
        assert_eq!(code_of(1, "I/O Error: Couldn't open file\n"), None);
    }

    // X42
    #[test]
    fn complaints_that_cost_text_are_told_once_and_all_others_are_not() {
        let stderr = "Syntax Warning: Mismatch between font type and embedded font file\nSyntax Error: Failed to parse XRef entry [7].\n\
            Syntax Error: Missing language pack for 'Adobe-Japan1' mapping\nSyntax Error (12): Unknown operator 'x'\n\
            Syntax Error (99): Unknown operator 'x'\nSyntax Error: Bad color space\nnothing\n";
        let told_once = told(of_lost_text(stderr));
        assert_eq!(
            told_once,
            [
                "Syntax Error: Missing language pack for 'Adobe-Japan1' mapping",
                "Syntax Error: Unknown operator 'x'"
            ]
        );
        let many = (0..9)
            .map(|n| format!("Syntax Error: Unknown font tag 'F{n}'"))
            .collect::<Vec<_>>()
            .join("\n");
        assert_eq!(told(of_lost_text(&many)).len(), TOLD_MAX);
    }

    // P4
    #[test]
    fn the_last_complaint_that_matters_is_quoted() {
        let stderr = "Syntax Error: Top-level pages object is wrong type (null)\nSyntax Error: Failed to parse XRef entry [7].\n";
        let error = damaged(stderr).to_string();
        assert_eq!(
            error,
            "damaged: poppler says “Syntax Error: Top-level pages object is wrong type (null)”"
        );
    }
}
