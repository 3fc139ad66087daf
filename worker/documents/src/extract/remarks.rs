//! Remarks on what the file's own text lacks.

use crate::tools::{Note, PageText, note::code, pdf::PdfInfo};

/// Adobe's programs write this into the one page of a form that only they can show.
const PLACEHOLDER: &str = "If this message is not eventually replaced";

/// What poppler said of text on this page that it could not read; `None`: in the file, before it had looked at any page.
pub(super) fn of_lost_text(page: Option<u32>, complaints: &[String]) -> Option<Note> {
    let first = complaints.first()?;
    let said = complaints.join("”, “");
    let lacks_tables =
        |complaint: &String| complaint.contains("language pack") || complaint.contains("CMap file");
    let note = |code, message: &str| Note {
        page,
        ..Note::document(code, message)
    };
    Some(if complaints.iter().any(lacks_tables) {
        let message = format!(
            "some of its text is not read: poppler says “{said}” (Debian, Ubuntu: apt-get install poppler-data)"
        );
        note(code::LANGUAGE_DATA_MISSING, &message)
    } else {
        let said = if complaints.len() == 1 { first } else { &said };
        note(
            code::TEXT_LOST,
            &format!("some of its text may be missing: poppler says “{said}”"),
        )
    })
}

/// That the file is a form whose content need not be in its pages.
pub(super) fn of_form(info: &PdfInfo, pages: &[PageText]) -> Option<Note> {
    let is_placeholder = pages.iter().any(|page| page.text.contains(PLACEHOLDER));
    let message = if is_placeholder {
        "it is an XFA form: Adobe's reader makes its content when it opens the file, and its pages hold only the request to wait"
    } else {
        "it is an XFA form: what Adobe's reader adds when it opens the file is not in its pages, and is not read"
    };
    info.is_xfa.then(|| Note::document(code::XFA_FORM, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    // X42
    #[test]
    fn missing_tables_are_named_with_what_to_install() {
        assert_eq!(of_lost_text(Some(3), &[]), None);
        let note = of_lost_text(
            Some(3),
            &["Syntax Error: Missing language pack for 'Adobe-Japan1' mapping".to_owned()],
        );
        let note = note
            .filter(|note| note.code == code::LANGUAGE_DATA_MISSING && note.page == Some(3))
            .map(|note| note.message);
        assert!(note.is_some_and(
            |message| message.contains("'Adobe-Japan1'") && message.contains("poppler-data")
        ));
        let note = of_lost_text(
            Some(3),
            &[
                "Syntax Error: No font in show".to_owned(),
                "more".to_owned(),
            ],
        );
        let message =
            "some of its text may be missing: poppler says “Syntax Error: No font in show”, “more”";
        assert_eq!(note, Some(Note::page(3, code::TEXT_LOST, message)));
        let note = of_lost_text(
            None,
            &["Syntax Error: Dictionary key must be a name object".to_owned()],
        );
        assert!(note.is_some_and(|note| note.page.is_none() && note.code == code::TEXT_LOST));
    }
}
