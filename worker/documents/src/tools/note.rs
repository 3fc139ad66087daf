//! Remarks on a document: what a page or picture did not yield, and why (N6).
//!
//! A note stands at one place of the document, and its code is there once: a repeated run writes the same notes again. Their number is
//! bounded, since a file can give a reason for one at each of its pictures.
//!
//! What it does not know: where notes are kept, who reads them.

use super::error::{ToolError, clean};

/// Notes of one job; a document of 1,000 pages may have one for each. What comes after them is counted.
pub const NOTES_MAX: usize = 1_000;

/// The values of [`Note::code`]. The database adds `image_failed`, `embed_failed`, `classification_failed`, `metadata_failed` and
/// `products_failed`, for the jobs that ended so.
pub mod code {
    /// A picture was not taken out of the file and is missed.
    pub const IMAGE_LEFT_OUT: &str = "image_left_out";
    /// Pictures of the page that show nothing were passed over.
    pub const IMAGES_TOO_SMALL: &str = "images_too_small";
    /// The job for a picture failed; written by the database.
    pub const IMAGE_FAILED: &str = "image_failed";
    /// A picture is stored with fewer pixels than the file has.
    pub const IMAGE_REDUCED: &str = "image_reduced";
    /// A page that looks like a scan could not be drawn; its pictures are read one by one.
    pub const PAGE_NOT_DRAWN: &str = "page_not_drawn";
    /// The page was scanned so coarsely that its small print may be misread.
    pub const OCR_LOW_RESOLUTION: &str = "ocr_low_resolution";
    /// OCR met a limit, or does not take the picture: it is kept, its text was not read.
    pub const OCR_GAVE_UP: &str = "ocr_gave_up";
    /// OCR has read something, but is too unsure of it for the text to be used.
    pub const OCR_UNSURE: &str = "ocr_unsure";
    /// Poppler could not read some of the page's text, because tables for its script are not installed.
    pub const LANGUAGE_DATA_MISSING: &str = "language_data_missing";
    /// Poppler could not read some of the page's text.
    pub const TEXT_LOST: &str = "text_lost";
    /// The text in the file is not that which the page shows; OCR of the page is used.
    pub const TEXT_UNREADABLE: &str = "text_unreadable";
    /// The text looks like none, and OCR could not tell.
    pub const TEXT_DOUBTFUL: &str = "text_doubtful";
    /// The page shows something, but no text was found in it.
    pub const NO_TEXT: &str = "no_text";
    /// The file is an XFA form, whose content need not be in its pages.
    pub const XFA_FORM: &str = "xfa_form";
    /// There are more notes than are kept.
    pub const MORE: &str = "more_notes";

    /// Those after which a picture, or the text in it, is missing from the document.
    pub const PICTURE_LEFT_OUT: [&str; 3] = [IMAGE_LEFT_OUT, IMAGE_FAILED, OCR_GAVE_UP];
}

/// One remark on a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// From 1; `None`: the document as a whole.
    pub page: Option<u32>,
    /// Of the picture on its page, from 0.
    pub position: Option<u32>,
    /// One of [`code`]: stable, for counting and for programs.
    pub code: &'static str,
    /// For people: bounded, without control characters.
    pub message: String,
}

impl Note {
    /// On the document as a whole.
    pub fn document(code: &'static str, message: &str) -> Self {
        Self {
            page: None,
            position: None,
            code,
            message: clean(message),
        }
    }

    /// On one page.
    pub fn page(page: u32, code: &'static str, message: &str) -> Self {
        Self {
            page: Some(page),
            ..Self::document(code, message)
        }
    }

    /// On one picture.
    pub fn picture(page: u32, position: u32, code: &'static str, message: &str) -> Self {
        Self {
            position: Some(position),
            ..Self::page(page, code, message)
        }
    }

    /// On one picture, with the words of the tool that gave up on it.
    pub fn refused(page: u32, position: u32, code: &'static str, error: &ToolError) -> Self {
        Self::picture(page, position, code, &error.to_string())
    }
}

/// The notes of one job, at most [`NOTES_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    kept: Vec<Note>,
    left_out: usize,
}

impl Notes {
    /// Keeps the note if there is room.
    pub fn add(&mut self, note: Note) {
        if self.kept.len() < NOTES_MAX {
            self.kept.push(note);
        } else {
            self.left_out += 1;
        }
    }

    /// All that are kept, and one that says how many are not.
    pub fn finish(mut self) -> Vec<Note> {
        if self.left_out > 0 {
            self.kept.push(Note::document(
                code::MORE,
                &format!("{} more notes are not kept", self.left_out),
            ));
        }
        self.kept
    }
}

impl Extend<Note> for Notes {
    fn extend<T: IntoIterator<Item = Note>>(&mut self, notes: T) {
        notes.into_iter().for_each(|note| self.add(note));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // N6
    #[test]
    fn notes_are_bounded_and_those_left_out_are_counted() {
        let mut notes = Notes::default();
        notes.extend(
            (0..NOTES_MAX as u32 + 3)
                .map(|position| Note::picture(1, position, code::IMAGE_LEFT_OUT, "too\nlarge")),
        );
        let kept = notes.finish();
        assert_eq!(kept.len(), NOTES_MAX + 1);
        assert_eq!(kept[0].message, "too large");
        assert_eq!(
            kept[NOTES_MAX],
            Note::document(code::MORE, "3 more notes are not kept")
        );
    }
}
