//! Ports and passwords of a directory, kept between starts so that URLs stay the same as long as they can.
//!
//! The file holds passwords and is readable by its owner alone.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Below the range from which kernels take the local ports of outgoing connections (32768 on Linux, 49152 on macOS):
/// a client that keeps trying to reach a killed server would otherwise take the port that it is to come back on.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// More than a fourth busy port in a row means that something else is wrong.
const PORT_TRIES_MAX: usize = 4;
/// 128 bits: beyond guessing, and short in a URL.
const PASSWORD_BYTES: usize = 16;

/// What a directory remembers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) postgres_port: u16,
    pub(super) redis_port: u16,
    pub(super) postgres_password: String,
    pub(super) redis_password: String,
}

impl State {
    pub(super) fn load_or_new(dir: &Path) -> Result<Self> {
        let path = dir.join("state.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is damaged; remove {}", path.display(), dir.display())
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let state = Self::new()?;
                // Saved before initdb sets the password, so that no start can be interrupted in between.
                state.save(dir)?;
                Ok(state)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub(super) fn save(&self, dir: &Path) -> Result<()> {
        write_private(&dir.join("state.json"), &serde_json::to_vec_pretty(self)?)
    }

    fn new() -> Result<Self> {
        Ok(Self {
            postgres_port: free_port()?,
            redis_port: free_port()?,
            postgres_password: password()?,
            redis_password: password()?,
        })
    }
}

/// Replaces a file by one that only its owner can read; a reader sees the old or the new content, never a part.
pub(super) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(content)?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Starts on the remembered port, or on another one when somebody has taken it. Between looking and listening a port
/// can still be lost, so a start that fails while its port is busy is tried again on a new one.
pub(super) fn start_on_a_free_port(
    remembered: u16,
    mut start: impl FnMut(u16) -> Result<()>,
) -> Result<u16> {
    let mut port = if is_free(remembered) {
        remembered
    } else {
        free_port()?
    };
    for _ in 1..PORT_TRIES_MAX {
        match start(port) {
            Ok(()) => return Ok(port),
            Err(error) if is_free(port) => return Err(error),
            Err(_) => port = free_port()?,
        }
    }
    start(port).map(|()| port)
}

fn free_port() -> Result<u16> {
    /// Ports of the range are nearly all free; a machine where this many guesses fail has another trouble.
    const GUESSES_MAX: usize = 1000;
    for _ in 0..GUESSES_MAX {
        let guess = u16::from_be_bytes(random()?);
        let port = PORTS.start + guess % (PORTS.end - PORTS.start);
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!(
        "no free port between {} and {} on 127.0.0.1",
        PORTS.start,
        PORTS.end
    )
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Hexadecimal, so that it needs no quoting in a URL, a configuration file or SQL.
fn password() -> Result<String> {
    let bytes: [u8; PASSWORD_BYTES] = random()?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// From the kernel: these are passwords.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.context("cannot read /dev/urandom")?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_a_directory_remembers_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::load_or_new(dir.path()).unwrap();
        let again = State::load_or_new(dir.path()).unwrap();
        assert_eq!(first.postgres_password, again.postgres_password);
        assert_ne!(first.postgres_password, first.redis_password);
        assert_eq!(first.redis_password.len(), 2 * PASSWORD_BYTES);
        let mode = fs::metadata(dir.path().join("state.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_port_that_is_lost_while_starting_is_replaced() {
        let mut listeners = Vec::new();
        let mut ports = Vec::new();
        let port = start_on_a_free_port(free_port().unwrap(), |port| {
            ports.push(port);
            if ports.len() < 3 {
                listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?);
                bail!("address already in use");
            }
            Ok(())
        });
        assert_eq!(port.unwrap(), ports[2]);
    }

    #[test]
    fn a_start_that_fails_for_another_reason_is_not_repeated() {
        let mut starts = 0;
        let error = start_on_a_free_port(free_port().unwrap(), |_| {
            starts += 1;
            bail!("damaged")
        });
        assert!(error.is_err());
        assert_eq!(starts, 1);
    }
}
