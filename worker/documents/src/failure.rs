//! What the failures of tools, stores and servers mean for the job that met them.
//!
//! The sorting is by who can do something about it: the file's owner (permanent, with their sentence), the operator of this
//! machine (unavailable: what is missing is named, and where), or time (retry).

use millstream_common::host;
use millstream_models::ModelError;
use millstream_outbound::objects::ObjectsError;
use millstream_worker::Failure;

use super::tools::ToolError;

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::Document { .. } => Self::Permanent(error.to_string()),
            // Another machine may have it, and this one may get it. The worker is named: the message is read elsewhere.
            ToolError::Missing { .. } | ToolError::Shortage { .. } => {
                Self::Unavailable(format!("{error} (on {})", host::name()))
            }
            ToolError::Transient { message } => Self::Retry(message),
        }
    }
}

/// Of the object store. A function, since neither type is of this crate.
pub(super) fn of_objects(error: &ObjectsError) -> Failure {
    match error {
        // Full, away or refused: whatever it is, the job has done nothing wrong.
        ObjectsError::Failed(_) | ObjectsError::Local(_) => {
            Failure::Unavailable(format!("{error} (on {})", host::name()))
        }
        ObjectsError::Config(_) | ObjectsError::NotFound(_) | ObjectsError::TooLarge(_) => {
            Failure::Permanent(error.to_string())
        }
    }
}

/// Of a model server.
pub(super) fn of_model(error: ModelError) -> Failure {
    match error {
        ModelError::RateLimited { after } => Failure::RateLimited {
            after,
            message: error.to_string(),
        },
        ModelError::Permanent { message } => Failure::Permanent(message),
        ModelError::Unavailable { message } => Failure::Unavailable(message),
        ModelError::Retry { message } => Failure::Retry(message),
    }
}

/// The rows of a job are gone: the document was deleted while the job waited.
pub(super) fn gone(what: &str) -> Failure {
    Failure::Permanent(format!("{what} does not exist any more"))
}

/// Runs `work`, which is heavy on the CPU, where it holds up nobody. A panic goes on to the one place that catches them.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => Err(Failure::retry("the worker stopped while it worked on this")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tools::{error::code, tool::Tool};
    use super::*;

    // P4
    #[test]
    fn a_bad_file_is_permanent_with_its_own_words() {
        let failure = Failure::from(ToolError::document(
            code::ENCRYPTED,
            "the file is encrypted (needs a password)",
        ));
        assert_eq!(
            failure,
            Failure::Permanent("the file is encrypted (needs a password)".into())
        );
    }

    // P4, X48
    #[test]
    fn what_a_machine_lacks_is_no_fault_of_the_job_and_is_named_with_the_machine() {
        let on = format!("(on {})", host::name());
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let lacks = [
            (
                Failure::from(Tool::Tesseract.missing()),
                "tesseract is not installed: install Tesseract",
            ),
            (
                Failure::from(ToolError::io("a file could not be written", &full())),
                "a file could not be written: ",
            ),
            (
                of_objects(&ObjectsError::Failed("no space".into())),
                "the object store failed: no space",
            ),
        ];
        for (failure, start) in lacks {
            let Failure::Unavailable(message) = failure else {
                panic!("it waits: {failure:?}")
            };
            assert!(
                message.starts_with(start) && message.ends_with(&on),
                "{message}"
            );
        }
    }

    // F24, P3
    #[test]
    fn a_rate_limit_keeps_the_time_that_the_server_asked_for() {
        let after = Some(Duration::from_secs(7));
        assert!(
            matches!(of_model(ModelError::RateLimited { after }), Failure::RateLimited { after: kept, .. } if kept == after)
        );
    }
}
