//! One private Postgres and Redis for a whole test run, in which every test is a process of its own.
//!
//! The first test process to come starts a *keeper*, a process that outlives it; all others find its URLs in a file. The
//! keeper ends, with the servers, when nobody has used them for a while. All of it hangs on file locks, which the kernel
//! lets go of however a process dies:
//!
//! - `users`: held shared by every test process as long as it lives; held alone by the keeper while it shuts down;
//! - `keeper`: held alone by the keeper as long as it lives. `urls.json` counts only while this is held, and whoever starts
//!   a keeper has removed the old file first, so a killed keeper's URLs are never believed;
//! - `start`: held alone by the one test process that starts a keeper.
//!
//! The servers keep nothing between runs and sync nothing. This module does not know schemas and prefixes: keeping the
//! tests apart on the shared servers is the harness' work.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::state::write_private;
use super::{Durability, LocalServices, Options, ServerEnv, lock, probe, process, wait};

/// Longer than the pause between two tests, and than the link step between two test binaries of one build as a rule; short
/// enough that nothing is left running when somebody looks.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// How often the keeper looks; the servers of a dead one are missed for at most this long.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// A keeper that shuts down holds `users` for as long as its servers take to stop.
const USERS_LIMIT: Duration = Duration::from_mins(1);
/// `initdb` takes 1 s on an idle machine, and more beside a build that takes every core.
const START_LIMIT: Duration = Duration::from_mins(2);
/// A second keeper is a mistake of timing at most; it leaves the field to the first.
const KEEPER_LIMIT: Duration = Duration::from_secs(5);

/// The shared servers, which stay at least as long as this value.
#[derive(Debug)]
pub struct SharedServices {
    /// Superuser and database `millstream` of the shared Postgres.
    pub database_url: String,
    /// Database 0 of the shared Redis.
    pub redis_url: String,
    _user: File,
}

/// `urls.json`: written once by the keeper when both servers answer.
#[derive(Debug, Serialize, Deserialize)]
struct Urls {
    database_url: String,
    redis_url: String,
    /// For those who look at the file; nothing signals it.
    keeper_pid: u32,
}

/// Uses the servers of `dir`, and starts them if nobody has. `keeper` is a program that calls [`keep`] with its only
/// argument, the directory. Blocks for about two seconds in the first process, a millisecond in the others.
pub fn join(dir: &Path, keeper: &Path) -> Result<SharedServices> {
    fs::create_dir_all(dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))?;
    let mut user = lock::shared(&dir.join("users"), USERS_LIMIT)?
        .context("the test servers have been shutting down for too long")?;
    // The time of this write tells the keeper of a user who came and went between two looks.
    user.write_all(b"u")
        .context("cannot write to the users file")?;
    let urls = match ready(dir)? {
        Some(urls) => urls,
        None => start(dir, keeper)?,
    };
    Ok(SharedServices {
        database_url: urls.database_url,
        redis_url: urls.redis_url,
        _user: user,
    })
}

/// The keeper's whole life: starts the servers, watches them and their users, stops them when nobody is left.
pub fn keep(dir: &Path) -> Result<()> {
    let alone = lock::exclusive(&dir.join("keeper"), KEEPER_LIMIT)?;
    let Some(_alone) = alone else { return Ok(()) };
    let options = Options {
        dir: dir.join("servers"),
        durability: Durability::None,
        fresh: true,
        env: ServerEnv::default(),
    };
    let services = LocalServices::start_blocking(&options)?;
    let urls = Urls {
        database_url: services.database_url.clone(),
        redis_url: services.redis_url.clone(),
        keeper_pid: std::process::id(),
    };
    let file = urls_file(dir);
    write_private(&file, &serde_json::to_vec_pretty(&urls)?)?;
    let watched = watch(dir, &services);
    // Newcomers must not believe it while the servers go down. Held until then: `users`, after an orderly end.
    remove_urls(dir)?;
    services.stop_blocking()?;
    watched.map(drop)
}

/// Returns when the servers have been idle for long enough, with the lock that keeps newcomers waiting.
fn watch(dir: &Path, services: &LocalServices) -> Result<Option<File>> {
    let mut last_use = last_use(dir);
    let mut idle_since = Instant::now();
    loop {
        wait::pause(WATCH_EVERY);
        services.check()?;
        if !urls_file(dir).exists() {
            // The directory was cleaned away, or somebody gave these servers up: nobody can come any more.
            return Ok(None);
        }
        let nobody = lock::exclusive(&dir.join("users"), Duration::ZERO)?;
        let seen = self::last_use(dir);
        if nobody.is_none() || seen != last_use {
            last_use = seen;
            idle_since = Instant::now();
        } else if idle_since.elapsed() >= IDLE_MAX {
            return Ok(nobody);
        }
    }
}

/// Compared for equality only, so a wall clock that steps does no harm.
fn last_use(dir: &Path) -> Option<SystemTime> {
    fs::metadata(dir.join("users"))
        .and_then(|file| file.modified())
        .ok()
}

/// The URLs, if a living keeper has written them and both servers answer.
fn ready(dir: &Path) -> Result<Option<Urls>> {
    // In this order: the file of a dead keeper is removed before the next one takes the lock.
    if !lock::is_held(&dir.join("keeper"))? {
        return Ok(None);
    }
    let bytes = match fs::read(urls_file(dir)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot read urls.json"),
    };
    let urls: Urls = serde_json::from_slice(&bytes).context("urls.json is damaged")?;
    Ok(urls.answer().then_some(urls))
}

impl Urls {
    fn answer(&self) -> bool {
        let postgres = port_of(&self.database_url)
            .is_some_and(|port| probe::postgres_answers(port, "millstream", "millstream"));
        let redis = port_of(&self.redis_url).zip(password_of(&self.redis_url));
        postgres && redis.is_some_and(|(port, password)| probe::redis_answers(port, password))
    }
}

/// Waits for a keeper to be ready, and starts one whenever there is none.
fn start(dir: &Path, program: &Path) -> Result<Urls> {
    let starter = lock::exclusive(&dir.join("start"), START_LIMIT)?;
    let _starter =
        starter.context("another test process has been starting the test servers for too long")?;
    let mut keeper: Option<Child> = None;
    let found = wait::until(START_LIMIT, || {
        if let Some(urls) = ready(dir)? {
            return Ok(Some(urls));
        }
        match &mut keeper {
            Some(child) => check(child, dir)?,
            // One that is alive is starting, or on its way out after a server died.
            None if lock::is_held(&dir.join("keeper"))? => {}
            None => keeper = Some(spawn(dir, program)?),
        }
        Ok(None)
    })?;
    found.with_context(|| {
        format!(
            "the test servers did not start within {START_LIMIT:?}; see {}",
            dir.join("keeper.log").display()
        )
    })
}

fn spawn(dir: &Path, program: &Path) -> Result<Child> {
    remove_urls(dir)?;
    let log = File::create(dir.join("keeper.log")).context("cannot make keeper.log")?;
    let also = log.try_clone().context("cannot open keeper.log twice")?;
    let mut command = Command::new(program);
    // Nothing of this process may reach it: a test runner waits for whoever holds a test's output, and signals its group.
    command
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(also)
        .process_group(0);
    command
        .spawn()
        .with_context(|| format!("cannot start the keeper {}", program.display()))
}

fn check(keeper: &mut Child, dir: &Path) -> Result<()> {
    let Some(status) = keeper.try_wait().context("cannot watch the keeper")? else {
        return Ok(());
    };
    bail!(
        "the test servers did not start ({status}):\n{}",
        process::tail(&dir.join("keeper.log"))
    );
}

fn urls_file(dir: &Path) -> PathBuf {
    dir.join("urls.json")
}

fn remove_urls(dir: &Path) -> Result<()> {
    match fs::remove_file(urls_file(dir)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context("cannot remove urls.json")
        }
        _ => Ok(()),
    }
}

/// Of a URL that this module wrote: `scheme://user:password@127.0.0.1:port/database`.
fn port_of(url: &str) -> Option<u16> {
    let authority = url.rsplit_once('@')?.1;
    authority
        .split('/')
        .next()?
        .rsplit_once(':')?
        .1
        .parse()
        .ok()
}

fn password_of(url: &str) -> Option<&str> {
    url.split_once("://")?
        .1
        .rsplit_once('@')?
        .0
        .split_once(':')
        .map(|(_, password)| password)
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
    fn ports_and_passwords_are_read_back_from_our_own_urls() {
        assert_eq!(
            port_of("postgres://millstream:ab@127.0.0.1:20001/millstream"),
            Some(20001)
        );
        assert_eq!(
            password_of("redis://default:cd@127.0.0.1:20002/0"),
            Some("cd")
        );
        assert_eq!(port_of("nonsense"), None);
    }

    #[test]
    fn the_urls_of_a_dead_keeper_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let urls = Urls {
            database_url: "postgres://a:b@127.0.0.1:1/c".into(),
            redis_url: "redis://default:d@127.0.0.1:2/0".into(),
            keeper_pid: 1,
        };
        write_private(&urls_file(dir.path()), &serde_json::to_vec(&urls).unwrap()).unwrap();
        assert!(ready(dir.path()).unwrap().is_none());
    }

    #[test]
    fn a_keeper_that_fails_is_reported_with_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("keeper.sh");
        fs::write(&program, "#!/bin/sh\necho no room in $1 >&2\nexit 7\n").unwrap();
        fs::set_permissions(
            &program,
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        let error = join(&dir.path().join("shared"), &program)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no room in") && error.contains("exit status: 7"),
            "{error}"
        );
    }
}
