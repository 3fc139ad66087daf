//! Whether a file can be read as a PDF at all, and its facts.
//!
//! It decides nothing by the file's name: only the bytes count.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use tokio::io::AsyncReadExt;

use super::super::error::{ToolError, clean, code};
use super::super::sandbox::{Limits, Sandbox, absolute};
use super::super::tool::Tool;
use super::complaint;

/// Most pages of a document: a book has 500 and a large catalogue 2,000. Above it one document would be tens of
/// thousands of jobs.
pub const PAGES_MAX: u32 = 5_000;

/// Largest file in bytes. Poppler reads in place, so this bounds disk and transfer, not memory.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Readers look for the header in the first KiB, because mail programs put lines before it.
const HEADER_WINDOW_BYTES: u64 = 1024;

/// The facts of a readable PDF. Texts are cleaned and bounded, and empty fields are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PdfInfo {
    /// Number of pages, from 1 to [`PAGES_MAX`].
    pub pages: u32,
    /// The content is encrypted; it was readable nevertheless, because the user password is empty.
    pub encrypted: bool,
    /// Title by the author's word.
    pub title: Option<String>,
    /// Author by the author's word.
    pub author: Option<String>,
    /// The program that made the file.
    pub producer: Option<String>,
    /// Version of the format, such as `1.7`.
    pub pdf_version: Option<String>,
    /// Size of the file.
    pub bytes: u64,
    /// An XFA form: a program in the file makes its content when Adobe's reader opens it, and its pages need not have it.
    pub is_xfa: bool,
    /// What poppler says of text that it could not read before it has looked at any page: of the file as a whole. Each line once, as it is.
    pub complaints: BTreeSet<String>,
}

/// The facts of the file at `path`, or the clear reason why it cannot be read.
pub async fn inspect(sandbox: &Sandbox, path: &Path) -> Result<PdfInfo, ToolError> {
    let bytes = check_file(path).await?;
    let arguments = ["-enc".into(), "UTF-8".into(), absolute(path)?];
    let finished = sandbox
        .run(Tool::PdfInfo, &arguments, &Limits::INSPECT)
        .await?;
    complaint::check(&finished)?;
    let report = String::from_utf8_lossy(&finished.stdout);
    let mut info = parse(&report, bytes);
    info.complaints = complaint::of_lost_text(&finished.stderr)
        .map(str::to_owned)
        .collect();
    if info.pages == 0
        || last_field(&report, "Page size").is_some_and(|size| size.starts_with("0 x 0"))
    {
        // Poppler counts the pages of a linearised file by its first object, though it may find none of them.
        return Err(complaint::damaged(&finished.stderr));
    }
    if info.pages > PAGES_MAX {
        let message = format!(
            "the file has {} pages, the limit is {PAGES_MAX}",
            info.pages
        );
        return Err(ToolError::document(code::TOO_MANY_PAGES, &message));
    }
    Ok(info)
}

/// The size of a file that looks like a PDF from outside.
async fn check_file(path: &Path) -> Result<u64, ToolError> {
    let unreadable = |source| ToolError::io("the file could not be opened", &source);
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let bytes = file.metadata().await.map_err(unreadable)?.len();
    if bytes == 0 {
        return Err(ToolError::document(code::EMPTY_FILE, "the file is empty"));
    }
    if bytes > FILE_BYTES_MAX {
        let mib = 1024 * 1024;
        let message = format!(
            "the file has {} MiB, the limit is {}",
            bytes / mib,
            FILE_BYTES_MAX / mib
        );
        return Err(ToolError::document(code::FILE_TOO_LARGE, &message));
    }
    let mut start = Vec::new();
    file.take(HEADER_WINDOW_BYTES)
        .read_to_end(&mut start)
        .await
        .map_err(unreadable)?;
    if start.windows(5).any(|window| window == b"%PDF-") {
        Ok(bytes)
    } else {
        Err(ToolError::document(
            code::NOT_A_PDF,
            "not a PDF (the file does not begin with %PDF-)",
        ))
    }
}

fn parse(report: &str, bytes: u64) -> PdfInfo {
    let text = |name| {
        first_field(report, name)
            .map(clean)
            .filter(|value| !value.is_empty())
    };
    PdfInfo {
        pages: last_field(report, "Pages")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0),
        encrypted: last_field(report, "Encrypted").is_some_and(|value| value.starts_with("yes")),
        title: text("Title"),
        author: text("Author"),
        producer: text("Producer"),
        pdf_version: text("PDF version"),
        bytes,
        is_xfa: last_field(report, "Form") == Some("XFA"),
        complaints: BTreeSet::new(),
    }
}

/// `pdfinfo` prints the author's words first and unescaped: a title can hold a line `Pages: 1`. So the author's words
/// are the first of their name and the facts are the last of theirs.
fn first_field<'a>(report: &'a str, name: &str) -> Option<&'a str> {
    report.lines().find_map(|line| field(line, name))
}

fn last_field<'a>(report: &'a str, name: &str) -> Option<&'a str> {
    report.lines().rev().find_map(|line| field(line, name))
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?.strip_prefix(':').map(str::trim)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::super::samples::{self, Scratch};
    use super::*;

    async fn refused(bytes: &[u8]) -> ToolError {
        let scratch = Scratch::new();
        inspect(&scratch.sandbox, &scratch.file("file.pdf", bytes))
            .await
            .expect_err("it is no readable PDF")
    }

    // P2
    #[tokio::test]
    async fn a_readable_file_has_its_facts() {
        let scratch = Scratch::new();
        let file = scratch.file("file.pdf", &samples::text_pages(&[&["one"], &["two"]]));
        let info = inspect(&scratch.sandbox, &file).await.unwrap();
        assert_eq!(
            (info.pages, info.encrypted, info.title.as_deref()),
            (2, false, Some("A sample"))
        );
    }

    // P4
    #[tokio::test]
    async fn a_file_name_is_never_an_option_and_never_shell() {
        let scratch = Scratch::new();
        for name in ["-v", "--help", "a b.pdf", "it's \"$(id)\".pdf", "é\n.pdf"] {
            let file = scratch.file(name, &samples::text_pages(&[&["one"]]));
            assert_eq!(
                inspect(&scratch.sandbox, &file)
                    .await
                    .map(|info| info.pages),
                Ok(1),
                "{name}"
            );
        }
    }

    // P4
    #[tokio::test]
    async fn empty_foreign_and_damaged_files_are_told_apart() {
        assert_eq!(refused(b"").await.to_string(), "the file is empty");
        assert_eq!(
            refused(b"\x89PNG\r\n").await.document_code(),
            Some(code::NOT_A_PDF)
        );
        let whole = samples::text_pages(&[&["one"]]);
        let error = refused(&whole[..60]).await;
        assert!(
            error
                .to_string()
                .starts_with("damaged: poppler says “Syntax Error"),
            "{error}"
        );
    }

    // P4
    #[tokio::test]
    async fn an_encrypted_file_is_named_as_encrypted() {
        let error = refused(&samples::locked()).await;
        assert_eq!(
            error.to_string(),
            "the file is encrypted (needs a password)"
        );
    }

    // P4
    #[tokio::test]
    async fn a_file_with_too_many_pages_is_refused_with_both_numbers() {
        let error = refused(&samples::empty_pages(PAGES_MAX + 1)).await;
        assert_eq!(
            error.to_string(),
            "the file has 5001 pages, the limit is 5000"
        );
    }

    // P4
    #[tokio::test]
    async fn a_page_tree_that_bites_its_tail_ends() {
        let error = refused(&samples::looped_page_tree()).await;
        assert!(error.document_code().is_some(), "{error}");
    }

    // P4
    #[test]
    fn a_title_cannot_forge_the_number_of_pages() {
        let report =
            "Title:  x\nPages: 1\nEncrypted: no\nPages:   7000\nEncrypted: yes (print:yes)\n";
        let info = parse(report, 1);
        assert_eq!((info.pages, info.encrypted), (7000, true));
    }
}
