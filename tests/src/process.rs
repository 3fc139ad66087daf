//! The real command as a child process, for tests that kill, stop and watch it.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use millstream_common::config::Config;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Lab, servers::built};

/// A running `millstream`; killed when dropped.
pub struct Process(Child);

impl Process {
    /// Starts `millstream ARGS…` against the lab.
    pub fn start(lab: &Lab, args: &[&str]) -> Self {
        let child = command(lab, args)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the command starts");
        Self(child)
    }

    /// Starts another program with the settings of `millstream` in its environment.
    pub fn start_program(lab: &Lab, program: &str, args: &[&str]) -> Self {
        Self::start_program_in(&lab.config, program, args, &[])
    }

    /// The same with other settings than the lab's, and with more in its environment.
    pub fn start_program_in(
        config: &Config,
        program: &str,
        args: &[&str],
        env: &[(String, String)],
    ) -> Self {
        let mut own = Command::new(built(program));
        own.args(args)
            .envs(env.iter().map(|(name, value)| (name, value)));
        let command = with_settings(own, config)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        Self(command.expect("the program starts"))
    }

    /// The same with other settings than the lab's, and with more in its environment.
    pub fn start_in(config: &Config, args: &[&str], env: &[(String, String)]) -> Self {
        let mut command = command_in(config, args);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        Self(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::inherit())
                .spawn()
                .expect("the command starts"),
        )
    }

    /// The same with what it says in a file.
    pub fn start_logging(lab: &Lab, args: &[&str], log: &Path) -> Self {
        let file = File::create(log).expect("a log file");
        let child = command(lab, args)
            .env("MILLSTREAM_LOG", "info")
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the command starts");
        Self(child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // It may have ended already: then there is nothing to tell it.
        let _ = kill_process(Pid::from_child(&self.0), signal);
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0
            .try_wait()
            .expect("a child can be waited for")
            .is_some()
    }

    /// Waits for the end and returns the exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        crate::eventually("the process ends", async || {
            self.0.try_wait().expect("a child can be waited for")
        })
        .await
        .code()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status
            .lines()
            .find(|l| l.starts_with("VmRSS:"))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|kb| kb.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Runs `millstream ARGS…` to its end.
pub async fn run(lab: &Lab, args: &[&str]) -> Output {
    run_in(&lab.config, args).await
}

/// The same with other settings than a lab's.
pub async fn run_in(config: &Config, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(command_in(config, args));
    let running = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(Duration::from_mins(2), running)
        .await
        .expect("the command ends")
        .expect("the command starts")
}

/// The command with this lab's settings in its environment and nothing else of ours.
pub fn command(lab: &Lab, args: &[&str]) -> Command {
    command_in(&lab.config, args)
}

/// The command with these settings.
fn command_in(config: &Config, args: &[&str]) -> Command {
    let mut command = Command::new(built("millstream"));
    command.args(args);
    with_settings(command, config)
}

fn with_settings(mut command: Command, config: &Config) -> Command {
    command
        .env("DATABASE_URL", config.database.url.expose())
        .env("REDIS_URL", config.redis.url.expose())
        .env("MILLSTREAM_REDIS__PREFIX", &config.redis.prefix)
        .env("MILLSTREAM_OBJECTS__URL", &config.objects.url)
        .env("MILLSTREAM_API__TOKEN", config.api.token.expose())
        .env(
            "MILLSTREAM_WORKER__LEASE_MS",
            config.worker.lease_ms.to_string(),
        )
        .env(
            "MILLSTREAM_WORKER__GRACE_MS",
            config.worker.grace_ms.to_string(),
        )
        .env(
            "MILLSTREAM_WORKER__CHILD_MEMORY_BYTES",
            config.worker.child_memory_bytes.to_string(),
        )
        .env("MILLSTREAM_DIAGNOSTICS", config.diagnostics.to_string())
        .env(
            "MILLSTREAM_LOG",
            std::env::var("TEST_LOG").unwrap_or_else(|_| "warn".into()),
        );
    command
}
