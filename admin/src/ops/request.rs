//! Jobs as the outside asks for them, in the form that the HTTP API takes and the command line fills in.
//!
//! Unknown fields are refused: a mistyped option that is silently ignored runs the wrong job.

use std::fmt;

use chrono::{DateTime, Utc};
use millstream_common::{
    error::Refusal,
    id::{BatchId, JobId},
    job::{NewJob, check_max_attempts},
    limits::{PAYLOAD_BYTES_MAX, bounded},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, Unexpected, Visitor},
};
use serde_json::value::RawValue;

/// Of a text in an error.
const SHOWN_BYTES_MAX: usize = 40;

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
    #[serde(default, deserialize_with = "time")]
    pub run_at: Option<DateTime<Utc>>,
    /// Enqueued once per tenant and key.
    pub idempotency_key: Option<String>,
    /// Name of the tenant; `default` if absent.
    pub tenant: Option<String>,
    /// For people and filters.
    pub metadata: Option<Box<RawValue>>,
    /// Counted tries; the kind's default if absent.
    pub max_attempts: Option<i64>,
    /// The batch that counts it, which must be open.
    #[serde(default, deserialize_with = "id")]
    pub batch_id: Option<BatchId>,
    /// `UUIDv7` made by the caller, so that a request whose answer was lost can be repeated.
    #[serde(default, deserialize_with = "id")]
    pub id: Option<JobId>,
}

/// The payload of a job that says nothing.
pub fn no_payload() -> Box<RawValue> {
    RawValue::from_string("{}".into()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl JobRequest {
    /// The job, as far as its form goes. What it says is checked by [`NewJob::check`], which every door of the library calls.
    pub fn into_job(self) -> Result<NewJob, Refusal> {
        let mut job = NewJob::new(self.kind, String::from(Box::<str>::from(self.payload)));
        set(&mut job.queue, self.queue);
        set(&mut job.tenant, self.tenant);
        set(&mut job.id, self.id);
        job.metadata = self
            .metadata
            .map(|text| String::from(Box::<str>::from(text)));
        job.priority = self
            .priority
            .as_deref()
            .map(str::parse)
            .transpose()?
            .unwrap_or_default();
        job.max_attempts = self.max_attempts.map(check_max_attempts).transpose()?;
        job.run_at = self.run_at;
        job.idempotency_key = self.idempotency_key;
        job.batch_id = self.batch_id;
        Ok(job)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// JSON text for a field of a request. What it says is looked at by [`NewJob::check`].
pub fn json(what: &str, text: &str) -> Result<Box<RawValue>, Refusal> {
    // Blanks around it are not part of it, as in the field of a request.
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    if text.len() > PAYLOAD_BYTES_MAX {
        // The larger fault is the one that is named.
        return Err(Refusal::TooLarge {
            what: what.into(),
            bytes: text.len(),
        });
    }
    RawValue::from_string(text.to_owned()).map_err(|e| {
        Refusal::Invalid(format!(
            "the {what} is no JSON ({e}): quote it for the shell, as in --{what} '{{\"a\":1}}'"
        ))
    })
}

/// A time in the one form, or nothing.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    const FORM: &str = "a time as in RFC 3339, such as 2026-01-31T12:00:00Z";
    from.deserialize_option(Form(FORM, |text| text.parse().ok()))
}

/// A UUID, or nothing.
fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<JobId>, D::Error> {
    const FORM: &str = "a UUID of version 7, such as 01890a5d-ac96-774b-bcce-b302099a8057";
    from.deserialize_option(Form(FORM, |text| text.parse().ok()))
}

/// A text of a form that errors name.
struct Form<T>(&'static str, fn(&str) -> Option<T>);

impl<'de, T> Visitor<'de> for Form<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let shown = bounded(text, SHOWN_BYTES_MAX);
        (self.1)(text)
            .map(Some)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(&shown), &self))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use millstream_common::{job::Priority, json};

    fn job(text: &str) -> Result<NewJob, String> {
        let request: JobRequest = json::decode(text.as_bytes()).map_err(|e| e.text)?;
        let job = request.into_job().map_err(|e| e.to_string())?;
        job.check().map(|()| job).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_not_said_has_defaults() {
        // F1
        let job = job(r#"{"kind":"echo"}"#).unwrap();
        assert_eq!(
            (
                job.payload.as_str(),
                job.queue.as_str(),
                job.tenant.as_str()
            ),
            ("{}", "default", "default")
        );
        assert_eq!(job.priority, Priority::Medium);
    }

    #[test]
    fn a_payload_arrives_as_it_was_written() {
        assert_eq!(
            job(r#"{"kind":"echo","payload":{"b":1.10,"a":[]}}"#)
                .unwrap()
                .payload,
            r#"{"b":1.10,"a":[]}"#
        );
        assert_eq!(
            job(r#"{"kind":"echo","payload":null}"#).unwrap().payload,
            "null"
        );
    }

    #[test]
    fn bad_requests_are_refused_by_name() {
        // F8, S11
        assert!(
            job(r#"{"kind":"echo","priority":"urgent"}"#)
                .unwrap_err()
                .contains("high, medium or low")
        );
        assert!(
            job(r#"{"kind":"echo","colour":1}"#)
                .unwrap_err()
                .contains("colour")
        );
        assert!(
            job(r#"{"kind":"echo","max_attempts":100000}"#)
                .unwrap_err()
                .contains("max_attempts")
        );
        assert!(
            job(&format!(
                r#"{{"kind":"echo","payload":{}{}}}"#,
                "[".repeat(1000),
                "]".repeat(1000)
            ))
            .is_err()
        );
        assert!(
            job(r#"{"kind":"echo","payload":"\ud800"}"#)
                .unwrap_err()
                .contains("payload")
        );
        assert!(
            job(r#"{"kind":"echo","payload":1e999}"#)
                .unwrap_err()
                .contains("payload")
        );
    }
    #[test]
    fn x09_every_decoding_error_names_the_field_and_the_form() {
        let cases = [
            (
                r#"{"kind":"noop","run_at":"tomorrow"}"#,
                "run_at",
                "RFC 3339",
            ),
            (r#"{"kind":"noop","run_at":5}"#, "run_at", "RFC 3339"),
            (
                r#"{"kind":"noop","run_at":"2026-01-31T12:00:00"}"#,
                "run_at",
                "RFC 3339",
            ),
            (r#"{"kind":"noop","id":"x"}"#, "id", "a UUID"),
            (r#"{"kind":"noop","id":{}}"#, "id", "a UUID"),
            (
                r#"{"kind":"noop","max_attempts":"3"}"#,
                "max_attempts",
                "a whole number",
            ),
            (
                r#"{"kind":"noop","max_attempts":2.5}"#,
                "max_attempts",
                "a whole number",
            ),
            (
                r#"{"kind":"noop","max_attempts":0}"#,
                "max_attempts",
                "between 1 and 1000",
            ),
            (r#"{"kind":7}"#, "kind", "a string"),
            (r#"{"kind":"noop","queue":[]}"#, "queue", "a string"),
            (r#"{"kind":"noop","priority":1}"#, "priority", "a string"),
            (
                r#"{"kind":"noop","idempotency_key":true}"#,
                "idempotency_key",
                "a string",
            ),
            (r#"{"queue":"default"}"#, "kind", "missing field"),
            ("7", "", "an object"),
        ];
        for (text, field, form) in cases {
            let error = job(text).unwrap_err();
            assert!(
                error.contains(field) && error.contains(form),
                "{text}: {error}"
            );
        }
        assert!(job(r#"{"kind":"noop","run_at":null,"id":null}"#).is_ok());
        assert!(
            job(r#"{"kind":"noop","run_at":"2026-01-31T12:00:00+02:00"}"#)
                .unwrap()
                .run_at
                .is_some()
        );
    }
}
