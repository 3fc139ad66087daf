//! The worker processes of `millstream dev`: started, watched, started again, stopped.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use millstream_common::config::Config;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{process::Child, sync::Mutex};
use tokio_util::sync::CancellationToken;

use super::super::{Failure, child::this_program_as_a_worker};

/// How often the crew is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Longer than the grace period: then a worker is killed.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// All workers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Crew {
    members: Arc<Mutex<Vec<Member>>>,
    config: Arc<Config>,
}

struct Member {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Crew {
    /// Starts `count` workers that log into `log_dir`.
    pub(super) fn start(count: u32, config: &Config, log_dir: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(log_dir)?;
        let mut members = Vec::new();
        for number in 1..=count {
            let name = format!("dev-{number}");
            let log = log_dir.join(format!("{name}.log"));
            members.push(Member { child: spawn(&name, &log, config)?, name, log });
        }
        Ok(Self { members: Arc::new(Mutex::new(members)), config: Arc::new(config.clone()) })
    }

    /// Starts a worker that has died again, until told to end.
    pub(super) async fn supervise(self, end: CancellationToken) {
        while !end.is_cancelled() {
            for member in self.members.lock().await.iter_mut() {
                if let Ok(Some(status)) = member.child.try_wait() {
                    tracing::warn!(worker = member.name, %status, "a worker has ended; it is started again");
                    match spawn(&member.name, &member.log, &self.config) {
                        Ok(child) => member.child = child,
                        Err(error) => tracing::error!(worker = member.name, %error, "it could not be started"),
                    }
                }
            }
            tokio::select! { () = tokio::time::sleep(LOOK) => {}, () = end.cancelled() => {} }
        }
    }

    /// SIGTERM, the grace period, SIGKILL.
    pub(super) async fn stop(&self) {
        let mut members = self.members.lock().await;
        for member in members.iter() {
            if let Some(pid) = member.child.id().and_then(|id| Pid::from_raw(id as i32)) {
                // It may have ended by itself meanwhile.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        for member in members.iter_mut() {
            let patience = self.config.worker.grace() + STOP_MARGIN;
            if tokio::time::timeout(patience, member.child.wait()).await.is_err() {
                tracing::warn!(worker = member.name, "a worker did not stop in time and is killed");
                drop(member.child.kill().await);
            }
        }
    }
}

fn spawn(name: &str, log: &Path, config: &Config) -> std::io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    this_program_as_a_worker(config)?.args(["--name", name]).stdout(log.try_clone()?).stderr(log).spawn()
}
