//! The directory of the servers: made, made reachable for the account they run as, or replaced by one that is.
//!
//! Layout: `lock`, `state.json` and the logs are ours; `postgres/` and `redis/` belong to the servers' account.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::account::Account;

/// For the owner alone.
const PRIVATE: u32 = 0o700;
/// The servers' account may pass through to its own directory, and may not list ours.
const PASSAGE: u32 = 0o711;

/// What the servers keep below the directory.
const SERVER_DIRS: [&str; 3] = ["postgres", "postgres.new", "redis"];

/// Makes the directory, or one below the system's temporary directory if the servers' account could not get to
/// `wanted` (root's home is closed to others, for one). Returns its canonical path.
pub(super) fn prepare(wanted: &Path, account: &Account) -> Result<PathBuf> {
    fs::create_dir_all(wanted)
        .with_context(|| format!("cannot make the directory {}", wanted.display()))?;
    let wanted =
        fs::canonicalize(wanted).with_context(|| format!("cannot resolve {}", wanted.display()))?;
    open_to(&wanted, account)?;
    if reaches(account, &wanted)? {
        return Ok(wanted);
    }
    let dir = substitute(&wanted, &std::env::temp_dir(), account)?;
    ensure!(
        reaches(account, &dir)?,
        "the account of the servers can reach neither {} nor {}",
        wanted.display(),
        dir.display()
    );
    tracing::warn!(
        "the account that the servers run as cannot reach {}; their files are in {}",
        wanted.display(),
        dir.display()
    );
    Ok(dir)
}

/// Makes a directory inside ours that belongs to the servers' account alone.
pub(super) fn server_dir(dir: &Path, account: &Account) -> Result<()> {
    match DirBuilder::new().mode(PRIVATE).create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.with_context(|| format!("cannot make the directory {}", dir.display()))?,
    }
    account.own(dir)
}

/// Throws away what the servers kept, and the passwords and ports that went with it.
pub(super) fn empty(dir: &Path) -> Result<()> {
    for name in SERVER_DIRS {
        remove_tree(&dir.join(name))?;
    }
    match fs::remove_file(dir.join("state.json")) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context("cannot remove state.json")
        }
        _ => Ok(()),
    }
}

/// Removes a directory with all it holds, if it is there.
pub(super) fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn open_to(dir: &Path, account: &Account) -> Result<()> {
    let mode = if account.is_other() { PASSAGE } else { PRIVATE };
    fs::set_permissions(dir, Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the permissions of {}", dir.display()))
}

/// Every directory on the way counts, so the question is put to the kernel under that account.
fn reaches(account: &Account, dir: &Path) -> Result<bool> {
    if !account.is_other() {
        return Ok(true);
    }
    let status = account
        .command(Path::new("test"))
        .arg("-x")
        .arg(dir)
        .status()
        .context("cannot start a program under the servers' account")?;
    Ok(status.success())
}

/// A directory of the same name every time, so that the next start finds the data again.
fn substitute(wanted: &Path, temporary: &Path, account: &Account) -> Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let mut dir = temporary.join(format!("millstream-{user}"));
    own_dir(&dir, user)?;
    open_to(&dir, account)?;
    dir.push(format!(
        "{:016x}",
        fnv1a(wanted.as_os_str().as_encoded_bytes())
    ));
    own_dir(&dir, user)?;
    open_to(&dir, account)?;
    fs::canonicalize(&dir).with_context(|| format!("cannot resolve {}", dir.display()))
}

/// Anybody may make names in the temporary directory: what is there already must be a directory, and ours.
fn own_dir(dir: &Path, user: u32) -> Result<()> {
    match DirBuilder::new().mode(PRIVATE).create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.with_context(|| format!("cannot make the directory {}", dir.display()))?,
    }
    let there =
        fs::symlink_metadata(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    ensure!(
        there.is_dir() && there.uid() == user,
        "{} is there already and is not ours; remove it",
        dir.display()
    );
    Ok(())
}

/// A hash that is the same in every build (the standard library's is not promised to be); nothing relies on its strength.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_link_in_the_temporary_directory_is_not_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        symlink(
            elsewhere.path(),
            temporary.path().join(format!("millstream-{user}")),
        )
        .unwrap();
        let account = Account::for_servers().unwrap();
        let error = substitute(Path::new("/somewhere"), temporary.path(), &account).unwrap_err();
        assert!(error.to_string().contains("not ours"), "{error}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_the_servers_cannot_reach_is_replaced_by_the_same_one_every_time() {
        let account = Account::for_servers().unwrap();
        if !account.is_other() {
            return; // Only root runs the servers as somebody else.
        }
        let closed = tempfile::tempdir().unwrap();
        fs::set_permissions(closed.path(), Permissions::from_mode(PRIVATE)).unwrap();
        let wanted = closed.path().join("below");
        let first = prepare(&wanted, &account).unwrap();
        assert_ne!(first, fs::canonicalize(&wanted).unwrap());
        assert_eq!(prepare(&wanted, &account).unwrap(), first);
        remove_tree(&first).unwrap();
    }
}
