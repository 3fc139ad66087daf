//! Whether the fonts of a page say which letters their glyphs are (`pdffonts`).
//!
//! A font whose glyphs are only numbered, without a table of letters, shows a text that nobody can copy: poppler takes the
//! numbers for letters, and what comes out looks like a cipher.

use std::path::Path;

use super::super::error::ToolError;
use super::super::sandbox::{Limits, Sandbox, absolute};
use super::super::tool::Tool;
use super::complaint;

/// Whether any font of the pages from `first` to `last` has numbered glyphs and no table of letters.
pub(super) async fn lack_letters(
    sandbox: &Sandbox,
    path: &Path,
    first: u32,
    last: u32,
) -> Result<bool, ToolError> {
    let arguments = [
        "-f".into(),
        first.to_string().into(),
        "-l".into(),
        last.to_string().into(),
        absolute(path)?,
    ];
    let run = sandbox
        .run(Tool::PdfFonts, &arguments, &Limits::INSPECT)
        .await;
    let finished = match run.and_then(|finished| complaint::check(&finished).map(|()| finished)) {
        Ok(finished) => finished,
        // The text is there all the same: a file must not fail because it cannot be doubted.
        Err(ToolError::Document { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(String::from_utf8_lossy(&finished.stdout)
        .lines()
        .any(lacks_letters))
}

/// `name  type  encoding  emb sub uni  object ID`; a name can hold spaces, so the three answers are looked for from the end.
fn lacks_letters(line: &str) -> bool {
    let fields = line.split_whitespace().collect::<Vec<_>>();
    let is_answer = |field: &&str| matches!(*field, "yes" | "no");
    let Some(at) = fields
        .windows(3)
        .rposition(|three| three.iter().all(is_answer))
    else {
        return false;
    };
    let (before, answers) = fields.split_at(at);
    // One that is not in the file is of a collection whose tables poppler has, or says that it has not.
    let is_embedded = answers[0] == "yes";
    let is_numbered = before
        .last()
        .is_some_and(|encoding| encoding.starts_with("Identity"))
        && before.contains(&"CID");
    is_embedded && is_numbered && answers[2] == "no"
}

#[cfg(test)]
mod tests {
    use super::*;

    // X47
    #[test]
    fn a_font_of_numbered_glyphs_needs_a_table_of_letters() {
        assert!(lacks_letters(
            "AAAAAA+DejaVuSans                    CID TrueType      Identity-H       yes yes no       5  0"
        ));
        assert!(lacks_letters(
            "a yes no yes font                    CID Type 0C       Identity-V       yes yes no  [none]"
        ));
        for fine in [
            "AAAAAA+DejaVuSans                    CID TrueType      Identity-H       yes yes yes      5  0",
            "Helvetica                            Type 1            WinAnsi          no  no  no       5  0",
            "Sample                               CID Type 0        Identity-H       no  no  no       6  0",
            "Japanese                             CID Type 0        90ms-RKSJ-H      no  no  no       5  0",
            "name                                 type              encoding         emb sub uni object ID",
            "------------------------------------ ----------------- ---------------- --- --- --- ---------",
            "",
        ] {
            assert!(!lacks_letters(fine), "{fine}");
        }
    }
}
