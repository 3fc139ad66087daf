//! The states of a job and the one table of legal transitions (F2).
//!
//! The same table stands in the database as a trigger (`migrations/0002_jobs.up.sql`) and in ARCHITECTURE.md; tests compare all three.

use std::{fmt, str::FromStr};

/// Where a job stands. The numbers are those of `millstream.job.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum State {
    /// Ready to be claimed; a parcel lists it.
    Available = 0,
    /// A worker holds a lease on it. Jobs that end within 200 ms are never written as running.
    Running = 1,
    /// Finished with success. Final.
    Completed = 2,
    /// Due at `ready_at`.
    Scheduled = 3,
    /// Failed, due again at `ready_at`.
    Retryable = 4,
    /// Refused by a rate limit, due again at `ready_at`; no attempt was used.
    RateLimited = 5,
    /// Waits for other jobs.
    Waiting = 6,
    /// Cancelled by a person or its batch. Final.
    Cancelled = 7,
    /// Out of attempts, or failed for good. Only a person's redrive makes it available again.
    Dead = 8,
}

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Available,
        Self::Running,
        Self::Completed,
        Self::Scheduled,
        Self::Retryable,
        Self::RateLimited,
        Self::Waiting,
        Self::Cancelled,
        Self::Dead,
    ];

    /// The state with this number, if there is one.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The number in the database.
    pub fn number(self) -> i16 {
        self as i16
    }

    /// The name in JSON, SQL views and the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Scheduled => "scheduled",
            Self::Retryable => "retryable",
            Self::RateLimited => "rate_limited",
            Self::Waiting => "waiting",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// No worker will run the job again, unless a person redrives it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Dead)
    }

    /// The states that may follow this one. Every other change is refused.
    pub fn next(self) -> &'static [Self] {
        use State::{
            Available, Cancelled, Completed, Dead, RateLimited, Retryable, Running, Scheduled,
        };
        match self {
            Self::Available => &[
                Running,
                Completed,
                Scheduled,
                Retryable,
                RateLimited,
                Cancelled,
                Dead,
            ],
            Self::Running => &[
                Available,
                Completed,
                Scheduled,
                Retryable,
                RateLimited,
                Cancelled,
                Dead,
            ],
            Self::Scheduled | Self::Retryable | Self::RateLimited => &[Available, Cancelled],
            Self::Waiting => &[Available, Scheduled, Cancelled],
            Self::Dead => &[Available],
            Self::Completed | Self::Cancelled => &[],
        }
    }

    /// Whether a job may go from this state to `to`.
    pub fn may_become(self, to: Self) -> bool {
        self.next().contains(&to)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|s| s.name() == text)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|s| s.name()).collect();
                format!("unknown state \"{text}\": use one of {}", known.join(", "))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_are_final_except_for_a_redrive() {
        // F2
        assert!(State::Completed.next().is_empty() && State::Cancelled.next().is_empty());
        assert_eq!(State::Dead.next(), [State::Available]);
    }

    #[test]
    fn numbers_and_names_round_trip() {
        for state in State::ALL {
            assert_eq!(State::from_number(state.number()), Some(state));
            assert_eq!(state.name().parse(), Ok(state));
        }
        assert_eq!(State::from_number(9), None);
        assert!("done".parse::<State>().is_err());
    }
}
