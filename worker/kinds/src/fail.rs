//! `fail {"times": n, "message": "…", "class": "retry|permanent|rate_limited"}`: fails its first n attempts, always without n.

use serde::Deserialize;

use millstream_worker::{Context, Failure, Handler, Outcome, Success};

#[derive(Deserialize)]
struct Fail {
    times: Option<i32>,
    #[serde(default = "message")]
    message: String,
    #[serde(default)]
    class: Class,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Class {
    #[default]
    Retry,
    Permanent,
    RateLimited,
}

fn message() -> String {
    "failed as asked".into()
}

pub(super) fn handler() -> Handler {
    Handler::new("fail", run)
}

async fn run(context: Context, fail: Fail) -> Outcome {
    // Rate-limited runs use up no attempt, so they are counted by the epoch, which every hand-out raises.
    let runs = match fail.class {
        Class::RateLimited => context.epoch + 1,
        Class::Retry | Class::Permanent => i32::from(context.attempt),
    };
    if fail.times.is_some_and(|times| runs > times) {
        return Ok(Success::new());
    }
    Err(match fail.class {
        Class::Retry => Failure::Retry(fail.message),
        Class::Permanent => Failure::Permanent(fail.message),
        Class::RateLimited => Failure::RateLimited {
            after: None,
            message: fail.message,
        },
    })
}
