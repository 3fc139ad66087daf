//! Jobs as the outside asks for them, in the form that the HTTP API takes and the command line fills in.
//!
//! Unknown fields are refused: a mistyped option that is silently ignored runs the wrong job.

use chrono::{DateTime, Utc};
use millstream_common::{error::Refusal, id::JobId, job::NewJob};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A job to be enqueued.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// Name of the handler.
    pub kind: String,
    /// What the handler gets; `{}` if absent.
    #[serde(default = "no_payload")]
    pub payload: Box<RawValue>,
    /// Name of the queue; `default` if absent.
    pub queue: Option<String>,
    /// `high`, `medium` (if absent) or `low`.
    pub priority: Option<String>,
    /// Not before this time.
    pub run_at: Option<DateTime<Utc>>,
    /// Enqueued once per tenant and key.
    pub idempotency_key: Option<String>,
    /// Name of the tenant; `default` if absent.
    pub tenant: Option<String>,
    /// For people and filters.
    pub metadata: Option<Box<RawValue>>,
    /// Counted tries; the kind's default if absent.
    pub max_attempts: Option<i64>,
    /// `UUIDv7` made by the caller, so that a request whose answer was lost can be repeated.
    pub id: Option<JobId>,
}

/// The payload of a job that says nothing.
pub fn no_payload() -> Box<RawValue> {
    RawValue::from_string("{}".into()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl JobRequest {
    /// The job, if it could run. What needs the catalog (names) is checked on enqueuing.
    pub fn into_job(self) -> Result<NewJob, Refusal> {
        let mut job = NewJob::new(self.kind, String::from(Box::<str>::from(self.payload)));
        set(&mut job.queue, self.queue);
        set(&mut job.tenant, self.tenant);
        set(&mut job.id, self.id);
        job.metadata = self.metadata.map(|text| String::from(Box::<str>::from(text)));
        job.priority = self.priority.as_deref().map(str::parse).transpose()?.unwrap_or_default();
        job.max_attempts = self.max_attempts.map(attempts).transpose()?;
        job.run_at = self.run_at;
        job.idempotency_key = self.idempotency_key;
        job.check()?;
        check_json("payload", &job.payload)?;
        job.metadata.as_deref().map_or(Ok(()), |text| check_json("metadata", text))?;
        Ok(job)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn attempts(wanted: i64) -> Result<i16, Refusal> {
    i16::try_from(wanted).map_err(|_| Refusal::Invalid(format!("max_attempts must be between 1 and 1000, not {wanted}")))
}

/// Refuses JSON that Postgres could store as text and not read as jsonb: nesting beyond 128, half a surrogate pair, a number
/// beyond a double. One such job would fail the INSERT that it shares with others.
fn check_json(what: &str, text: &str) -> Result<(), Refusal> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(_) => Ok(()),
        Err(e) => Err(Refusal::Invalid(format!("the {what} is no usable JSON: {e}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use millstream_common::job::Priority;

    fn job(json: &str) -> Result<NewJob, String> {
        let request: JobRequest = serde_json::from_str(json).map_err(|e| e.to_string())?;
        request.into_job().map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_not_said_has_defaults() {
        // F1
        let job = job(r#"{"kind":"echo"}"#).unwrap();
        assert_eq!((job.payload.as_str(), job.queue.as_str(), job.tenant.as_str()), ("{}", "default", "default"));
        assert_eq!(job.priority, Priority::Medium);
    }

    #[test]
    fn a_payload_arrives_as_it_was_written() {
        assert_eq!(job(r#"{"kind":"echo","payload":{"b":1.10,"a":[]}}"#).unwrap().payload, r#"{"b":1.10,"a":[]}"#);
        assert_eq!(job(r#"{"kind":"echo","payload":null}"#).unwrap().payload, "null");
    }

    #[test]
    fn bad_requests_are_refused_by_name() {
        // F8, S11
        assert!(job(r#"{"kind":"echo","priority":"urgent"}"#).unwrap_err().contains("high, medium or low"));
        assert!(job(r#"{"kind":"echo","colour":1}"#).unwrap_err().contains("colour"));
        assert!(job(r#"{"kind":"echo","max_attempts":100000}"#).unwrap_err().contains("max_attempts"));
        assert!(job(&format!(r#"{{"kind":"echo","payload":{}{}}}"#, "[".repeat(1000), "]".repeat(1000))).is_err());
        assert!(job(r#"{"kind":"echo","payload":"\ud800"}"#).unwrap_err().contains("payload"));
        assert!(job(r#"{"kind":"echo","payload":1e999}"#).unwrap_err().contains("payload"));
    }
}
