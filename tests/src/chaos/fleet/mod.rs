//! The fleet of a run: a private Postgres and Redis, an API, four producers, three workers, and a supervisor.
//!
//! Invariants: every process has a name of its own in each life, its journal and the record of its death carry it; a process
//! that dies is started again, as systemd would; all of them end with this value, or with the run if that is killed.

mod alter;
mod ask;
mod setup;
mod slot;
mod spawn;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use millstream_local::LocalServices;
use rustix::process::Signal;
use tokio::task::JoinHandle;

pub use self::{
    setup::Settings,
    slot::{Death, Spec},
};
use self::{slot::Slot, spawn::Nest};
use super::{journal::now, judge::Held, timeline::Timeline};
use crate::faults::Clock;

/// How often the supervisor looks.
const SUPERVISE_EVERY: Duration = Duration::from_millis(50);

/// Variables by which the worker of a run is told what its arguments cannot say.
pub mod variable {
    /// Path of its journal.
    pub const JOURNAL: &str = "CHAOS_JOURNAL";
    /// At which steps a process dies.
    pub const FAILPOINTS: &str = "FAILPOINTS";
    /// How long the longest kind takes.
    pub const LONG_MS: &str = "CHAOS_LONG_MS";
    /// Its address space in bytes, if it has a limit.
    pub const ADDRESS_SPACE: &str = "CHAOS_ADDRESS_SPACE";
    /// A producer's callers give up after at most so many milliseconds.
    pub const PATIENCE_MS: &str = "CHAOS_PATIENCE_MS";
}

/// Everything that runs.
pub struct Fleet {
    /// What was asked for.
    pub settings: Settings,
    /// What happens, for people.
    pub timeline: Arc<Timeline>,
    dir: PathBuf,
    /// Before the servers: the processes end first.
    crew: Arc<Crew>,
    supervisor: JoinHandle<()>,
    services: Arc<LocalServices>,
    /// What the database puts into its keys.
    mark: String,
    clocks: Option<Clocks>,
    alone: AtomicBool,
}

/// Wall clocks of the servers.
struct Clocks {
    postgres: Mutex<Clock>,
    redis: Mutex<Clock>,
}

struct Crew {
    dir: PathBuf,
    nest: Nest,
    slots: Mutex<BTreeMap<String, Slot>>,
    deaths: Mutex<Vec<Death>>,
    held: Mutex<Vec<Held>>,
    complaints: Mutex<Vec<String>>,
    timeline: Arc<Timeline>,
}

impl Fleet {
    /// The folder of the run: journals, logs, timeline.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of the places that begin with this: `worker`, `producer`.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.crew
            .slots()
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Process id of what runs in a place now.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.crew.slots().get(name).and_then(Slot::pid)
    }

    /// The place of a process.
    pub fn name_of(&self, pid: u32) -> Option<String> {
        self.crew
            .slots()
            .iter()
            .find(|(_, slot)| slot.pid() == Some(pid))
            .map(|(name, _)| name.clone())
    }

    /// `kill -9`, and waits until it is gone. The supervisor starts it again.
    pub fn kill9(&self, name: &str) {
        self.timeline.note(&format!("kill -9 {name}"));
        self.crew.bury(name, Slot::kill9);
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str, signal: Signal) {
        self.timeline
            .note(&format!("{} to {name}", signal_name(signal)));
        if let Some(slot) = self.crew.slots().get(name) {
            slot.signal(signal);
        }
    }

    /// The journal's name of the process that runs in a place now, or ran last.
    pub fn process(&self, name: &str) -> Option<String> {
        self.crew.slots().get(name).map(Slot::process)
    }

    /// An act during which the process in a place stands still, or is cut off, for so long that others may take its work: the judge
    /// is told, and excuses what follows from that.
    pub async fn held<T>(&self, name: &str, act: impl Future<Output = T>) -> T {
        let (process, from) = (self.process(name), now());
        let done = act.await;
        locked(&self.crew.held).extend(process.map(|process| Held {
            process,
            from,
            to: now(),
        }));
        done
    }

    /// Processes that stood still, so far.
    pub fn all_held(&self) -> Vec<Held> {
        locked(&self.crew.held).clone()
    }

    /// Waits until the process that runs in a place now has ended by itself, and returns its exit code; `None` after the bound.
    pub async fn ended(&self, name: &str, within: Duration) -> Option<Death> {
        let process = self.process(name)?;
        let found = async {
            loop {
                if let Some(death) = self
                    .deaths()
                    .into_iter()
                    .find(|death| death.process == process)
                {
                    return death;
                }
                tokio::time::sleep(SUPERVISE_EVERY).await;
            }
        };
        tokio::time::timeout(within, found).await.ok()
    }

    /// Waits until a process runs in a place.
    pub async fn until_started(&self, name: &str) {
        while self.pid(name).is_none() {
            tokio::time::sleep(SUPERVISE_EVERY).await;
        }
    }

    /// Whether one case is under way, which may then expect more than the invariants.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// Says whether one case is under way.
    pub fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Relaxed);
    }

    /// Ends the processes of some places in order (SIGTERM), and by force after the bound; they stay down.
    pub async fn end(&self, prefix: &str, within: Duration) {
        let names = self.names(prefix);
        for name in &names {
            if let Some(slot) = self.crew.slots().get_mut(name) {
                slot.wanted = false;
                slot.signal(Signal::CONT);
                slot.signal(Signal::TERM);
            }
        }
        let gone = async {
            while names.iter().any(|name| self.pid(name).is_some()) {
                tokio::time::sleep(SUPERVISE_EVERY).await;
            }
        };
        if tokio::time::timeout(within, gone).await.is_err() {
            for name in names.iter().filter(|name| self.pid(name).is_some()) {
                self.complain(format!(
                    "{name} did not end within {} s of SIGTERM",
                    within.as_secs()
                ));
                self.kill9(name);
            }
        }
    }

    /// Lets every process go on that a fault may have frozen.
    pub fn thaw(&self, prefix: &str) {
        self.crew
            .slots()
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .for_each(|(_, slot)| slot.signal(Signal::CONT));
    }

    /// Everything that died so far.
    pub fn deaths(&self) -> Vec<Death> {
        locked(&self.crew.deaths).clone()
    }

    /// What a case found wrong by itself: it fails the run.
    pub fn complain(&self, text: String) {
        self.timeline.note(&format!("WRONG: {text}"));
        locked(&self.crew.complaints).push(text);
    }

    /// What cases found wrong.
    pub fn complaints(&self) -> Vec<String> {
        locked(&self.crew.complaints).clone()
    }

    /// Does something to the private servers, on a thread that may block.
    pub async fn servers<T: Send + 'static>(
        &self,
        act: impl FnOnce(&LocalServices) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let services = self.services.clone();
        tokio::task::spawn_blocking(move || act(&services))
            .await
            .context("the act on the servers panicked")?
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.supervisor.abort();
        for slot in self.crew.slots().values_mut() {
            slot.wanted = false;
            slot.kill9();
        }
    }
}

impl Crew {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        locked(&self.slots)
    }

    fn bury(&self, name: &str, how: impl FnOnce(&mut Slot) -> Option<Death>) -> bool {
        let death = self.slots().get_mut(name).and_then(how);
        let found = death.is_some();
        locked(&self.deaths).extend(death);
        found
    }

    /// Reaps and restarts for ever.
    async fn supervise(self: Arc<Self>) {
        loop {
            let names: Vec<String> = self.slots().keys().cloned().collect();
            for name in names {
                if self.bury(&name, Slot::reap) {
                    let code = locked(&self.deaths).last().and_then(|death| death.code);
                    self.timeline
                        .note(&format!("{name} ended, exit code {code:?}"));
                }
                let mut slots = self.slots();
                if let Some(slot) = slots.get_mut(&name).filter(|slot| slot.is_due())
                    && let Err(e) = slot.start(&self.dir, &self.nest)
                {
                    self.timeline.note(&format!("{name} does not start: {e:#}"));
                }
            }
            tokio::time::sleep(SUPERVISE_EVERY).await;
        }
    }
}

fn signal_name(signal: Signal) -> String {
    format!("{signal:?}")
        .replace("Signal::", "SIG")
        .replace('"', "")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
