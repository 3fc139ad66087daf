//! A server as a child process of ours: started, watched, and ended by its process id.
//!
//! Invariant: a [`Running`] is a child that nobody else has waited for, so its id cannot have passed to another process.
//! The kernel's parent-death signal follows the *thread* that started a child; the [`Nursery`] is the thread that stays
//! as long as the servers do, where a thread of a pool would take them along when it goes idle.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// A server's log may hold the statements of others.
const LOG_MODE: u32 = 0o600;
/// The end of a log that goes into an error message.
const LOG_LINES_MAX: usize = 12;
/// A killed process is gone as soon as the kernel has torn it down; large memory maps take a moment.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A thread that starts servers; it ends when the last clone of this value is dropped.
#[derive(Debug, Clone)]
pub(super) struct Nursery {
    orders: Arc<mpsc::Sender<Order>>,
}

struct Order {
    command: Command,
    answer: mpsc::Sender<io::Result<Child>>,
}

impl Nursery {
    pub(super) fn open() -> Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("local-servers".to_owned())
            .spawn(move || {
                for mut order in inbox {
                    // The one who asked waits for the answer; if it panicked instead, the child is dropped unwatched
                    // and gets its signal when this thread ends.
                    let _ = order.answer.send(order.command.spawn());
                }
            })
            .context("cannot start the thread that starts the servers")?;
        Ok(Self {
            orders: Arc::new(orders),
        })
    }

    /// Starts a server whose output goes to the end of `log`.
    pub(super) fn start(
        &self,
        name: &'static str,
        mut command: Command,
        log: &Path,
    ) -> Result<Running> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(LOG_MODE)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let also = file.try_clone().context("cannot open the log twice")?;
        command.stdout(Stdio::from(file)).stderr(Stdio::from(also));
        let (answer, answered) = mpsc::channel();
        self.orders
            .send(Order { command, answer })
            .ok()
            .context("the thread that starts the servers has ended")?;
        let child = answered
            .recv()
            .context("the thread that starts the servers has ended")?;
        let child = child.with_context(|| format!("cannot start {name}"))?;
        Ok(Running {
            name,
            child,
            log: log.to_owned(),
        })
    }
}

/// A server that was started and not yet seen to end.
#[derive(Debug)]
pub(super) struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of the log if the server has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        match self
            .child
            .try_wait()
            .with_context(|| format!("cannot watch {}", self.name))?
        {
            None => Ok(()),
            Some(status) => bail!(
                "{} ended by itself ({status}); the end of {}:\n{}",
                self.name,
                self.log.display(),
                tail(&self.log)
            ),
        }
    }

    /// Waits until `answers`, or fails when the server ends or the limit is over.
    pub(super) fn wait_until(
        &mut self,
        limit: Duration,
        mut answers: impl FnMut() -> bool,
    ) -> Result<()> {
        let ready = wait::until(limit, || {
            self.check()?;
            Ok(answers().then_some(()))
        })?;
        ready.with_context(|| {
            format!(
                "{} did not answer within {limit:?}; the end of {}:\n{}",
                self.name,
                self.log.display(),
                tail(&self.log)
            )
        })
    }

    /// Asks with `signal`, and kills what has not ended after `patience`. Already ended is as good.
    pub(super) fn end(&mut self, signal: Signal, patience: Duration) -> Result<()> {
        if self.ended_within(Duration::ZERO)? {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot signal {}", self.name))?;
        if self.ended_within(patience)? {
            return Ok(());
        }
        tracing::warn!(
            "{} did not end within {patience:?} and is killed",
            self.name
        );
        self.child
            .kill()
            .with_context(|| format!("cannot kill {}", self.name))?;
        if !self.ended_within(KILL_LIMIT)? {
            bail!(
                "{} (process {}) does not end even when killed",
                self.name,
                self.child.id()
            );
        }
        Ok(())
    }

    fn ended_within(&mut self, limit: Duration) -> Result<bool> {
        let name = self.name;
        let status = wait::until(limit, || {
            self.child
                .try_wait()
                .with_context(|| format!("cannot watch {name}"))
        })?;
        Ok(status.is_some())
    }
}

/// Forgets a server that has ended by itself, and says how.
pub(super) fn fallen(running: &mut Option<Running>) -> Option<String> {
    let why = running.as_mut()?.check().err()?;
    *running = None;
    Some(format!("{why:#}"))
}

/// Runs a helper program to its end; what it said is the error if it fails.
pub(super) fn run(mut command: Command, what: &str) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {what}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        bail!("{what} failed ({}): {said}", output.status);
    }
    Ok(said)
}

/// The last lines of a log, or nothing.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn a_server_that_ends_by_itself_is_reported_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut running = Nursery::open()
            .unwrap()
            .start(
                "it",
                shell("echo no room here; exit 3"),
                &dir.path().join("log"),
            )
            .unwrap();
        let error = running
            .wait_until(Duration::from_secs(10), || false)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no room here") && error.contains("exit status: 3"),
            "{error}"
        );
    }

    #[test]
    fn a_server_that_ignores_the_signal_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut running = Nursery::open()
            .unwrap()
            .start(
                "it",
                shell("trap '' TERM; echo up; while :; do sleep 1; done"),
                &log,
            )
            .unwrap();
        running
            .wait_until(Duration::from_secs(10), || tail(&log) == "up")
            .unwrap();
        running
            .end(Signal::TERM, Duration::from_millis(50))
            .unwrap();
        running.end(Signal::TERM, Duration::ZERO).unwrap();
    }
}
