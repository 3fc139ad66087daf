//! The programs that the document tools start, and where they are.
//!
//! It does not read the environment: whoever makes the [`super::Sandbox`] hands it the search path.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::error::ToolError;

/// A program that the pipeline needs on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Poppler's `pdfinfo`.
    PdfInfo,
    /// Poppler's `pdftotext`.
    PdfToText,
    /// Poppler's `pdffonts`.
    PdfFonts,
    /// Poppler's `pdfimages`.
    PdfImages,
    /// Poppler's `pdftoppm`.
    PdfToPpm,
    /// Tesseract OCR.
    Tesseract,
}

impl Tool {
    /// All of them, for a health check.
    pub const ALL: [Self; 6] = [
        Self::PdfInfo,
        Self::PdfToText,
        Self::PdfFonts,
        Self::PdfImages,
        Self::PdfToPpm,
        Self::Tesseract,
    ];

    /// The name of the program's file.
    pub fn name(self) -> &'static str {
        match self {
            Self::PdfInfo => "pdfinfo",
            Self::PdfToText => "pdftotext",
            Self::PdfFonts => "pdffonts",
            Self::PdfImages => "pdfimages",
            Self::PdfToPpm => "pdftoppm",
            Self::Tesseract => "tesseract",
        }
    }

    /// What an operator does if the program is absent.
    pub fn install_hint(self) -> &'static str {
        match self {
            Self::PdfInfo | Self::PdfToText | Self::PdfFonts | Self::PdfImages | Self::PdfToPpm => {
                "install poppler (Debian, Ubuntu: apt-get install poppler-utils; macOS: brew install poppler)"
            }
            Self::Tesseract => {
                "install Tesseract (Debian, Ubuntu: apt-get install tesseract-ocr; macOS: brew install tesseract)"
            }
        }
    }

    /// The program's absolute path in `search_path` (as in `PATH`). Relative folders are passed over, because what
    /// they mean depends on where the worker was started.
    pub fn find_in(self, search_path: &OsStr) -> Result<PathBuf, ToolError> {
        std::env::split_paths(search_path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(self.name()))
            .find(|file| file.is_file())
            .ok_or_else(|| self.missing())
    }

    /// The error of an absent program.
    pub fn missing(self) -> ToolError {
        ToolError::Missing {
            tool: self.name().to_owned(),
            hint: self.install_hint().to_owned(),
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    // P4
    #[test]
    fn an_absent_tool_is_named_with_what_to_install() {
        let error = Tool::PdfInfo
            .find_in(OsStr::new("/nowhere:bin:"))
            .expect_err("there is no such folder");
        assert!(
            error
                .to_string()
                .contains("pdfinfo is not installed: install poppler"),
            "{error}"
        );
    }
}
