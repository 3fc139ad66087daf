//! The limits, tried with the shell itself as the program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use super::super::error::code;
use super::*;

const SMALL: Limits = Limits {
    cpu_s: 1,
    memory_bytes_max: 64 * 1024 * 1024,
    file_bytes_max: 4096,
    wall: Duration::from_secs(20),
    stdout_bytes_max: 10_000,
};

async fn shell(script: &str, limits: Limits) -> Result<Finished, ToolError> {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new("/usr/bin:/bin", dir.path());
    sandbox
        .run_program(
            "the tool",
            Path::new("/bin/sh"),
            &["-c".into(), script.into()],
            &limits,
        )
        .await
}

async fn code_of(script: &str, limits: Limits) -> &'static str {
    shell(script, limits)
        .await
        .expect_err("the limit was not met")
        .document_code()
        .expect("a document error")
}

// P4
#[tokio::test]
async fn output_errors_and_exit_code_come_back() {
    let finished = shell("echo out; echo err >&2; exit 3", SMALL)
        .await
        .unwrap();
    assert_eq!(
        (
            finished.exit_code,
            finished.stdout.as_slice(),
            finished.stderr.as_str()
        ),
        (3, &b"out\n"[..], "err\n")
    );
}

// P4
#[tokio::test]
async fn cpu_time_is_limited_and_named() {
    let error = shell("while :; do :; done", SMALL)
        .await
        .expect_err("it never ends");
    assert_eq!(error.document_code(), Some(code::LIMIT_CPU));
    assert_eq!(
        error.to_string(),
        "the tool exceeded its CPU time limit of 1 s on this file"
    );
}

// P4
#[test]
fn x52_every_tool_has_four_times_its_cpu_time_on_the_clock() {
    assert!(
        Limits::ALL
            .iter()
            .all(|limits| limits.wall >= Duration::from_secs(4 * limits.cpu_s))
    );
}

// P4
#[tokio::test]
async fn time_on_the_clock_is_limited() {
    let limits = Limits {
        wall: Duration::from_millis(100),
        ..SMALL
    };
    assert_eq!(code_of("exec sleep 60", limits).await, code::LIMIT_TIME);
}

// P4
#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_is_limited() {
    let script = "exec dd if=/dev/zero of=/dev/null bs=500M count=1";
    assert_eq!(code_of(script, SMALL).await, code::LIMIT_MEMORY);
}

// P4
#[tokio::test]
async fn the_size_of_a_written_file_is_limited() {
    let script = "exec head -c 1000000 /dev/zero > big";
    assert_eq!(code_of(script, SMALL).await, code::LIMIT_FILE_SIZE);
}

// P4
#[tokio::test]
async fn endless_output_is_cut_off() {
    assert_eq!(code_of("exec yes", SMALL).await, code::LIMIT_OUTPUT);
}

// P4
#[tokio::test]
async fn endless_complaints_are_dropped_and_do_not_block() {
    let finished = shell("head -c 3000000 /dev/zero >&2; echo done", SMALL)
        .await
        .unwrap();
    assert_eq!(finished.stdout, b"done\n");
    assert_eq!(finished.stderr.len(), STDERR_BYTES_MAX);
}

// P4
#[tokio::test]
async fn a_crash_is_the_files_fault_and_a_stop_from_outside_is_not() {
    assert_eq!(code_of("kill -SEGV $$", SMALL).await, code::TOOL_CRASHED);
    let error = shell("kill -TERM $$", SMALL)
        .await
        .expect_err("it stops itself");
    assert!(matches!(error, ToolError::Transient { .. }), "{error}");
    let error = shell("kill -KILL $$", SMALL)
        .await
        .expect_err("it kills itself");
    assert!(matches!(error, ToolError::Shortage { .. }), "{error}");
}

// F64
#[tokio::test]
async fn the_child_sees_none_of_our_variables() {
    let finished = shell(
        "env | cut -d= -f1 | grep -v -e '^_$' -e '^PWD$' -e '^OLDPWD$' -e '^SHLVL$' | sort",
        SMALL,
    )
    .await
    .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&finished.stdout),
        "LANG\nOMP_THREAD_LIMIT\nPATH\nTMPDIR\n"
    );
}

// P4
#[tokio::test]
async fn an_argument_is_never_read_by_the_shell() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new("/usr/bin:/bin", dir.path());
    let hostile = "$(touch pwned) ' \" ; -rf *";
    let finished = sandbox
        .run_program(
            "printf",
            Path::new("/usr/bin/printf"),
            &["%s".into(), hostile.into()],
            &SMALL,
        )
        .await;
    assert_eq!(finished.unwrap().stdout, hostile.as_bytes());
    assert!(!dir.path().join("pwned").exists());
}
