//! Five PDF files for `millstream dev --samples`: nothing has to be downloaded, and nobody's documents are needed to see the
//! pipeline work. What is in them, and how they were made, stands beside them in `admin/samples`.
//!
//! It does not know the pipeline: it writes files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The file that shows how the pipeline reports what it cannot read.
pub const DAMAGED: &str = "damaged.pdf";

/// Names and contents, in the order of the names.
const ALL: [(&str, &[u8]); 5] = [
    ("article.pdf", include_bytes!("../samples/article.pdf")),
    ("catalogue.pdf", include_bytes!("../samples/catalogue.pdf")),
    (DAMAGED, include_bytes!("../samples/damaged.pdf")),
    ("gallery.pdf", include_bytes!("../samples/gallery.pdf")),
    ("letter.pdf", include_bytes!("../samples/letter.pdf")),
];

/// Writes the samples into a directory, which is created when absent; returns their paths in the order of their names.
///
/// # Errors
/// If the directory or a file cannot be made.
pub fn write_to(dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))?;
    let write = |(name, bytes): &(&str, &[u8])| {
        let path = dir.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    ALL.iter().map(write).collect()
}
