//! The programs that the document pipeline starts, on this machine.

use std::{collections::BTreeSet, path::Path, time::Duration};

use millstream_common::config::{search_path, tessdata_dir};
use millstream_documents::{
    NEEDS,
    tools::{sandbox::Launcher, tool::Tool},
};
use tokio::process::Command;

use super::{Check, Invocation};

/// A tool that cannot tell its version in this time will not read a page either.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) async fn check(context: &Invocation) -> Vec<Check> {
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
    if let Ok(program) = Tool::Tesseract.find_in(&search_path()) {
        checks.push(languages(&program, &context.config.documents.ocr_languages).await);
    }
    checks.push(isolation());
    checks
}

/// Whether Tesseract has the data of the languages that it is to read, and of orientation.
async fn languages(program: &Path, wanted: &str) -> Check {
    let name = "OCR languages";
    let place = tessdata_dir().map_or_else(
        || "where Tesseract was installed".to_owned(),
        |dir| format!("in TESSDATA_PREFIX={}", dir.display()),
    );
    let found = printed(program, "--list-langs").await.unwrap_or_default();
    let found: BTreeSet<&str> = found.lines().skip(1).map(str::trim).collect();
    let missing: Vec<&str> = wanted
        .split('+')
        .filter(|language| !found.contains(language))
        .collect();
    if !missing.is_empty() {
        let advice = "install their packages (tesseract-ocr-LANGUAGE), or set MILLSTREAM_DOCUMENTS__OCR_LANGUAGES or TESSDATA_PREFIX";
        return Check::warn(
            name,
            format!("no data of {} {place}", missing.join(", ")),
            advice,
        );
    }
    let advice = "install tesseract-ocr-osd: without it turned pages are found by trial, if at all";
    Check::warn_unless(
        found.contains("osd"),
        name,
        format!(
            "{wanted} {place}{}",
            if found.contains("osd") {
                ", with osd"
            } else {
                ", no osd"
            }
        ),
        advice,
    )
}

/// What a program that a hostile file has taken over could do here.
fn isolation() -> Check {
    let gaps = Launcher::ourselves().tried().1.gaps();
    if gaps.is_empty() {
        let closed = "no network, no files but their own and the system's, no signals, no life beyond the worker (Landlock, seccomp)";
        return Check::ok("isolation of tools", closed);
    }
    let advice = "use a Linux kernel with Landlock (5.13 or newer) and seccomp, or run workers for documents where there is nothing to steal";
    Check::warn(
        "isolation of tools",
        format!("a document that takes one over can {}", gaps.join(", ")),
        advice,
    )
}

/// What a worker on this machine leaves to others.
fn without(tool: Tool) -> String {
    let kinds: Vec<&str> = NEEDS
        .iter()
        .filter(|(_, tools)| tools.contains(&tool))
        .map(|(kind, _)| *kind)
        .collect();
    format!("workers on this machine do not take {}", kinds.join(", "))
}

/// The first line that the tool prints; poppler prints it to stderr.
async fn version(tool: Tool, program: &Path) -> Option<String> {
    let argument = if tool == Tool::Tesseract {
        "--version"
    } else {
        "-v"
    };
    printed(program, argument)
        .await?
        .lines()
        .next()
        .map(|line| line.trim().to_owned())
}

/// All that it prints to stdout, or else to stderr.
async fn printed(program: &Path, argument: &str) -> Option<String> {
    let mut command = Command::new(program);
    let run = command.arg(argument).kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, run).await.ok()?.ok()?;
    let text = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    Some(String::from_utf8_lossy(&text).into_owned())
}
