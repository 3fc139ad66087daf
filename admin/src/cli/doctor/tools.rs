//! The programs that the document pipeline starts, on this machine.

use std::{path::Path, time::Duration};

use millstream_common::config::search_path;
use millstream_worker::documents::{
    NEEDS,
    tools::{sandbox::Launcher, tool::Tool},
};
use tokio::process::Command;

use super::Check;

/// A tool that cannot tell its version in this time will not read a page either.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) async fn check() -> Vec<Check> {
    let mut checks = Vec::new();
    for tool in Tool::ALL {
        checks.push(match tool.find_in(&search_path()) {
            Err(missing) => Check::warn(tool.name(), without(tool), missing.to_string()),
            Ok(program) => match version(tool, &program).await {
                Some(version) => Check::ok(tool.name(), version),
                None => Check::warn(
                    tool.name(),
                    "does not tell its version",
                    format!("look at {}: the jobs that need it wait", program.display()),
                ),
            },
        });
    }
    checks.push(isolation());
    checks
}

/// What a program that a hostile file has taken over could do here.
fn isolation() -> Check {
    let gaps = Launcher::ourselves().tried().1.gaps();
    if gaps.is_empty() {
        return Check::ok("isolation of tools", "no network, no files but their own, no life beyond the worker (Landlock, seccomp)");
    }
    let advice =
        "use a Linux kernel with Landlock (5.13 or newer) and seccomp, or run workers for documents where there is nothing to steal";
    Check::warn("isolation of tools", format!("a document that takes one over can {}", gaps.join(", ")), advice)
}

/// What a worker on this machine leaves to others.
fn without(tool: Tool) -> String {
    let kinds: Vec<&str> = NEEDS.iter().filter(|(_, tools)| tools.contains(&tool)).map(|(kind, _)| *kind).collect();
    format!("workers on this machine do not take {}", kinds.join(", "))
}

/// The first line that the tool prints; poppler prints it to stderr.
async fn version(tool: Tool, program: &Path) -> Option<String> {
    let argument = if tool == Tool::Tesseract { "--version" } else { "-v" };
    let mut command = Command::new(program);
    let run = command.arg(argument).kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, run).await.ok()?.ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned())
}
