//! The process that keeps the shared test servers: the harness starts it, it ends by itself when no test is left.

use std::path::PathBuf;

use anyhow::{Context, Result};
use millstream_local::shared;

fn main() -> Result<()> {
    let dir = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("usage: keeper DIRECTORY")?;
    shared::keep(&dir)
}
