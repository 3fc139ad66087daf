//! The folder of one job: what it fetches and what its tools write, gone when the job ends or is dropped.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    objects::{Objects, ObjectsError},
    outcome::Failure,
};

/// Begins the names of our folders; nobody else's are ever swept.
const PREFIX: &str = "millstream-document-";

/// A folder of this age belongs to a process that was killed: a job takes 15 minutes at most.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);

/// A folder that dies with this value.
pub(super) struct Workspace(TempDir);

impl Workspace {
    /// An empty folder in `work_dir`.
    pub(super) fn create(work_dir: &Path) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(work_dir);
        dir.map(Self).map_err(|e| Failure::retry(format!("a temporary folder could not be made: {e}")))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Copies an object into the folder.
    pub(super) async fn fetch(&self, objects: &Objects, key: &str, name: &str) -> Result<PathBuf, ObjectsError> {
        let path = self.path().join(name);
        objects.fetch(key, &path).await?;
        Ok(path)
    }

    /// A folder in the folder.
    pub(super) fn subfolder(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path().join(name);
        std::fs::create_dir(&path).map_err(|e| Failure::retry(format!("a temporary folder could not be made: {e}")))?;
        Ok(path)
    }
}

/// Removes what killed processes left in `work_dir`. Best effort: what cannot be removed costs disk space, not work.
pub(super) fn sweep(work_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(work_dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let age = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age > ABANDONED_AFTER)
            && let Err(e) = std::fs::remove_dir_all(entry.path())
        {
            tracing::debug!(error = %e, "an abandoned temporary folder could not be removed");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    // F10: a handler may be dropped at any await
    #[test]
    fn the_folder_goes_with_the_job() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::create(root.path()).unwrap();
        std::fs::write(workspace.subfolder("images").unwrap().join("a.png"), b"x").unwrap();
        drop(workspace);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_old_folders_of_ours_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str, age: Duration| {
            let path = root.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let now = std::fs::metadata(&path).unwrap().modified().unwrap();
            std::fs::File::open(&path).unwrap().set_modified(now - age).unwrap();
        };
        make("millstream-document-old", ABANDONED_AFTER * 2);
        make("millstream-document-new", Duration::ZERO);
        make("somebody-else", ABANDONED_AFTER * 2);
        sweep(root.path());
        let mut left: Vec<_> = std::fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["millstream-document-new", "somebody-else"]);
    }
}
