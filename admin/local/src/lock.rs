//! Locks on files, which the kernel lets go of when their holder dies, however it dies.
//!
//! The lock files are never deleted: two processes could then hold locks on two files of the same name.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::wait;

/// Holds `path` alone until the file is dropped; `None` if another process still holds it after `patience`.
pub(super) fn exclusive(path: &Path, patience: Duration) -> Result<Option<File>> {
    let file = open(path)?;
    let locked = wait::until(patience, || taken(path, file.try_lock()))?;
    Ok(locked.map(|()| file))
}

/// Holds `path` together with others until the file is dropped; `None` if one holds it alone after `patience`.
pub(super) fn shared(path: &Path, patience: Duration) -> Result<Option<File>> {
    let file = open(path)?;
    let locked = wait::until(patience, || taken(path, file.try_lock_shared()))?;
    Ok(locked.map(|()| file))
}

/// Whether some process holds `path` alone right now.
pub(super) fn is_held(path: &Path) -> Result<bool> {
    Ok(shared(path, Duration::ZERO)?.is_none())
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot open the lock file {}", path.display()))
}

fn taken(path: &Path, tried: Result<(), TryLockError>) -> Result<Option<()>> {
    match tried {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
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

    #[test]
    fn a_lock_is_free_again_when_its_holder_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let holder = exclusive(&path, Duration::ZERO).unwrap().unwrap();
        assert!(is_held(&path).unwrap());
        assert!(
            exclusive(&path, Duration::from_millis(20))
                .unwrap()
                .is_none()
        );
        drop(holder);
        // At once, but for a neighbouring test that is just starting a process: until that one has passed `exec`, it holds
        // a copy of every open file.
        assert!(exclusive(&path, Duration::from_secs(5)).unwrap().is_some());
    }
}
