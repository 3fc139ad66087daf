//! A wall clock of its own for one process (and its children), which can be stepped or made to drift while it runs.
//!
//! Invariant: monotonic clocks are never touched. A library of fifty lines of C is preloaded, so it works with any program that is
//! linked dynamically, and on Linux only; it is compiled by the first test that asks.

use std::{
    fs::{self, File, Permissions},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::{FileExt, PermissionsExt},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};

use crate::servers::target_dir;

const SOURCE: &str = include_str!("clock.c");
/// Where the numbers stand in the file; `clock.c` reads them.
const OFFSET_AT: u64 = 0;
const DRIFT_AT: u64 = 8;
const DRIFT_SINCE_AT: u64 = 16;
const NANOS: i64 = 1_000_000_000;

/// The clock of whoever was started with [`Clock::env`].
pub struct Clock {
    /// Readable for the account that the servers run as.
    folder: tempfile::TempDir,
    settings: File,
    offset_s: i64,
}

impl Clock {
    /// A clock that is right so far.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the clock")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        fs::copy(compiled()?, folder.path().join("clock.so"))
            .context("cannot copy the clock's library")?;
        let settings = File::create(folder.path().join("settings"))?;
        settings.set_permissions(Permissions::from_mode(0o644))?;
        settings.set_len(DRIFT_SINCE_AT + 8)?;
        Ok(Self {
            folder,
            settings,
            offset_s: 0,
        })
    }

    /// For the environment of the process that is to have this clock.
    pub fn env(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        vec![
            ("LD_PRELOAD".to_owned(), path("clock.so")),
            ("TEST_CLOCK".to_owned(), path("settings")),
        ]
    }

    /// Moves the clock, forward or back.
    pub fn step(&mut self, seconds: i64) {
        self.offset_s += seconds;
        self.write(OFFSET_AT, self.offset_s * NANOS);
    }

    /// From now on it runs faster by so many per cent, or slower. What it was ahead by an earlier drift is taken back.
    pub fn drift(&self, percent: f64) {
        let now = clock_gettime(ClockId::Monotonic);
        self.write(DRIFT_AT, 0);
        self.write(DRIFT_SINCE_AT, now.tv_sec * NANOS + now.tv_nsec);
        self.write(DRIFT_AT, (percent * 10_000.0) as i64);
    }

    fn write(&self, at: u64, value: i64) {
        self.settings
            .write_all_at(&value.to_ne_bytes(), at)
            .expect("the clock's file can be written");
    }
}

/// The library, compiled once for each version of its source.
fn compiled() -> Result<PathBuf> {
    if !cfg!(target_os = "linux") {
        bail!("clocks can be moved on Linux only: the library is preloaded with LD_PRELOAD");
    }
    let folder = target_dir().join("tmp");
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let library = folder.join(format!("clock-{:016x}.so", hasher.finish()));
    if library.exists() {
        return Ok(library);
    }
    fs::create_dir_all(&folder)?;
    // Made under a name of this process and renamed: tests run at once.
    let draft = folder.join(format!("clock-{}.so", std::process::id()));
    let source = draft.with_extension("c");
    fs::write(&source, SOURCE)?;
    let said = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&draft)
        .arg(&source)
        .arg("-ldl")
        .output();
    let said = said.context(
        "no C compiler: tests that move clocks need `cc` (Debian: apt-get install gcc libc6-dev)",
    )?;
    fs::remove_file(&source)?;
    if !said.status.success() {
        bail!(
            "the clock's library does not compile: {}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
    fs::rename(&draft, &library)?;
    Ok(library)
}
