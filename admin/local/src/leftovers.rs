//! Servers of an owner who was killed: found by the directory they work in, and ended before the next start there.
//!
//! Called with the directory's lock held, so nothing found here belongs to a living owner. A process id in a file is never
//! believed alone: Linux says which directory a process works in (both servers change into their data directory, and
//! Postgres' children inherit it); elsewhere the process' command line must name it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// A fast shutdown of Postgres writes a checkpoint; on a slow disk that takes seconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// As in `process`: the kernel's own time.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Ends the servers that an earlier owner left in `dir`.
pub(super) fn clear(dir: &Path) -> Result<()> {
    end_all(&dir.join("redis"))?;
    clear_postgres(dir)
}

/// Ends what is left of a Postgres, and removes the lock that a killed one leaves behind.
pub(super) fn clear_postgres(dir: &Path) -> Result<()> {
    end_all(&dir.join("postgres"))?;
    // Postgres trusts the id in this file if any process has it by now, a zombie included. Nobody works in the directory
    // any more, which is what the file is there to prevent.
    match fs::remove_file(dir.join("postgres/postmaster.pid")) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context("cannot remove postmaster.pid")
        }
        _ => Ok(()),
    }
}

fn end_all(dir: &Path) -> Result<()> {
    if processes_in(dir).is_empty() {
        return Ok(());
    }
    tracing::warn!(
        "ending the server that an earlier run left in {}",
        dir.display()
    );
    // Postgres: fast shutdown; Redis: save and exit; Postgres' children: they follow their parent.
    signal_all(dir, Signal::INT);
    if !gone_within(dir, PATIENCE)? {
        signal_all(dir, Signal::KILL);
        ensure!(
            gone_within(dir, KILL_LIMIT)?,
            "processes of an earlier run in {} do not end: {:?}",
            dir.display(),
            processes_in(dir)
        );
    }
    Ok(())
}

fn signal_all(dir: &Path, signal: Signal) {
    for pid in processes_in(dir) {
        // It may have ended since it was listed.
        let _ = kill_process(pid, signal);
    }
}

fn gone_within(dir: &Path, limit: Duration) -> Result<bool> {
    Ok(wait::until(limit, || Ok(processes_in(dir).is_empty().then_some(())))?.is_some())
}

fn processes_in(dir: &Path) -> Vec<Pid> {
    fs::read_dir("/proc/self").map_or_else(|_| by_command_line(dir), |_| by_working_directory(dir))
}

pub(super) fn by_working_directory(dir: &Path) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let inside = numbers.filter(|pid| {
        let works_here = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir);
        works_here && is_server(&fs::read(format!("/proc/{pid}/comm")).unwrap_or_default())
    });
    inside.filter_map(Pid::from_raw).collect()
}

/// By `comm`, for a shell that somebody opened in the directory is not ours to end. Postgres' children keep the name.
fn is_server(comm: &[u8]) -> bool {
    [
        &b"postgres"[..],
        b"postmaster",
        b"redis-server",
        b"valkey-server",
    ]
    .iter()
    .any(|name| comm.starts_with(name))
}

/// Without `/proc`: the processes whose command line names the data directory (Postgres) or the file in it (Redis).
pub(super) fn by_command_line(dir: &Path) -> Vec<Pid> {
    let Ok(output) = Command::new("ps")
        .args(["-axww", "-o", "pid=,command="])
        .output()
    else {
        return Vec::new();
    };
    let data = dir.display().to_string();
    let config = dir.join("redis.conf").display().to_string();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.trim().split_once(' '));
    let ours = lines.filter(|(_, command)| {
        names(command, "postgres", &data) || names(command, "-server", &config)
    });
    ours.filter_map(|(pid, _)| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

/// Whether the command is that program, with the path as a whole argument.
fn names(command: &str, program: &str, path: &str) -> bool {
    let Some(at) = command.find(path) else {
        return false;
    };
    let whole = command[at + path.len()..]
        .chars()
        .next()
        .is_none_or(char::is_whitespace);
    whole && command[..at].contains(program)
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
    fn only_the_very_directory_counts_in_a_command_line() {
        let path = "/data/postgres";
        assert!(names(
            "/usr/lib/postgresql/15/bin/postgres -D /data/postgres -c port=1",
            "postgres",
            path
        ));
        assert!(!names(
            "/usr/lib/postgresql/15/bin/postgres -D /data/postgres2",
            "postgres",
            path
        ));
        assert!(!names("vi /data/postgres", "postgres", path));
    }

    #[test]
    fn a_process_that_is_no_server_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(dir.join("redis")).unwrap();
        let mut shell = Command::new("sleep")
            .arg("60")
            .current_dir(dir.join("redis"))
            .spawn()
            .unwrap();
        clear(&dir).unwrap();
        assert!(shell.try_wait().unwrap().is_none());
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn the_lock_of_a_killed_postgres_is_removed_though_its_number_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("postgres")).unwrap();
        let lock = dir.path().join("postgres/postmaster.pid");
        fs::write(&lock, format!("{}\n", std::process::id())).unwrap();
        clear(dir.path()).unwrap();
        assert!(!lock.exists());
    }
}
