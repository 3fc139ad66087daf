//! Which account the servers run as, and the commands that start programs under it.
//!
//! Invariant: a server never runs as root. Postgres refuses to, and Redis has no need of it. As root we drop to `postgres`
//! or `nobody` with `setpriv`; as anybody else the servers run as that user.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::programs;

/// Tried in this order; `postgres` exists wherever the Debian package is installed.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// Enough for the shells that `initdb` starts. Nothing else of our environment reaches a server: no `PGPORT` that
/// changes its mind, and no secret that its `/proc/…/environ` would show.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How to start a program so that it does not run as root.
#[derive(Debug, Clone)]
pub(super) struct Account {
    /// `None`: as ourselves.
    drop_to: Option<Ids>,
    /// Part of util-linux; absent on macOS.
    setpriv: Option<PathBuf>,
    /// What a server finds in its environment beside the search path and the locale.
    server_env: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy)]
struct Ids {
    user: u32,
    group: u32,
}

impl Account {
    /// Decides by our own user id.
    pub(super) fn for_servers() -> Result<Self> {
        let setpriv = programs::on_path("setpriv");
        if !rustix::process::geteuid().is_root() {
            return Ok(Self {
                drop_to: None,
                setpriv,
                server_env: Vec::new(),
            });
        }
        if setpriv.is_none() {
            bail!(
                "a private Postgres cannot run as root, and `setpriv` (util-linux) is not here to drop to another account; \
                   run this as an ordinary user, or set DATABASE_URL and REDIS_URL"
            );
        }
        let ids = ACCOUNTS.iter().find_map(|name| Ids::of(name));
        let ids = ids.context(
            "a private Postgres cannot run as root, and there is neither an account `postgres` nor `nobody`; run this as an ordinary user",
        )?;
        Ok(Self {
            drop_to: Some(ids),
            setpriv,
            server_env: Vec::new(),
        })
    }

    /// The same account, for a server with this in its environment.
    pub(super) fn with(&self, server_env: &[(String, String)]) -> Self {
        Self {
            server_env: server_env.to_vec(),
            ..self.clone()
        }
    }

    /// Whether the servers run as somebody else, who must be able to reach their files.
    pub(super) fn is_other(&self) -> bool {
        self.drop_to.is_some()
    }

    /// Makes the file or directory belong to the servers' account.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        let Some(ids) = self.drop_to else {
            return Ok(());
        };
        chown(path, Some(ids.user), Some(ids.group)).with_context(|| {
            format!(
                "cannot hand {} over to the servers' account",
                path.display()
            )
        })
    }

    /// A helper program that ends by itself, such as `initdb`.
    pub(super) fn command(&self, program: &Path) -> Command {
        self.with_setpriv(program, &[])
    }

    /// A server: gets `death_signal` from the kernel when the thread that started it is gone.
    pub(super) fn server(&self, program: &Path, death_signal: &str) -> Command {
        let mut command = self.with_setpriv(program, &["--pdeathsig", death_signal]);
        // Ctrl-C in a terminal goes to the whole foreground group; the servers shall outlive the workers' drain.
        command.process_group(0);
        command.envs(self.server_env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn with_setpriv(&self, program: &Path, options: &[&str]) -> Command {
        let mut command = match &self.setpriv {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.arg("--no-new-privs").args(options);
                if let Some(ids) = self.drop_to {
                    command.arg("--reuid").arg(ids.user.to_string());
                    command
                        .arg("--regid")
                        .arg(ids.group.to_string())
                        .arg("--clear-groups");
                }
                command.arg("--").arg(program);
                command
            }
            None => Command::new(program),
        };
        // The working directory of a program under another account must be one that the account can read.
        command
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }
}

impl Ids {
    /// Asks `id`, which knows every source of accounts that this machine uses.
    fn of(name: &str) -> Option<Self> {
        Some(Self {
            user: number_of("-u", name)?,
            group: number_of("-g", name)?,
        })
    }
}

fn number_of(option: &str, name: &str) -> Option<u32> {
    let output = Command::new("id")
        .args([option, name])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .ok()
        .filter(|number| *number != 0)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    #[test]
    fn servers_do_not_run_as_root() {
        let account = Account::for_servers().unwrap();
        let output = account
            .command(Path::new("/usr/bin/id"))
            .arg("-u")
            .output()
            .unwrap();
        assert_ne!(String::from_utf8_lossy(&output.stdout).trim(), "0");
    }

    #[test]
    fn an_unknown_account_has_no_number() {
        assert!(number_of("-u", "no-such-account-here").is_none());
    }
}
