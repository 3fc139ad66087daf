//! The private Redis (or Valkey): a configuration file of its own, a loopback port, a password.
//!
//! Invariant: it never evicts (`noeviction`); Millstream refuses to work with a Redis that does.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::Signal;

use super::account::Account;
use super::process::{self, Nursery, Running};
use super::state::{State, write_private};
use super::{Durability, place, probe, programs, turn_log};

/// Loading the append-only file is most of it: some 100 MB a second.
const START_LIMIT: Duration = Duration::from_mins(1);
/// The last part of the append-only file is written on the way out.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The private Redis of one directory, running or not.
#[derive(Debug)]
pub(super) struct Redis {
    program: PathBuf,
    account: Account,
    nursery: Nursery,
    dir: PathBuf,
    port: u16,
    password: String,
    durability: Durability,
    running: Option<Running>,
}

impl Redis {
    /// Finds the program and makes its directory; does not start the server.
    pub(super) fn prepare(
        dir: &Path,
        account: Account,
        nursery: Nursery,
        durability: Durability,
        state: &State,
    ) -> Result<Self> {
        let program = programs::redis()?;
        place::server_dir(&dir.join("redis"), &account)?;
        Ok(Self {
            program,
            account,
            nursery,
            dir: dir.to_owned(),
            port: state.redis_port,
            password: state.redis_password.clone(),
            durability,
            running: None,
        })
    }

    /// With the name of the default user: `redis-cli -u` takes an empty name for a user called "".
    pub(super) fn url(&self) -> String {
        format!(
            "redis://default:{}@127.0.0.1:{}/0",
            self.password, self.port
        )
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    pub(super) fn check(&mut self) -> Result<()> {
        self.running.as_mut().map_or(Ok(()), Running::check)
    }

    /// Why it is not there any more, if it was started and ended by itself; from then on it counts as stopped.
    pub(super) fn fallen(&mut self) -> Option<String> {
        process::fallen(&mut self.running)
    }

    pub(super) fn start_on(&mut self, port: u16) -> Result<()> {
        self.port = port;
        self.start()
    }

    /// Starts and waits until it has loaded its data.
    pub(super) fn start(&mut self) -> Result<()> {
        if self.running.is_some() {
            bail!("the private Redis is running already");
        }
        let data = self.dir.join("redis");
        let config = data.join("redis.conf");
        write_private(&config, self.config().as_bytes())?;
        self.account.own(&config)?;
        let log = self.dir.join("redis.log");
        turn_log(&log)?;
        let mut command = self.account.server(&self.program, "TERM");
        command.arg(&config).current_dir(&data);
        let mut running = self.nursery.start("Redis", command, &log)?;
        let ready = running.wait_until(START_LIMIT, || {
            probe::redis_answers(self.port, &self.password)
        });
        if ready.is_err() {
            running.end(Signal::TERM, STOP_LIMIT)?;
        } else {
            self.running = Some(running);
        }
        ready
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        running.end(Signal::TERM, STOP_LIMIT)
    }

    pub(super) fn kill9(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            bail!("the private Redis is not running")
        };
        running.end(Signal::KILL, STOP_LIMIT)
    }

    /// `dir` stays the working directory: a path would need quoting.
    fn config(&self) -> String {
        let mut config = format!(
            "bind 127.0.0.1\nport {}\nprotected-mode yes\nrequirepass {}\nmaxmemory-policy noeviction\n\
             daemonize no\nlogfile \"\"\nsave \"\"\nproc-title-template \"{{title}} {{config-file}} {{listen-addr}}\"\n",
            self.port, self.password
        );
        let kept = match self.durability {
            Durability::Full => "appendonly yes\nappendfsync everysec\n",
            // DEBUG lets a fault test freeze the server without a signal.
            Durability::None => "appendonly no\nenable-debug-command local\n",
        };
        // Writing to a string cannot fail.
        let _ = config.write_str(kept);
        config
    }
}
