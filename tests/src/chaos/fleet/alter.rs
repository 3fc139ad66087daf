//! Processes in another environment for a while: behind a proxy, with another clock, with a failpoint.
//!
//! Invariant: what one case sets it takes back, and nothing else: two cases may alter one process at the same time.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{Clock, Fleet, SUPERVISE_EVERY};
use crate::faults::links::Server;

/// A process that is started again ends and works within this time.
const RESTART_LIMIT: Duration = Duration::from_mins(1);

/// Variables and their values.
pub type Env = [(String, String)];

impl Fleet {
    /// Adds to the environment of a place, from its next start on.
    pub fn set(&self, name: &str, env: &Env) {
        if let Some(slot) = self.crew.slots().get_mut(name) {
            slot.spec.env.extend(env.iter().cloned());
        }
    }

    /// Takes that back, from its next start on.
    pub fn unset(&self, name: &str, env: &Env) {
        if let Some(slot) = self.crew.slots().get_mut(name) {
            for (variable, _) in env {
                match slot.usual.env.get(variable) {
                    Some(usual) => slot.spec.env.insert(variable.clone(), usual.clone()),
                    None => slot.spec.env.remove(variable),
                };
            }
        }
    }

    /// Starts some places again with this in their environment, acts, and starts them again as they were.
    pub async fn altered<T>(
        &self,
        names: &[String],
        env: &Env,
        act: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        for name in names {
            self.set(name, env);
        }
        let done = match self.restart(names).await {
            Ok(()) => act.await,
            Err(e) => Err(e),
        };
        for name in names {
            self.unset(name, env);
        }
        self.restart(names).await?;
        done
    }

    /// Starts places again, in order and at once; the new processes work when this returns.
    async fn restart(&self, names: &[String]) -> Result<()> {
        try_join_all(names.iter().map(|name| self.restart_one(name)))
            .await
            .map(drop)
    }

    async fn restart_one(&self, name: &str) -> Result<()> {
        let before = self.pid(name);
        // The second signal cuts the grace period short; sent at once, the two would be one.
        self.signal(name, Signal::TERM);
        sleep(4 * SUPERVISE_EVERY).await;
        self.signal(name, Signal::TERM);
        let began = Instant::now();
        while self.pid(name).is_none_or(|pid| Some(pid) == before) || !self.works(name).await {
            ensure!(
                began.elapsed() < RESTART_LIMIT,
                "{name} did not start again within {} s",
                RESTART_LIMIT.as_secs()
            );
            sleep(SUPERVISE_EVERY).await;
        }
        Ok(())
    }

    /// A worker works when it is registered, any other process when it runs.
    async fn works(&self, name: &str) -> bool {
        let Some(pid) = self.pid(name).filter(|_| name.starts_with("worker")) else {
            return self.pid(name).is_some();
        };
        let registered = format!(
            "SELECT count(*) FROM millstream.worker WHERE state = 'active' AND pid = {pid}"
        );
        self.number(&registered).await.is_ok_and(|count| count > 0)
    }

    /// Where a worker answers probes.
    pub fn probe_url(&self, name: &str) -> Result<String> {
        let slots = self.crew.slots();
        let listen = slots
            .get(name)
            .and_then(|slot| slot.spec.args.last())
            .with_context(|| format!("there is no {name}"))?;
        Ok(format!("http://{listen}/readyz"))
    }

    /// The wall clock of a server.
    pub fn clock(&self, of: Server) -> Result<MutexGuard<'_, Clock>> {
        let clocks = self
            .clocks
            .as_ref()
            .context("clocks cannot be moved on this machine")?;
        let clock = match of {
            Server::Postgres => &clocks.postgres,
            Server::Redis => &clocks.redis,
        };
        Ok(clock.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
