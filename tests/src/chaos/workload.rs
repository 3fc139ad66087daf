//! The work that producers ask for and handlers do: three kinds and their mix, three more that only cases ask for, and what a
//! payload says.

use serde::{Deserialize, Serialize};

use super::{journal::Token, rng::Rng};

/// A job of 5 ms.
pub const QUICK: &str = "chaos.quick";
/// A job of 500 ms.
pub const MIDDLE: &str = "chaos.middle";
/// A job of 20 s, unless the run says otherwise.
pub const LONG: &str = "chaos.long";

/// A job that keeps its thread busy for a while.
pub const HOG: &str = "chaos.hog";
/// A job that never gives its thread back, at its first hand-out.
pub const STUCK: &str = "chaos.stuck";
/// A job that panics at its first attempt.
pub const PANIC: &str = "chaos.panic";

/// Jobs of 500 ms and of 20 s, of ten thousand: 300 a second of this mix keep 11 slots busy, so that two of three workers
/// suffice, with room to catch up.
const MIDDLE_SHARE: u64 = 250;
const LONG_SHARE: u64 = 10;
/// Jobs of a thousand that fail once or twice.
const FAILING: u64 = 50;
/// Jobs of a thousand that have an idempotency key.
const KEYED: u64 = 500;

/// What a handler is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Payload {
    /// The identity of the work, independent of the door and of any id.
    pub token: Token,
    /// Attempts that fail before one succeeds.
    #[serde(default)]
    pub fail: i16,
}

/// One job to ask for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Identity.
    pub token: Token,
    /// Handler.
    pub kind: &'static str,
    /// JSON.
    pub payload: String,
    /// `high`, `medium` or `low`.
    pub priority: &'static str,
    /// With one, an unknown answer is asked again.
    pub key: Option<String>,
}

/// An endless list of jobs, decided by a seed.
#[derive(Debug)]
pub struct Mix {
    rng: Rng,
    next: Token,
}

impl Mix {
    /// Tokens begin at `first`.
    pub fn new(seed: u64, first: Token) -> Self {
        Self {
            rng: Rng::of(seed, &format!("mix {first}")),
            next: first,
        }
    }

    /// The next job.
    pub fn ask(&mut self) -> Ask {
        let token = self.token();
        let kind = match self.rng.below(10_000) {
            n if n < LONG_SHARE => LONG,
            n if n < LONG_SHARE + MIDDLE_SHARE => MIDDLE,
            _ => QUICK,
        };
        let fail = if self.rng.chance(FAILING) {
            1 + self.rng.below(2) as i16
        } else {
            0
        };
        let payload =
            serde_json::to_string(&Payload { token, fail }).expect("a payload serialises");
        let key = self.rng.chance(KEYED).then(|| format!("chaos-{token}"));
        Ask {
            token,
            kind,
            payload,
            priority: self.rng.pick(&["high", "medium", "low"]),
            key,
        }
    }

    /// A token for work that is no job of the mix.
    pub fn token(&mut self) -> Token {
        self.next += 1;
        self.next - 1
    }
}
