//! What happened when, for people: a line on stdout and in a file as it happens, in seconds since the run began.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use super::journal::{Micros, now};

/// Writes lines with times.
pub struct Timeline {
    began: Micros,
    file: Mutex<File>,
    /// Nothing on stdout: it is for the machine-readable answer.
    quiet: bool,
}

impl Timeline {
    /// Begins now.
    pub fn create(path: &Path, quiet: bool) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            began: now(),
            file: Mutex::new(file),
            quiet,
        })
    }

    /// One line.
    pub fn note(&self, text: &str) {
        let line = format!("{:8.2}  {text}\n", self.seconds(now()));
        // A timeline that cannot be written (a closed pipe) is no reason to end a run.
        let _ = self
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(line.as_bytes());
        if !self.quiet {
            let _ = std::io::stdout().write_all(line.as_bytes());
        }
    }

    /// Seconds from the beginning to a moment.
    pub fn seconds(&self, at: Micros) -> f64 {
        at.saturating_sub(self.began) as f64 / 1e6
    }
}
