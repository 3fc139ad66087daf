//! Five PDF files that the project makes itself, for `millstream dev` without `--input`: nothing has to be downloaded, and
//! nobody's documents are needed to see the pipeline work.
//!
//! Invariants: the same bytes in every run (no clock, no randomness), so a second demo meets the first one's content
//! hashes; text and pictures are of our own making; exactly one file, [`DAMAGED`], cannot be read.
//!
//! It does not know the pipeline: it writes files. Reading order: the documents, then `pdf`, then what it draws with.

mod article;
mod catalogue;
mod gallery;
mod letter;
mod metrics;
mod palette;
mod pdf;
mod raster;
mod strokes;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The file that shows how the pipeline reports what it cannot read.
pub const DAMAGED: &str = "damaged.pdf";

/// Writes the samples into a directory, which is created when absent; returns their paths in the order of their names.
pub fn write_to(dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    all().into_iter().map(|(name, bytes)| write(dir.join(name), &bytes)).collect()
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<PathBuf> {
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Names and contents.
fn all() -> [(&'static str, Vec<u8>); 5] {
    [
        ("article.pdf", article::document()),
        ("catalogue.pdf", catalogue::document()),
        (DAMAGED, cut_short(article::document())),
        ("gallery.pdf", gallery::document()),
        ("letter.pdf", letter::document()),
    ]
}

/// As an upload that broke off: the header and some pages are there, the catalog and the table of objects, which come last,
/// are not, so that no reader can put it together again.
fn cut_short(mut document: Vec<u8>) -> Vec<u8> {
    document.truncate(document.len() * 2 / 3);
    document
}

#[cfg(test)]
mod tests;
