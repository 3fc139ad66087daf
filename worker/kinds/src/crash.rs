//! `crash {"how": "abort|block|exit|oom|overflow", "after_ms": 0}`: kills its worker on purpose, or keeps a thread of it. Only where diagnostics are on.

use std::time::Duration;

use serde::Deserialize;

use millstream_worker::{Context, Handler, Outcome, Success};

/// Memory taken per step of `oom`.
const OOM_STEP_BYTES: usize = 64 * 1024 * 1024;
/// Short, so that it does not take long to see what becomes of `block`.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Exit code of `exit`.
const EXIT_CODE: i32 = 86;

#[derive(Deserialize)]
struct Crash {
    how: How,
    #[serde(default)]
    after_ms: u64,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum How {
    Abort,
    Block,
    Exit,
    Oom,
    Overflow,
}

pub(super) fn handler() -> Handler {
    Handler::new("crash", run).timeout(TIMEOUT)
}

async fn run(_: Context, crash: Crash) -> Outcome {
    tokio::time::sleep(Duration::from_millis(crash.after_ms)).await;
    match crash.how {
        How::Block => loop {
            std::thread::park();
        },
        How::Abort => std::process::abort(),
        How::Exit => std::process::exit(EXIT_CODE),
        How::Oom => eat_memory(),
        How::Overflow => std::mem::drop(std::hint::black_box(overflow(0))),
    }
    Ok(Success::new())
}

/// Touches memory until an allocation fails, which aborts the process, or the kernel ends it.
fn eat_memory() {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1u8; OOM_STEP_BYTES]);
        std::hint::black_box(&eaten);
    }
}

/// Calls itself until the stack is used up, which ends the process.
#[expect(unconditional_recursion, reason = "that is the point")]
fn overflow(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    overflow(depth + 1) + frame[0]
}
