//! `echo`: its result is its payload.

use serde_json::value::RawValue;

use millstream_worker::{Context, Handler, Outcome, Success};

pub(super) fn handler() -> Handler {
    Handler::new("echo", run)
}

async fn run(_: Context, payload: Box<RawValue>) -> Outcome {
    Success::with_result(&payload)
}
