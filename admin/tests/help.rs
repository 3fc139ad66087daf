//! The command says what it can do. An integration test of this crate also makes cargo build the command itself, which the
//! end-to-end tests start as a process.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;

// F51
#[test]
fn help_names_every_command() {
    let help = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .arg("--help")
        .output()
        .expect("the command starts");
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success());
    for command in [
        "dev",
        "migrate",
        "api",
        "worker",
        "enqueue",
        "jobs",
        "dead",
        "queues",
        "workers",
        "documents",
        "doctor",
    ] {
        assert!(
            text.lines()
                .any(|line| line.trim_start().starts_with(command)),
            "{command} is missing:\n{text}"
        );
    }
}
