//! The programs that the document pipeline starts.

use std::time::Duration;

use tokio::process::Command;

use super::Check;

/// A tool that cannot tell its version in this time will not read a page either.
const DEADLINE: Duration = Duration::from_secs(5);

/// The program, how it is asked for its version, and how it is installed on Debian and Ubuntu.
const TOOLS: [(&str, &str, &str); 4] = [
    ("pdftotext", "-v", "apt-get install poppler-utils"),
    ("pdfimages", "-v", "apt-get install poppler-utils"),
    ("pdfinfo", "-v", "apt-get install poppler-utils"),
    ("tesseract", "--version", "apt-get install tesseract-ocr"),
];

pub(super) async fn check() -> Vec<Check> {
    let mut checks = Vec::new();
    for (tool, argument, install) in TOOLS {
        checks.push(match version(tool, argument).await {
            Some(version) => Check::ok(tool, version),
            None => Check::warn(tool, "not found on PATH", format!("workers on this machine cannot run documents: {install}")),
        });
    }
    checks
}

/// The first line that the tool prints; poppler prints it to stderr.
async fn version(tool: &str, argument: &str) -> Option<String> {
    let mut command = Command::new(tool);
    let run = command.arg(argument).kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, run).await.ok()?.ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned())
}
