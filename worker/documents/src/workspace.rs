//! The folder of one job: what it fetches and what its tools write, gone when the job ends or is dropped, and at the next start of
//! any worker if its process was killed.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use millstream_outbound::objects::Objects;
use millstream_worker::Failure;
use tempfile::TempDir;

use super::{failure::of_objects, tools::ToolError};

/// Begins the names of the folders of jobs.
const PREFIX: &str = "millstream-document-";

/// Begins the names of the folders of processes; nobody else's are ever swept.
const HOME_PREFIX: &str = "millstream-process-";
/// In each of them, and never there without its process holding it.
const LOCK: &str = "lock";
/// Its name until it is held: a sweep between the making of the file and the taking of the lock would take the folder for abandoned.
const LOCK_TO_BE: &str = "lock.new";
/// Between the making of a folder and its lock lie microseconds.
const UNLOCKED_MAX: Duration = Duration::from_hours(1);

const UNMADE: &str = "a temporary folder could not be made";

/// A folder that dies with this value.
pub(super) struct Workspace(TempDir);

impl Workspace {
    /// An empty folder in `work_dir`.
    fn create(work_dir: &Path) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(work_dir);
        dir.map(Self).map_err(|e| ToolError::io(UNMADE, &e).into())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Copies an object into the folder.
    pub(super) async fn fetch(
        &self,
        objects: &Objects,
        key: &str,
        name: &str,
    ) -> Result<PathBuf, Failure> {
        let path = self.path().join(name);
        objects
            .fetch(key, &path)
            .await
            .map_err(|error| of_objects(&error))?;
        Ok(path)
    }

    /// A folder in the folder.
    pub(super) fn subfolder(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path().join(name);
        std::fs::create_dir(&path).map_err(|e| ToolError::io(UNMADE, &e))?;
        Ok(path)
    }
}

/// The folder of one process, with those of its jobs in it. Made when the first job needs it, and again if somebody has tidied up.
pub(super) struct Home {
    root: PathBuf,
    made: Mutex<Option<Made>>,
}

/// While the process lives it holds the lock, which is how others know.
struct Made {
    dir: TempDir,
    _lock: File,
}

impl Home {
    /// In `root`, which is swept of what dead processes have left there.
    pub(super) fn new(root: &Path) -> Self {
        sweep(root);
        Self {
            root: root.to_owned(),
            made: Mutex::new(None),
        }
    }

    /// An empty folder for a job.
    pub(super) fn workspace(&self) -> Result<Workspace, Failure> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.as_ref().is_none_or(|made| !made.dir.path().is_dir()) {
            *made = Some(make(&self.root).map_err(|e| ToolError::io(UNMADE, &e))?);
        }
        let root = made
            .as_ref()
            .map_or(self.root.as_path(), |made| made.dir.path());
        Workspace::create(root)
    }
}

fn make(root: &Path) -> io::Result<Made> {
    let dir = tempfile::Builder::new()
        .prefix(HOME_PREFIX)
        .tempdir_in(root)?;
    let lock = File::create(dir.path().join(LOCK_TO_BE))?;
    lock.lock()?;
    std::fs::rename(dir.path().join(LOCK_TO_BE), dir.path().join(LOCK))?;
    Ok(Made { dir, _lock: lock })
}

/// Removes what dead processes left in `root`. Best effort: what cannot be removed costs disk space, not work.
fn sweep(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(HOME_PREFIX))
    {
        if let Some(_lock) = abandoned(&entry.path())
            && let Err(e) = std::fs::remove_dir_all(entry.path())
        {
            tracing::debug!(error = %e, "an abandoned temporary folder could not be removed");
        }
    }
}

/// Its lock, if nobody held it; held by us now, so that no other sweep removes the folder too. One without a lock is being made, unless
/// it is old.
fn abandoned(home: &Path) -> Option<File> {
    let path = home.join(LOCK);
    let lock = File::open(&path)
        .or_else(|missing| {
            if is_old(home) {
                File::create(&path)
            } else {
                Err(missing)
            }
        })
        .ok()?;
    lock.try_lock().is_ok().then_some(lock)
}

fn is_old(home: &Path) -> bool {
    let made = std::fs::metadata(home).and_then(|metadata| metadata.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > UNLOCKED_MAX))
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

    // X70
    #[test]
    fn what_a_dead_process_left_is_swept_at_the_next_start_and_a_living_one_keeps_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let (living, dead) = (Home::new(root.path()), Home::new(root.path()));
        let [kept, left] = [&living, &dead].map(|home| home.workspace().unwrap().0.keep());
        // A process that is killed closes its files and removes nothing.
        let dir = dead.made.lock().unwrap().take().unwrap().dir.keep();
        std::fs::create_dir(root.path().join("somebody-else")).unwrap();
        let _next = Home::new(root.path());
        assert!(
            kept.is_dir()
                && !left.exists()
                && !dir.exists()
                && root.path().join("somebody-else").is_dir()
        );
        std::fs::remove_dir_all(kept.parent().unwrap()).unwrap();
        assert!(
            living.workspace().unwrap().path().is_dir(),
            "it is made again"
        );
    }

    // X70
    #[test]
    fn a_folder_is_not_swept_while_its_process_makes_it() {
        let root = tempfile::tempdir().unwrap();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|threads| {
            let sweeping = || {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    sweep(root.path());
                }
            };
            for _ in 0..2 {
                threads.spawn(sweeping);
            }
            let made = (0..2_000)
                .map(|_| make(root.path()).is_ok_and(|made| made.dir.path().join(LOCK).is_file()));
            let swept = made.filter(|is_there| !is_there).count();
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(swept, 0);
        });
    }
}
