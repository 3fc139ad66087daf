//! The files of `millstream dev`: for this user alone, and named in every error.
//!
//! Uploads and logs may hold what nobody else on the machine shall read. The private servers run under another account where root starts them,
//! so the folder above them can be passed through; what lies in the others cannot.

use std::{
    fs::{DirBuilder, Permissions, set_permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{fs::Mode, process::umask};

use super::super::CommandError;

/// For the owner alone.
const PRIVATE: u32 = 0o700;
/// Others may pass through and see nothing.
const PASSAGE: u32 = 0o711;

/// From here on what this process and its workers write is for this user alone.
pub(super) fn keep_private() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// The folder of everything: made where it is absent, left as it is where somebody made it.
pub(super) fn data_dir(dir: &Path) -> Result<PathBuf, CommandError> {
    DirBuilder::new()
        .recursive(true)
        .mode(PASSAGE)
        .create(dir)
        .map_err(|e| failed("make", dir, &e))?;
    dir.canonicalize().map_err(|e| failed("find", dir, &e))
}

/// A folder that only this user can enter, also one of an earlier run.
pub(super) fn private_dir(dir: PathBuf) -> Result<PathBuf, CommandError> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(&dir)
        .map_err(|e| failed("make", &dir, &e))?;
    set_permissions(&dir, Permissions::from_mode(PRIVATE))
        .map_err(|e| failed("close", &dir, &e))?;
    Ok(dir)
}

/// What was to be done with which file, and why it was not.
pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> CommandError {
    CommandError::failed(format!(
        "cannot {what} {}: {error}; --data-dir names another folder",
        path.display()
    ))
}
