//! Jobs whose payload is a Rust type.

use millstream_common::{
    error::{Error, Refusal},
    job::NewJob,
};
use serde::Serialize;

/// A payload type that belongs to one kind. Implement it once, beside the type, and share it with the handler.
pub trait JobKind: Serialize {
    /// The kind's name: 1 to 64 of `a-z 0-9 _ . -`.
    const KIND: &'static str;
    /// The queue it goes to.
    const QUEUE: &'static str = "default";
    /// Counted tries, for a kind that no worker has registered yet.
    const MAX_ATTEMPTS: i16 = 3;
    /// Raise it when the payload changes in a way that older handlers cannot read: they leave such jobs alone.
    const VERSION: i16 = 1;

    /// The job for this payload, to be adjusted and enqueued.
    fn to_job(&self) -> Result<NewJob, Error> {
        let payload = serde_json::to_string(self).map_err(|e| {
            Refusal::Invalid(format!(
                "the payload of {} does not serialise: {e}",
                Self::KIND
            ))
        })?;
        let mut job = NewJob::new(Self::KIND, payload);
        job.queue = Self::QUEUE.into();
        job.version = Self::VERSION;
        Ok(job)
    }
}
