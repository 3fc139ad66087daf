//! The files of the repository, and how a law tells what breaks it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// What holds no source: build results, history (a file in a second work tree), data of private servers.
const SKIPPED: [&str; 4] = ["target", ".git", ".millstream", "node_modules"];

/// A file with its path from the root of the repository, with `/` on every system.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The line (from 1) of a byte offset.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.text[..offset].bytes().filter(|b| *b == b'\n').count() + 1
    }

    pub(crate) fn is(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|e| e == extension)
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// Every text file, in the order of the paths.
pub(crate) fn sources() -> Result<Vec<Source>> {
    let mut found = Vec::new();
    collect(&root(), "", &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    ensure!(
        found.len() > 100,
        "only {} files found: the search looks in the wrong place",
        found.len()
    );
    Ok(found)
}

/// Every text file with this extension.
pub(crate) fn sources_with(extension: &str) -> Result<Vec<Source>> {
    Ok(sources()?
        .into_iter()
        .filter(|source| source.is(extension))
        .collect())
}

fn collect(folder: &Path, prefix: &str, found: &mut Vec<Source>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{path}/"), found)?;
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            // What is no UTF-8 is a picture or a font, and no law is about those.
            found.push(Source { path, text });
        }
    }
    Ok(())
}

/// Fails with all that breaks a law, one per line, so that it can be mended in one go.
pub(crate) fn none(law: &str, broken: &[String]) -> Result<()> {
    ensure!(broken.is_empty(), "{law}:\n  {}", broken.join("\n  "));
    Ok(())
}
