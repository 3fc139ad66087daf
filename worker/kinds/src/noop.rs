//! `noop`: does nothing. Measures what a job costs.

use serde::de::IgnoredAny;

use millstream_worker::{Context, Handler, Outcome, Success};

pub(super) fn handler() -> Handler {
    Handler::new("noop", run)
}

async fn run(_: Context, _: IgnoredAny) -> Outcome {
    Ok(Success::new())
}
