//! What is asked for ([`NewJob`]) and how it is checked before anything is written (F1, F8).
//!
//! Knows nothing of Postgres or Redis.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike, TimeDelta, Utc};

use crate::{
    error::Refusal,
    id::{BatchId, JobId, new_job_id},
    json,
    limits::KEY_CHARS_MAX,
};

/// A schedule further ahead is a mistake, and beyond some calendars' range.
const RUN_AT_AHEAD_MAX: TimeDelta = TimeDelta::days(36_525);
/// Any time in the past means at once, also the zero time of some languages. Earlier ones are mistakes, and some databases end there.
const RUN_AT_YEAR_MIN: i32 = 1;
/// Partitions are made a week ahead; no honest clock is a day wrong.
const ID_AHEAD_MAX: TimeDelta = TimeDelta::days(1);

/// A `traceparent` has 55 bytes; later versions of it may have more.
const TRACE_BYTES_MAX: usize = 512;

/// How urgent a job is. The numbers are those of `millstream.job.priority`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum Priority {
    /// Read first, three times as often as low.
    High = 0,
    /// The default.
    #[default]
    Medium = 1,
    /// Read last, yet never starved.
    Low = 2,
}

impl Priority {
    /// All priorities, most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Medium, Self::Low];

    /// The number in the database.
    pub fn number(self) -> i16 {
        self as i16
    }

    /// The priority with this number, if there is one.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The name in JSON, keys and the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Priority {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        Self::ALL
            .into_iter()
            .find(|p| p.name() == text)
            .ok_or_else(|| {
                Refusal::Invalid(format!(
                    "unknown priority \"{text}\": use high, medium or low"
                ))
            })
    }
}

/// A job to be enqueued. Names are checked against the catalog, the rest by [`NewJob::check`].
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Made here unless the caller brings one; enqueuing the same id twice writes one row.
    pub id: JobId,
    /// The handler's name.
    pub kind: String,
    /// The queue's name.
    pub queue: String,
    /// The tenant's name.
    pub tenant: String,
    /// How urgent it is.
    pub priority: Priority,
    /// JSON text as [`json::check`] takes it, at most [`PAYLOAD_BYTES_MAX`](crate::limits::PAYLOAD_BYTES_MAX) bytes. It reaches the
    /// handler as it is.
    pub payload: String,
    /// JSON text for people and filters; handlers do not depend on it.
    pub metadata: Option<String>,
    /// Not before this time.
    pub run_at: Option<DateTime<Utc>>,
    /// Enqueued once per tenant and key, whoever asks and however often.
    pub idempotency_key: Option<String>,
    /// Counted tries; the kind's default if absent.
    pub max_attempts: Option<i16>,
    /// W3C `traceparent` of the caller.
    pub trace: Option<String>,
    /// The batch that counts this job. It must be open, and of the same tenant.
    pub batch_id: Option<BatchId>,
    /// Version of the payload's form, 1 or more. A worker whose handler knows only older ones leaves the job to a newer worker.
    pub version: i16,
}

impl NewJob {
    /// A job of this kind with this JSON payload, in queue `default`, medium priority, at once.
    pub fn new(kind: impl Into<String>, payload: impl Into<String>) -> Self {
        Self {
            id: new_job_id(),
            kind: kind.into(),
            queue: "default".into(),
            tenant: "default".into(),
            priority: Priority::Medium,
            payload: payload.into(),
            metadata: None,
            run_at: None,
            idempotency_key: None,
            max_attempts: None,
            trace: None,
            batch_id: None,
            version: 1,
        }
    }

    /// Refuses what could never run: a payload that is no JSON or too large, a bad key, a bad number of attempts.
    pub fn check(&self) -> Result<(), Refusal> {
        json::check("payload", &self.payload)?;
        if let Some(metadata) = &self.metadata {
            json::check("metadata", metadata)?;
        }
        if let Some(key) = &self.idempotency_key
            && (key.is_empty() || key.chars().count() > KEY_CHARS_MAX || key.contains('\0'))
        {
            return Err(Refusal::Invalid(format!(
                "an idempotency key has 1 to {KEY_CHARS_MAX} characters, none of them NUL"
            )));
        }
        if let Some(max) = self.max_attempts {
            check_max_attempts(i64::from(max))?;
        }
        if self
            .trace
            .as_ref()
            .is_some_and(|trace| trace.len() > TRACE_BYTES_MAX || trace.contains('\0'))
        {
            return Err(Refusal::Invalid(format!(
                "trace is a W3C traceparent: at most {TRACE_BYTES_MAX} bytes, none of them NUL"
            )));
        }
        if self.version < 1 {
            return Err(Refusal::Invalid(format!(
                "the payload's version must be 1 or more, not {}",
                self.version
            )));
        }
        if self.kind.starts_with("document.") {
            return Err(Refusal::Invalid(format!(
                "jobs of kind \"{}\" are made by the document pipeline: use \"millstream documents add FILE\"",
                self.kind
            )));
        }
        self.check_times()
    }

    /// A far future or past would overflow other people's clocks, and an id of the far future the partitions.
    fn check_times(&self) -> Result<(), Refusal> {
        let now = crate::clock::now();
        if let Some(at) = self.run_at {
            if at > now + RUN_AT_AHEAD_MAX {
                return Err(Refusal::Invalid(
                    "run_at lies more than 100 years ahead".into(),
                ));
            }
            if at.year() < RUN_AT_YEAR_MIN {
                return Err(Refusal::Invalid(format!(
                    "run_at lies before the year {RUN_AT_YEAR_MIN}"
                )));
            }
        }
        if self.id.get_version_num() != 7 {
            return Err(Refusal::Invalid(format!("job id {} is no UUIDv7", self.id)));
        }
        if (self.id.as_u128() >> 80) as i64 > (now + ID_AHEAD_MAX).timestamp_millis() {
            return Err(Refusal::Invalid(format!(
                "job id {} lies more than a day in the future",
                self.id
            )));
        }
        Ok(())
    }
}

/// Refuses a number of counted tries that no job can have.
pub fn check_max_attempts(wanted: i64) -> Result<i16, Refusal> {
    let attempts = i16::try_from(wanted)
        .ok()
        .filter(|max| (1..=1000).contains(max));
    attempts.ok_or_else(|| {
        Refusal::Invalid(format!(
            "max_attempts must be between 1 and 1000, not {wanted}"
        ))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::limits::PAYLOAD_BYTES_MAX;

    #[test]
    fn bad_payloads_are_refused_by_name() {
        // F8
        assert!(NewJob::new("echo", "{\"a\":1}").check().is_ok());
        assert!(
            matches!(NewJob::new("echo", "{").check(), Err(Refusal::Invalid(m)) if m.contains("payload"))
        );
        let large = format!("\"{}\"", "x".repeat(PAYLOAD_BYTES_MAX));
        assert!(matches!(
            NewJob::new("echo", large).check(),
            Err(Refusal::TooLarge { .. })
        ));
        for bad in ["\"\\u0000\"", "\"\\ud800\"", "1e999999", &"[".repeat(5000)] {
            assert!(NewJob::new("echo", bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn x01_times_that_not_everybody_can_store_are_refused_by_name() {
        let at = |text: &str| {
            let mut job = NewJob::new("noop", "{}");
            job.run_at = Some(text.parse().unwrap());
            job.check()
        };
        for good in [
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-12-31T23:59:60Z",
        ] {
            assert_eq!(at(good), Ok(()), "{good}");
        }
        for bad in [
            "-9999-01-01T00:00:00Z",
            "0000-12-31T23:59:59Z",
            "-262143-01-01T00:00:00Z",
            "9999-01-01T00:00:00Z",
        ] {
            assert!(
                matches!(at(bad), Err(Refusal::Invalid(m)) if m.starts_with("run_at")),
                "{bad}"
            );
        }
    }

    #[test]
    fn priorities_have_names_and_numbers() {
        for p in Priority::ALL {
            assert_eq!(p.name().parse::<Priority>().unwrap(), p);
            assert_eq!(Priority::from_number(p.number()), Some(p));
        }
        assert!("urgent".parse::<Priority>().is_err());
    }
}
