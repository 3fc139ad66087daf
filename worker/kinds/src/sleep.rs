//! `sleep {"ms": n}`: waits, and says how far it is.

use std::time::Duration;

use serde::Deserialize;

use millstream_worker::{Context, Handler, Outcome, Success};

/// Longest sleep: an hour, so that a mistyped number does not hold a slot for ever.
const MS_MAX: u64 = 3_600_000;
/// How often progress is reported.
const STEP: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Sleep {
    ms: u64,
}

pub(super) fn handler() -> Handler {
    Handler::new("sleep", run).timeout(Duration::from_millis(MS_MAX) + STEP)
}

async fn run(context: Context, sleep: Sleep) -> Outcome {
    let whole = Duration::from_millis(sleep.ms.min(MS_MAX));
    let mut left = whole;
    while !left.is_zero() {
        let step = left.min(STEP);
        tokio::time::sleep(step).await;
        left -= step;
        context.progress(
            1.0 - left.as_secs_f32() / whole.as_secs_f32(),
            format!("{} ms left", left.as_millis()),
        );
    }
    Ok(Success::new())
}
