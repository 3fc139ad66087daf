//! The private Postgres: made once by `initdb`, then started on a loopback port with settings on its command line.
//!
//! Invariants: the data directory appears under its name only when it is complete; one superuser and one database, both
//! `millstream`; passwords are asked for even on loopback, because other users of the machine can reach the port.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::account::Account;
use super::process::{self, Nursery, Running};
use super::programs::{self, PostgresPrograms};
use super::state::{State, write_private};
use super::{Durability, leftovers, place, probe, turn_log};

/// The superuser and the database.
const NAME: &str = "millstream";
/// Recovery after a crash reads up to `max_wal_size` again; everything shorter is far below this.
const START_LIMIT: Duration = Duration::from_mins(2);
/// The shutdown checkpoint writes at most `shared_buffers`.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Room for many test processes or a fleet of workers, each with a small pool.
const CONNECTIONS_MAX: u32 = 200;
/// Holds the hot tables of a developer's machine, without being felt by the rest of it.
const SHARED_BUFFERS: &str = "256MB";
/// Few checkpoints during a load run: each one makes full page images anew.
const WAL_SIZE_MAX: &str = "4GB";

/// How a Postgres is brought down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresStop {
    /// Clients are cut off, then everything is written: no recovery at the next start.
    Fast,
    /// All processes end at once, as after `pg_ctl stop -m immediate`: recovery at the next start.
    Immediate,
    /// SIGKILL to the postmaster, as the out-of-memory killer does it: recovery at the next start.
    Kill9,
}

/// The private Postgres of one directory, running or not.
#[derive(Debug)]
pub(super) struct Postgres {
    programs: PostgresPrograms,
    account: Account,
    nursery: Nursery,
    dir: PathBuf,
    port: u16,
    password: String,
    settings: Vec<String>,
    running: Option<Running>,
}

impl Postgres {
    /// Finds the programs and makes the data directory if it is not there; does not start the server.
    pub(super) fn prepare(
        dir: &Path,
        account: Account,
        nursery: Nursery,
        durability: Durability,
        state: &State,
    ) -> Result<Self> {
        let data = dir.join("postgres");
        let programs = programs::postgres(major_of(&data)?)?;
        let mut postgres = Self {
            programs,
            account,
            nursery,
            dir: dir.to_owned(),
            port: state.postgres_port,
            password: state.postgres_password.clone(),
            settings: settings(durability),
            running: None,
        };
        if !data.exists() {
            postgres.initialise(durability)?;
        }
        if postgres.takes("wal_compression=lz4") {
            postgres.settings.push("wal_compression=lz4".to_owned());
        }
        if durability == Durability::Full && postgres.programs.has_library("pg_stat_statements") {
            postgres
                .settings
                .push("shared_preload_libraries=pg_stat_statements".to_owned());
        }
        Ok(postgres)
    }

    pub(super) fn url(&self) -> String {
        format!(
            "postgres://{NAME}:{}@127.0.0.1:{}/{NAME}",
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

    /// Starts and waits until it takes connections.
    pub(super) fn start(&mut self) -> Result<()> {
        if self.running.is_some() {
            bail!("the private Postgres is running already");
        }
        // After a kill the children of the old postmaster may still be there; a new one refuses to start beside them.
        leftovers::clear_postgres(&self.dir)?;
        let log = self.dir.join("postgres.log");
        turn_log(&log)?;
        let mut command = self
            .account
            .server(&self.programs.program("postgres"), "INT");
        command.arg("-D").arg(self.data());
        command.arg("-c").arg(format!("port={}", self.port));
        with_settings(&mut command, &self.settings);
        let mut running = self.nursery.start("Postgres", command, &log)?;
        let port = self.port;
        let ready = running.wait_until(START_LIMIT, || probe::postgres_answers(port, NAME, NAME));
        if ready.is_err() {
            running.end(Signal::QUIT, STOP_LIMIT)?;
        } else {
            self.running = Some(running);
        }
        ready
    }

    pub(super) fn stop(&mut self, how: PostgresStop) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        running.end(how.signal(), STOP_LIMIT)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    /// Works beside the final place and renames at the end: an interrupted `initdb` leaves nothing that looks finished.
    fn initialise(&self, durability: Durability) -> Result<()> {
        let draft = self.dir.join("postgres.new");
        place::remove_tree(&draft)?;
        place::server_dir(&draft, &self.account)?;
        let password_file = self.dir.join("postgres.password");
        write_private(&password_file, self.password.as_bytes())?;
        let made = self
            .account
            .own(&password_file)
            .and_then(|()| self.run_initdb(&draft, &password_file, durability));
        fs::remove_file(&password_file).context("cannot remove the password file of initdb")?;
        made?;
        self.create_database(&draft)?;
        fs::rename(&draft, self.data()).context("cannot move the new data directory into place")
    }

    fn run_initdb(&self, data: &Path, password_file: &Path, durability: Durability) -> Result<()> {
        // Upper and lower case beyond ASCII need a locale that knows them; macOS has no C.UTF-8.
        let locale = if cfg!(target_os = "macos") {
            "en_US.UTF-8"
        } else {
            "C.UTF-8"
        };
        let mut command = self.account.command(&self.programs.program("initdb"));
        command.arg("-D").arg(data).args([
            "-U",
            NAME,
            "-E",
            "UTF8",
            "--auth=scram-sha-256",
            "--locale",
            locale,
        ]);
        command.arg("--pwfile").arg(password_file);
        match durability {
            Durability::Full => command.arg("--data-checksums"),
            Durability::None => command.arg("--no-sync"),
        };
        process::run(command, "initdb").map(drop)
    }

    /// In single-user mode, which needs no port, no password and no client program.
    fn create_database(&self, data: &Path) -> Result<()> {
        let mut command = self.account.command(&self.programs.program("postgres"));
        command.arg("--single").arg("-D").arg(data);
        with_settings(&mut command, &self.settings);
        command
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start postgres --single")?;
        if let Some(mut stdin) = child.stdin.take() {
            writeln!(stdin, "CREATE DATABASE {NAME}").context("postgres --single does not read")?;
        }
        let output = child
            .wait_with_output()
            .context("cannot wait for postgres --single")?;
        let said = String::from_utf8_lossy(&output.stderr);
        // It exits with 0 after a failed statement.
        if !output.status.success() || said.contains("ERROR:") {
            bail!("creating the database failed: {}", said.trim());
        }
        Ok(())
    }

    /// Whether this build knows the value of a setting.
    fn takes(&self, setting: &str) -> bool {
        let name = setting.split('=').next().unwrap_or(setting);
        let mut command = self.account.command(&self.programs.program("postgres"));
        command
            .arg("-D")
            .arg(self.data())
            .args(["-c", setting, "-C", name]);
        process::run(command, "postgres -C").is_ok()
    }
}

impl PostgresStop {
    fn signal(self) -> Signal {
        match self {
            Self::Fast => Signal::INT,
            Self::Immediate => Signal::QUIT,
            Self::Kill9 => Signal::KILL,
        }
    }
}

fn settings(durability: Durability) -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        // The packaged default is a directory of the system's own Postgres.
        "unix_socket_directories=".to_owned(),
        format!("max_connections={CONNECTIONS_MAX}"),
        format!("shared_buffers={SHARED_BUFFERS}"),
        format!("max_wal_size={WAL_SIZE_MAX}"),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
    ];
    if durability == Durability::None {
        settings.extend(
            [
                "fsync=off",
                "synchronous_commit=off",
                "full_page_writes=off",
            ]
            .map(str::to_owned),
        );
    }
    settings
}

fn with_settings(command: &mut Command, settings: &[String]) {
    for setting in settings {
        command.arg("-c").arg(setting);
    }
}

/// The release that wrote a data directory; `None` if there is no such directory.
fn major_of(data: &Path) -> Result<Option<u32>> {
    if !data.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(data.join("PG_VERSION")).with_context(|| {
        format!(
            "{} is no data directory of Postgres; remove it",
            data.display()
        )
    })?;
    let major = text
        .trim()
        .parse()
        .with_context(|| format!("{} is damaged; remove it", data.display()))?;
    Ok(Some(major))
}
