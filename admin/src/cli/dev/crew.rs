//! The worker processes of `millstream dev`: started, watched, started again, stopped.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use millstream_common::config::Config;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{process::Child, sync::Mutex};
use tokio_util::sync::CancellationToken;

use super::{
    super::{CommandError, child::this_program_as_a_worker},
    files::failed,
    scrape::Scrape,
};

/// How often the crew is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Logs are for this user alone.
const LOG_MODE: u32 = 0o600;
/// Longer than the grace period: then a worker is killed.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// All workers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Crew {
    members: Arc<Mutex<Vec<Member>>>,
    config: Arc<Config>,
    scrape: Scrape,
}

struct Member {
    name: String,
    log: PathBuf,
    running: Running,
}

/// One process and where it tells how it is.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Crew {
    /// Starts `count` workers that log into `log_dir` and are scraped.
    pub(super) async fn start(
        count: u32,
        config: &Config,
        log_dir: &Path,
        scrape: Scrape,
    ) -> Result<Self, CommandError> {
        let mut members = Vec::new();
        for number in 1..=count {
            let name = format!("dev-{number}");
            let log = log_dir.join(format!("{name}.log"));
            members.push(Member {
                running: spawn(&name, &log, config, None)?,
                name,
                log,
            });
        }
        let crew = Self {
            members: Arc::new(Mutex::new(members)),
            config: Arc::new(config.clone()),
            scrape,
        };
        crew.tell_addresses().await?;
        Ok(crew)
    }

    /// Name and address of every worker, as they are now.
    pub(super) async fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.members
            .lock()
            .await
            .iter()
            .map(|member| (member.name.clone(), member.running.address))
            .collect()
    }

    async fn tell_addresses(&self) -> Result<(), CommandError> {
        let addresses: Vec<_> = self
            .addresses()
            .await
            .into_iter()
            .map(|(_, address)| address)
            .collect();
        self.scrape.workers(&addresses)
    }

    /// Starts a worker that has died again, until told to end.
    pub(super) async fn supervise(self, end: CancellationToken) {
        while !end.is_cancelled() {
            if self.start_again().await
                && let Err(error) = self.tell_addresses().await
            {
                tracing::warn!(%error, "Prometheus cannot be told where a worker is now");
            }
            tokio::select! { () = tokio::time::sleep(LOOK) => {}, () = end.cancelled() => {} }
        }
    }

    /// Starts those that have ended. Returns whether there were any.
    async fn start_again(&self) -> bool {
        let mut started = false;
        for member in self.members.lock().await.iter_mut() {
            if let Ok(Some(status)) = member.running.child.try_wait() {
                let before = Some(member.running.address);
                match spawn(&member.name, &member.log, &self.config, before) {
                    Ok(running) => {
                        tracing::warn!(worker = member.name, %status, metrics = %running.address, "a worker has ended; it is started again");
                        (member.running, started) = (running, true);
                    }
                    Err(error) => {
                        tracing::error!(worker = member.name, %error, "it could not be started");
                    }
                }
            }
        }
        started
    }

    /// SIGTERM, the grace period, SIGKILL.
    pub(super) async fn stop(&self) {
        let mut members = self.members.lock().await;
        for member in members.iter() {
            if let Some(pid) = member
                .running
                .child
                .id()
                .and_then(|id| Pid::from_raw(id as i32))
            {
                // It may have ended by itself meanwhile.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        for member in members.iter_mut() {
            let patience = self.config.worker.grace() + STOP_MARGIN;
            if tokio::time::timeout(patience, member.running.child.wait())
                .await
                .is_err()
            {
                tracing::warn!(
                    worker = member.name,
                    "a worker did not stop in time and is killed"
                );
                drop(member.running.child.kill().await);
            }
        }
    }
}

/// At the address of before, which people and Prometheus know, unless somebody has taken it meanwhile.
fn spawn(
    name: &str,
    log: &Path,
    config: &Config,
    before: Option<SocketAddr>,
) -> Result<Running, CommandError> {
    let address = before
        .filter(|address| TcpListener::bind(address).is_ok())
        .map_or_else(free_address, Ok)?;
    let file = File::options()
        .create(true)
        .append(true)
        .mode(LOG_MODE)
        .open(log)
        .map_err(|e| failed("open", log, &e))?;
    let mut command = this_program_as_a_worker(config)?;
    command
        .args(["--name", name, "--listen", &address.to_string()])
        .stdout(file.try_clone()?)
        .stderr(file);
    Ok(Running {
        child: command.spawn()?,
        address,
    })
}

/// Free at this moment. The worker itself binds it a moment later.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
