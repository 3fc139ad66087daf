//! The worker processes of a figure: started together, seen to work, ended in order.

use std::{
    fs::File,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::{
    super::{CommandError, child::this_program_as_a_worker},
    meter::peak_mb,
    site::Site,
};

/// A worker registers within this time.
const START_MAX: Duration = Duration::from_secs(30);
/// A worker without jobs drains within this time.
const STOP_MAX: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(20);
const ACTIVE: &str =
    "SELECT count(*) FROM millstream.worker WHERE state = 'active' AND name LIKE 'bench-%'";

/// Workers that are there.
pub(super) struct Crew(Vec<Child>);

impl Crew {
    /// Starts so many, for jobs of one kind in the bench's queue, and waits until all have registered. `slots`: at a time, else as configured.
    pub(super) async fn start(
        site: &Site,
        kind: &str,
        count: u32,
        slots: Option<u32>,
    ) -> Result<Self, CommandError> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(site.workers_log())?;
        let mut children = Vec::new();
        for nth in 1..=count {
            let mut command = this_program_as_a_worker(&site.context().config)?;
            command
                .args([
                    "--queues", "bench", "--kinds", kind, "--listen", "", "--name",
                ])
                .arg(format!("bench-{nth}"));
            command.args(
                slots
                    .iter()
                    .flat_map(|slots| ["--concurrency".to_owned(), slots.to_string()]),
            );
            children.push(
                command
                    .env("MILLSTREAM_LOG", "info")
                    .stdout(Stdio::null())
                    .stderr(log.try_clone()?)
                    .spawn()?,
            );
        }
        let crew = Self(children);
        let start = Instant::now();
        while site.number(ACTIVE).await? < i64::from(count) {
            if start.elapsed() > START_MAX {
                let said = std::fs::read_to_string(site.workers_log()).unwrap_or_default();
                let last = said.lines().last().unwrap_or("nothing");
                return Err(CommandError::failed(format!(
                    "the workers did not start within half a minute; the last thing said was: {last}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(crew)
    }

    /// Process ids of those that run.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.0.iter().filter_map(Child::id).collect()
    }

    /// The most memory that one of them ever had.
    pub(super) fn peak_mb(&self) -> Option<f64> {
        self.pids().into_iter().filter_map(peak_mb).reduce(f64::max)
    }

    /// SIGTERM, and waits.
    pub(super) async fn stop(mut self) -> Result<(), CommandError> {
        for pid in self
            .pids()
            .into_iter()
            .filter_map(|pid| Pid::from_raw(pid.cast_signed()))
        {
            // It may have ended by itself meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
        for child in &mut self.0 {
            if tokio::time::timeout(STOP_MAX, child.wait()).await.is_err() {
                return Err(CommandError::failed("a worker did not end within a minute"));
            }
        }
        Ok(())
    }
}
