//! Where the server programs are on this machine, and whether they are new enough.
//!
//! It installs nothing: an error says what to install. It looks in the usual places beside the search path, because
//! Debian keeps `initdb` out of it on purpose and Homebrew keeps versioned formulas out of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The oldest release still maintained, and the one on which every figure of the design was measured.
pub(super) const POSTGRES_MAJOR_MIN: u32 = 15;
/// Older ones forget to report deleted entries in XAUTOCLAIM, which the takeover relies on.
const REDIS_MAJOR_MIN: u32 = 7;

/// What to do without Postgres; every error about it ends so.
const POSTGRES_HINT: &str = "run scripts/setup.sh run, or install it (Debian, Ubuntu: apt-get install postgresql; \
    macOS: brew install postgresql@17), or set DATABASE_URL to a server of yours";
/// The same for Redis.
const REDIS_HINT: &str = "run scripts/setup.sh run, or install it (Debian, Ubuntu: apt-get install redis-server; \
    macOS: brew install redis; else Valkey), or set REDIS_URL to a server of yours";

/// The programs of one installed Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PostgresPrograms {
    /// Holds `postgres` and `initdb`.
    pub(super) bin: PathBuf,
    pub(super) major: u32,
}

/// The newest Postgres here, or the one of the release that wrote an existing data directory.
pub(super) fn postgres(written_by: Option<u32>) -> Result<PostgresPrograms> {
    let mut found: Vec<_> = postgres_dirs()
        .into_iter()
        .filter_map(|bin| PostgresPrograms::at(&bin))
        .collect();
    found.sort_by_key(|programs| std::cmp::Reverse(programs.major));
    if let Some(major) = written_by {
        let same = found.into_iter().find(|programs| programs.major == major);
        return same.with_context(|| {
            format!("the data directory was written by PostgreSQL {major}, which is not here; install it or remove the directory")
        });
    }
    match found.into_iter().next() {
        Some(newest) if newest.major >= POSTGRES_MAJOR_MIN => Ok(newest),
        Some(old) => bail!(
            "PostgreSQL {} in {} is too old, {POSTGRES_MAJOR_MIN} is needed; {POSTGRES_HINT}",
            old.major,
            old.bin.display()
        ),
        None => bail!("no PostgreSQL server programs on this machine; {POSTGRES_HINT}"),
    }
}

/// A Redis or Valkey server that is new enough.
pub(super) fn redis() -> Result<PathBuf> {
    let mut too_old = None;
    for program in redis_candidates() {
        match version_of(&program, redis_major) {
            Some(major) if major >= REDIS_MAJOR_MIN => return Ok(program),
            Some(major) => too_old = Some((program, major)),
            None => {}
        }
    }
    match too_old {
        Some((program, major)) => bail!(
            "{} is version {major}, {REDIS_MAJOR_MIN} is needed; {REDIS_HINT}",
            program.display()
        ),
        None => bail!("no redis-server or valkey-server on this machine; {REDIS_HINT}"),
    }
}

/// Where the shell would find a program.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let output = Command::new("sh")
        .args(["-c", "command -v \"$1\"", "sh", name])
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    path.is_absolute().then_some(path)
}

impl PostgresPrograms {
    fn at(bin: &Path) -> Option<Self> {
        if !bin.join("initdb").exists() {
            return None;
        }
        let major = version_of(&bin.join("postgres"), postgres_major)?;
        Some(Self {
            bin: bin.to_owned(),
            major,
        })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Whether an extension's library lies where packages of Postgres put it.
    pub(super) fn has_library(&self, name: &str) -> bool {
        self.bin
            .parent()
            .is_some_and(|home| home.join("lib").join(format!("{name}.so")).exists())
    }
}

/// In no particular order; the same directory may come twice.
fn postgres_dirs() -> Vec<PathBuf> {
    let mut dirs = below("/usr/lib/postgresql", "");
    dirs.extend(below("/usr", "pgsql-"));
    for homebrew in [
        "/opt/homebrew/opt",
        "/usr/local/opt",
        "/home/linuxbrew/.linuxbrew/opt",
    ] {
        dirs.extend(below(homebrew, "postgresql"));
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        dirs.push(PathBuf::from(
            String::from_utf8_lossy(&output.stdout).trim(),
        ));
    }
    dirs.extend(on_path("initdb").and_then(|program| Some(program.parent()?.to_owned())));
    dirs
}

/// `bin` in each directory of `parent` whose name begins so.
fn below(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path().join("bin")).collect()
}

fn redis_candidates() -> Vec<PathBuf> {
    let names = ["redis-server", "valkey-server"];
    let usual = [
        "/usr/bin",
        "/usr/local/bin",
        "/opt/homebrew/bin",
        "/home/linuxbrew/.linuxbrew/bin",
    ];
    let elsewhere = usual
        .iter()
        .flat_map(|dir| names.map(|name| Path::new(dir).join(name)));
    names
        .into_iter()
        .filter_map(on_path)
        .chain(elsewhere.filter(|program| program.exists()))
        .collect()
}

fn version_of(program: &Path, major: fn(&str) -> Option<u32>) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, or `17beta1`.
fn postgres_major(text: &str) -> Option<u32> {
    leading_number(text.split_once("(PostgreSQL) ")?.1)
}

/// `Redis server v=7.0.15 sha=…` or `Valkey server v=8.0.1 sha=…`
fn redis_major(text: &str) -> Option<u32> {
    leading_number(text.split_once(" v=")?.1)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
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
    fn versions_are_read_from_what_the_programs_say() {
        assert_eq!(
            postgres_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(postgres_major("postgres (PostgreSQL) 17beta1"), Some(17));
        assert_eq!(
            redis_major("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0"),
            Some(7)
        );
        assert_eq!(redis_major("Valkey server v=8.0.1 sha=00000000:0"), Some(8));
        assert_eq!(redis_major("something else"), None);
    }

    // F60
    #[test]
    fn a_data_directory_of_an_absent_release_is_an_error_that_says_so() {
        let error = postgres(Some(9)).unwrap_err().to_string();
        assert!(
            error.contains("PostgreSQL 9") && error.contains("remove the directory"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert!(on_path("no-such-program-here").is_none());
    }
}
