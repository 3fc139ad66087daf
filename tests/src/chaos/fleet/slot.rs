//! One place in the fleet: what runs there, its present process, and the processes that died there.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    spawn::{Nest, bound_to_us},
    variable,
};
use crate::chaos::journal::{Micros, now};

/// A supervisor waits a moment before it starts a process again.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// Room for the tokens of one process.
const TOKENS: u64 = 1_000_000_000;

/// How a process is started.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its variables beside those that the run inherits.
    pub env: BTreeMap<String, String>,
    /// Its place among the producers, from 1: its tokens begin there.
    pub producer: Option<u64>,
}

/// The end of a process, after it was reaped.
#[derive(Debug, Clone)]
pub struct Death {
    /// Its journal's name.
    pub process: String,
    /// When.
    pub at: Micros,
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// A fault: `kill -9`, or a failpoint. Not what it was running.
    pub is_fault: bool,
}

/// A place.
pub(super) struct Slot {
    pub(super) spec: Spec,
    /// What a case gives back.
    pub(super) usual: Spec,
    name: String,
    child: Option<Child>,
    incarnation: u64,
    /// The present process was told to die at a step.
    has_failpoint: bool,
    /// The supervisor starts it again when it has died.
    pub(super) wanted: bool,
    died: Option<Instant>,
}

impl Slot {
    pub(super) fn new(name: &str, spec: Spec) -> Self {
        Self {
            usual: spec.clone(),
            spec,
            name: name.to_owned(),
            child: None,
            incarnation: 0,
            has_failpoint: false,
            wanted: true,
            died: None,
        }
    }

    /// The name of the present or last process and its journal.
    pub(super) fn process(&self) -> String {
        format!("{}.{}", self.name, self.incarnation)
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(super) fn start(&mut self, dir: &Path, nest: &Nest) -> Result<()> {
        self.incarnation += 1;
        let journal = dir
            .join("journals")
            .join(format!("{}.journal", self.process()));
        let log = dir.join("logs").join(format!("{}.log", self.name));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let mut command = bound_to_us(&self.spec.program);
        command.args(&self.spec.args);
        if let Some(nth) = self.spec.producer {
            let first = nth * 1000 * TOKENS + self.incarnation * TOKENS;
            command
                .arg("--first-token")
                .arg(first.to_string())
                .arg("--journal")
                .arg(&journal);
        }
        command
            .envs(&self.spec.env)
            .env(variable::JOURNAL, &journal);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.child = Some(nest.start(command)?);
        self.has_failpoint = self.spec.env.contains_key(variable::FAILPOINTS);
        self.died = None;
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // It may have ended already: then there is nothing to tell it.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub(super) fn kill9(&mut self) -> Option<Death> {
        let mut child = self.child.take()?;
        let _ = child.kill();
        let code = child.wait().ok().and_then(|status| status.code());
        Some(self.dead(code, true))
    }

    /// Reaps it if it has ended.
    pub(super) fn reap(&mut self) -> Option<Death> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(self.dead(status.code(), status.code().is_none() && self.has_failpoint))
    }

    fn dead(&mut self, code: Option<i32>, is_fault: bool) -> Death {
        self.died = Some(Instant::now());
        Death {
            process: self.process(),
            at: now(),
            code,
            is_fault,
        }
    }

    /// Whether the supervisor is to start it now.
    pub(super) fn is_due(&self) -> bool {
        self.wanted
            && self.child.is_none()
            && self.died.is_none_or(|died| died.elapsed() >= RESTART_AFTER)
    }
}
