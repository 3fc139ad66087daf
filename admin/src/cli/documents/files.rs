//! The files that paths on a command line stand for: a file itself, a folder the PDF files in it.
//!
//! A folder may hold anything: links that lead back, pipes that nobody writes to, files that nobody may read. Each of those
//! costs a line and nothing else; every folder and every file is taken once, whatever its names.

use std::{
    collections::BTreeSet,
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Folders in folders are read this deep.
const FOLDER_DEPTH_MAX: usize = 64;
/// Files of one call: a number that a person can have meant.
const FILES_MAX: usize = 100_000;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of their names.
    pub files: Vec<PathBuf>,
    /// What is passed over, with the reason; of those named by the caller and of those found in folders.
    pub passed_over: Vec<String>,
    /// Some path that the caller named itself yielded nothing.
    pub is_incomplete: bool,
    seen: BTreeSet<(u64, u64)>,
}

/// Looks at each path. Nothing is opened but folders.
pub fn files_of(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for path in paths {
        found.is_incomplete |= !found.named(path);
    }
    found
}

impl Found {
    /// A path of the caller's: its file is taken whatever its name ends in. False: it stands for nothing.
    fn named(&mut self, path: &Path) -> bool {
        let Some(about) = self.look(path) else {
            return false;
        };
        if !about.is_dir() {
            self.file(path, &about);
            return about.is_file();
        }
        let before = self.files.len();
        self.folder(path, &about, FOLDER_DEPTH_MAX);
        if self.files.len() == before {
            self.pass_over(path, "there is no PDF file in it");
        }
        self.files.len() > before
    }

    fn folder(&mut self, folder: &Path, about: &Metadata, depth: usize) {
        if !self.seen.insert((about.dev(), about.ino())) {
            return self.pass_over(folder, "a link to a folder that was read already");
        }
        let mut entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries
                .flatten()
                .map(|entry| entry.path())
                .collect::<Vec<_>>(),
            Err(error) => return self.pass_over(folder, &error.to_string()),
        };
        entries.sort();
        for path in entries {
            let is_pdf = path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("pdf"));
            // Other files are not meant; of them only the folders are of interest.
            let about = if is_pdf {
                self.look(&path)
            } else {
                std::fs::metadata(&path).ok().filter(Metadata::is_dir)
            };
            match about {
                Some(about) if about.is_dir() && depth == 0 => {
                    self.pass_over(&path, "too many folders in folders");
                }
                Some(about) if about.is_dir() => self.folder(&path, &about, depth - 1),
                Some(about) => self.file(&path, &about),
                None => {}
            }
        }
    }

    /// Only regular files have an end: a pipe waits for a writer, and a device may never stop.
    fn file(&mut self, path: &Path, about: &Metadata) {
        if !about.is_file() {
            self.pass_over(path, "not a regular file");
        } else if !self.seen.insert((about.dev(), about.ino())) {
            self.pass_over(path, "the same file under another name");
        } else if self.files.len() == FILES_MAX {
            self.pass_over(path, "too many files");
        } else {
            self.files.push(path.to_owned());
        }
    }

    /// What a path leads to.
    fn look(&mut self, path: &Path) -> Option<Metadata> {
        match std::fs::metadata(path) {
            Ok(about) => Some(about),
            Err(error) => {
                self.pass_over(path, &error.to_string());
                None
            }
        }
    }

    fn pass_over(&mut self, path: &Path, reason: &str) {
        self.passed_over
            .push(format!("{} is passed over: {reason}", path.display()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(found: &Found, folder: &Path) -> Vec<String> {
        found
            .files
            .iter()
            .map(|file| file.strip_prefix(folder).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn a_folder_stands_for_its_pdf_files_in_order() {
        // P1
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["z.pdf", "a.PDF", "b/c.pdf", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let found = files_of(&[folder.path().to_owned()]);
        assert_eq!(names(&found, folder.path()), ["a.PDF", "b/c.pdf", "z.pdf"]);
        assert!(found.passed_over.is_empty() && !found.is_incomplete);
        assert_eq!(files_of(&[folder.path().join("notes.txt")]).files.len(), 1);
    }

    #[test]
    fn x51_links_are_followed_once_and_what_is_no_file_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.pdf"), "x").unwrap();
        for (to, name) in [
            (".", "one"),
            (".", "two"),
            ("a.pdf", "link.pdf"),
            ("nowhere", "dangling.pdf"),
            ("/dev/zero", "zero.pdf"),
            ("loop.pdf", "loop.pdf"),
        ] {
            symlink(to, at(name)).unwrap();
        }
        let pipe = std::process::Command::new("mkfifo")
            .arg(at("pipe.pdf"))
            .status()
            .unwrap();
        assert!(pipe.success());
        let found = files_of(&[folder.path().to_owned()]);
        assert_eq!(names(&found, folder.path()), ["a.pdf"]);
        for name in [
            "one",
            "two",
            "link.pdf",
            "dangling.pdf",
            "zero.pdf",
            "loop.pdf",
            "pipe.pdf",
        ] {
            assert!(
                found
                    .passed_over
                    .iter()
                    .any(|line| line.contains(&format!("/{name} is passed over"))),
                "{name}: {found:?}"
            );
        }
        assert_eq!(
            found.passed_over.len(),
            7,
            "each is passed over once: {found:?}"
        );
        assert!(
            !found.is_incomplete,
            "the folder itself yielded what it has"
        );
    }

    #[test]
    fn x51_one_bad_path_costs_a_line_and_not_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("good.pdf"), "x").unwrap();
        std::fs::create_dir(at("empty")).unwrap();
        for bad in [at("none.pdf"), at("empty"), PathBuf::from("/dev/zero")] {
            let found = files_of(&[bad.clone(), at("good.pdf")]);
            assert_eq!(
                (
                    found.files.len(),
                    found.passed_over.len(),
                    found.is_incomplete
                ),
                (1, 1, true),
                "{}",
                bad.display()
            );
        }
    }
}
