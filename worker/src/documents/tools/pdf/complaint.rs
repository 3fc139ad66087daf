//! Turns what poppler says about a file into an error for the file's owner.

use super::super::error::{ToolError, code};
use super::super::sandbox::Finished;

/// Poppler's exit code for a file whose permissions forbid what was asked.
const EXIT_FORBIDDEN: i32 = 3;

/// Complaints that explain nothing: one per broken reference, and what follows from there being no page.
const IN_PASSING: [&str; 2] = ["Failed to parse XRef entry", "Wrong page range given"];

/// Longest quoted complaint in characters; the first line says what matters.
const QUOTE_CHARS_MAX: usize = 300;

/// `Ok` if poppler ended well, else why it refused the file.
pub(super) fn check(finished: &Finished) -> Result<(), ToolError> {
    match finished.exit_code {
        0 => Ok(()),
        EXIT_FORBIDDEN => Err(ToolError::document(
            code::COPY_FORBIDDEN,
            "the file's permissions forbid taking text and images out of it (it needs the owner's password)",
        )),
        _ if finished.stderr.contains("Incorrect password") => {
            Err(ToolError::document(code::ENCRYPTED, "the file is encrypted (needs a password)"))
        }
        _ if finished.stderr.contains("I/O Error") => {
            Err(ToolError::transient(&format!("poppler could not read or write: {}", quote(&finished.stderr))))
        }
        _ => Err(damaged(&finished.stderr)),
    }
}

/// The error of a file that poppler opens but cannot make sense of.
pub(super) fn damaged(stderr: &str) -> ToolError {
    ToolError::document(code::DAMAGED, &format!("damaged: poppler says {}", quote(stderr)))
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
    format!("“{}”", line.chars().take(QUOTE_CHARS_MAX).collect::<String>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn finished(exit_code: i32, stderr: &str) -> Finished {
        Finished { exit_code, stdout: Vec::new(), stderr: stderr.to_owned() }
    }

    // P4
    #[test]
    fn the_reasons_of_poppler_are_told_apart() {
        let code_of = |exit, stderr| check(&finished(exit, stderr)).expect_err("not 0").document_code();
        assert_eq!(code_of(1, "Command Line Error: Incorrect password\n"), Some(code::ENCRYPTED));
        assert_eq!(code_of(3, "Copying of text from this document is not allowed.\n"), Some(code::COPY_FORBIDDEN));
        assert_eq!(code_of(1, "Syntax Error: Couldn't read xref table\n"), Some(code::DAMAGED));
        assert_eq!(code_of(1, "I/O Error: Couldn't open file\n"), None);
    }

    // P4
    #[test]
    fn the_last_complaint_that_matters_is_quoted() {
        let stderr = "Syntax Error: Top-level pages object is wrong type (null)\nSyntax Error: Failed to parse XRef entry [7].\n";
        let error = damaged(stderr).to_string();
        assert_eq!(error, "damaged: poppler says “Syntax Error: Top-level pages object is wrong type (null)”");
    }
}
