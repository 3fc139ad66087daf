//! What can go wrong with a Redis: connections, pauses, memory, and the files it is restarted from.
//!
//! Whatever stops it or touches its files needs a private lab; the rest works on a shared server too, and then hits everybody.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use millstream_local::LocalServices;
use redis::aio::MultiplexedConnection;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Lab, eventually};

/// Pieces of junk, each a key of its own, so that a server that evicts has something to choose from.
const JUNK_PIECES: usize = 80;
/// Of one piece. All together are well above what the buffers of clients vary by.
const JUNK_BYTES: usize = 100_000;

/// Whom `CLIENT PAUSE` holds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Every command.
    All,
    /// Only those that write.
    Write,
}

/// Closes every client's connection, and returns how many there were.
pub async fn client_kill_all(lab: &Lab) -> i64 {
    lab.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .await
}

/// Holds up clients for so long; returns at once.
pub async fn client_pause(lab: &Lab, duration: Duration, whom: Pause) {
    let whom = if whom == Pause::All { "ALL" } else { "WRITE" };
    lab.command::<()>(&["CLIENT", "PAUSE", &duration.as_millis().to_string(), whom])
        .await;
}

/// Ends a pause.
pub async fn client_unpause(lab: &Lab) {
    lab.command::<()>(&["CLIENT", "UNPAUSE"]).await;
}

/// The server does nothing for so long; returns when it is over. Only servers without durability allow it, for others there is [`freeze`].
pub async fn debug_sleep(lab: &Lab, duration: Duration) {
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis::Client::open(lab.config.redis.url.expose()).expect("a Redis URL");
    let mut conn = client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .expect("Redis answers");
    let slept: redis::RedisResult<()> = redis::cmd("DEBUG")
        .arg("SLEEP")
        .arg(duration.as_secs_f64())
        .query_async(&mut conn)
        .await;
    slept.expect("DEBUG SLEEP");
}

/// Stops the server in the middle of whatever it does; connections stay open.
pub fn freeze(servers: &LocalServices) -> Result<()> {
    signal(servers, Signal::STOP)
}

/// Ends [`freeze`].
pub fn thaw(servers: &LocalServices) -> Result<()> {
    signal(servers, Signal::CONT)
}

fn signal(servers: &LocalServices, signal: Signal) -> Result<()> {
    let pid = servers
        .pids()
        .redis
        .and_then(|pid| Pid::from_raw(pid as i32))
        .context("the private Redis does not run")?;
    Ok(kill_process(pid, signal)?)
}

/// Fills memory with junk and sets the limit below what is used then: a server that does not evict takes nothing more.
pub async fn fill_memory(lab: &Lab) {
    fill(&mut lab.redis().await)
        .await
        .expect("Redis takes the junk and the limit");
}

/// [`fill_memory`] over a connection.
pub async fn fill(redis: &mut MultiplexedConnection) -> Result<()> {
    let mut fill = redis::pipe();
    for key in junk() {
        fill.cmd("SET")
            .arg(key)
            .arg("x".repeat(JUNK_BYTES))
            .ignore();
    }
    fill.exec_async(redis)
        .await
        .context("there is no room for the junk")?;
    let info: String = redis::cmd("INFO").arg("memory").query_async(redis).await?;
    let used = info
        .lines()
        .find_map(|line| {
            line.strip_prefix("used_memory:")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .context("used_memory")?;
    // Half: what this connection's buffers and acknowledged entries give back makes no room.
    let limit = (used / 2).to_string();
    Ok(redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory", &limit])
        .exec_async(redis)
        .await?)
}

/// Ends [`fill_memory`].
pub async fn free_memory(lab: &Lab) {
    free(&mut lab.redis().await)
        .await
        .expect("the limit and the junk go");
}

/// Ends [`fill`].
pub async fn free(redis: &mut MultiplexedConnection) -> Result<()> {
    redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory", "0"])
        .exec_async(redis)
        .await?;
    Ok(redis::cmd("UNLINK")
        .arg(junk().collect::<Vec<_>>())
        .exec_async(redis)
        .await?)
}

/// Far from the keys of any lab.
fn junk() -> impl Iterator<Item = String> {
    (0..JUNK_PIECES).map(|piece| format!("junk{piece}"))
}

/// What the server throws away when its memory is full.
pub async fn eviction_policy(lab: &Lab, policy: &str) {
    set(lab, "maxmemory-policy", policy).await;
}

async fn set(lab: &Lab, name: &str, value: &str) {
    lab.command::<()>(&["CONFIG", "SET", name, value]).await;
}

/// Waits until what was written so far is in the append-only file, as far as the kernel is concerned.
pub async fn written(lab: &Lab) {
    eventually("the append-only file is written", async || {
        let info: String = lab.command(&["INFO", "persistence"]).await;
        let is_idle = |name: &str| info.lines().any(|line| line.trim() == format!("{name}:0"));
        (is_idle("aof_rewrite_in_progress") && is_idle("aof_pending_bio_fsync")).then_some(())
    })
    .await;
}

/// Where the private server keeps its files.
pub fn folder(servers: &LocalServices) -> Result<PathBuf> {
    Ok(servers
        .dir()
        .context("the servers are not private")?
        .join("redis"))
}

/// Takes the last bytes away from the append-only file of a server that does not run, as a lost machine does, and returns how many
/// are left of the file.
pub fn cut_aof_tail(servers: &LocalServices, bytes: u64) -> Result<u64> {
    ensure!(
        servers.pids().redis.is_none(),
        "the file of a running Redis is not cut: it would go on behind the end"
    );
    let path = newest_part(&folder(servers)?.join("appendonlydir"))?;
    let file = File::options().write(true).open(&path)?;
    let left = file.metadata()?.len().saturating_sub(bytes);
    file.set_len(left)?;
    Ok(left)
}

/// The part of the append-only file that is written to, `NAME.NUMBER.incr.aof` with the highest number.
fn newest_part(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("no append-only files in {}", folder.display()))?;
    let numbered = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let number: u64 = name
            .strip_suffix(".incr.aof")?
            .rsplit('.')
            .next()?
            .parse()
            .ok()?;
        Some((number, entry.path()))
    });
    numbered
        .max()
        .map(|(_, path)| path)
        .with_context(|| format!("no part that is written to in {}", folder.display()))
}

/// Files of a Redis as they were at one moment.
pub struct Copy(tempfile::TempDir);

impl Copy {
    /// Copies them, of a server that runs or not.
    pub fn of(servers: &LocalServices) -> Result<Self> {
        let copy = tempfile::tempdir()?;
        copy_tree(&folder(servers)?, &copy.path().join("redis"))?;
        Ok(Self(copy))
    }

    /// Puts them back in the place of what a server that does not run has written since.
    pub fn restore(&self, servers: &LocalServices) -> Result<()> {
        ensure!(
            servers.pids().redis.is_none(),
            "the files of a running Redis are not replaced"
        );
        let folder = folder(servers)?;
        fs::remove_dir_all(&folder)?;
        copy_tree(&self.0.path().join("redis"), &folder)
    }
}

/// With owners and permissions, which the account of the servers needs.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let said = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .output()
        .context("cp")?;
    if !said.status.success() {
        bail!(
            "copying the files of Redis failed: {}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
    Ok(())
}

/// Kills the server and starts it with nothing, as one that never wrote a file.
pub fn restart_without_persistence(servers: &LocalServices) -> Result<()> {
    servers.kill9_redis()?;
    let files = folder(servers)?.join("appendonlydir");
    if files.exists() {
        fs::remove_dir_all(files)?;
    }
    servers.start_redis()
}
