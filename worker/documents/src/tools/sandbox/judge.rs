//! Tells apart why a child process ended: by itself, at which limit, by a crash, or by somebody else's hand.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::super::error::{ToolError, clean, code};
use super::Limits;

// The numbers are the same on Linux and macOS.
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// What programs say when the address space is used up, each before it ends in its own way.
const OUT_OF_MEMORY: [&str; 6] = [
    "bad_alloc",
    "memory exhausted",
    "Out of memory",
    "out of memory",
    "cannot allocate memory",
    "Cannot allocate memory",
];

/// The exit code of a program that ended by itself, else the reason why it did not.
pub(super) fn exit_code(
    name: &str,
    status: ExitStatus,
    stderr: &str,
    elapsed: Duration,
    limits: &Limits,
) -> Result<i32, ToolError> {
    #[cfg(target_os = "linux")]
    if status.code() == Some(super::confine::FAILED.into())
        && stderr.starts_with(super::confine::COMPLAINT)
    {
        return Err(ToolError::shortage(stderr));
    }
    let ended_well = status.success();
    if !ended_well && OUT_OF_MEMORY.iter().any(|words| stderr.contains(words)) {
        return Err(memory_exceeded(name, limits));
    }
    match status.signal() {
        None => Ok(status.code().unwrap_or(-1)),
        Some(SIGXCPU) => Err(cpu_exceeded(name, limits)),
        // The hard CPU limit kills too; only a program that ran that long can have met it.
        Some(SIGKILL) if elapsed.as_secs() >= limits.cpu_s => Err(cpu_exceeded(name, limits)),
        Some(SIGXFSZ) => Err(file_exceeded(name, limits)),
        // Neither a limit of ours nor the program's own doing: it is what a machine or container without memory does.
        Some(SIGKILL) => Err(ToolError::shortage(&format!(
            "{name} was killed from outside, as it happens when a machine has no memory left"
        ))),
        Some(signal @ (SIGHUP | SIGINT | SIGTERM)) => Err(ToolError::transient(&format!(
            "{name} was stopped from outside (signal {signal})"
        ))),
        Some(signal) => Err(ToolError::document(
            code::TOOL_CRASHED,
            &format!(
                "{name} crashed on this file (signal {signal}){}",
                quoted(stderr)
            ),
        )),
    }
}

/// More printed than allowed.
pub(super) fn output_exceeded(name: &str, limits: &Limits) -> ToolError {
    exceeded(
        code::LIMIT_OUTPUT,
        name,
        "output",
        &format!("{} KiB", limits.stdout_bytes_max / 1024),
    )
}

/// More time on the clock than allowed.
pub(super) fn time_exceeded(name: &str, limits: &Limits) -> ToolError {
    exceeded(
        code::LIMIT_TIME,
        name,
        "time",
        &format!("{} s", limits.wall.as_secs_f32()),
    )
}

fn cpu_exceeded(name: &str, limits: &Limits) -> ToolError {
    exceeded(
        code::LIMIT_CPU,
        name,
        "CPU time",
        &format!("{} s", limits.cpu_s),
    )
}

fn memory_exceeded(name: &str, limits: &Limits) -> ToolError {
    exceeded(
        code::LIMIT_MEMORY,
        name,
        "memory",
        &format!("{} MiB", limits.memory_bytes_max / (1024 * 1024)),
    )
}

fn file_exceeded(name: &str, limits: &Limits) -> ToolError {
    exceeded(
        code::LIMIT_FILE_SIZE,
        name,
        "file size",
        &format!("{} KiB", limits.file_bytes_max / 1024),
    )
}

fn exceeded(code: &'static str, name: &str, what: &str, limit: &str) -> ToolError {
    ToolError::document(
        code,
        &format!("{name} exceeded its {what} limit of {limit} on this file"),
    )
}

/// The first complaint, if there is one, as the end of a sentence.
fn quoted(stderr: &str) -> String {
    stderr
        .lines()
        .find(|line| !line.trim().is_empty())
        .map(|line| format!(": {}", clean(line)))
        .unwrap_or_default()
}
