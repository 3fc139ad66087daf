//! `POST /v1/jobs/bulk`: up to a thousand jobs, each with its own answer. One that is refused does not stop the others.

use std::fmt;

use axum::{Json, extract::State};
use millstream_common::{
    error::{Error, Outage},
    job::NewJob,
    persist::Enqueued,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::enqueue::Accepted;
use crate::{
    api::{
        Api,
        extract::{ApiBytes, parse},
        problem::{Document, Problem},
    },
    ops::request::JobRequest,
};

/// Jobs in one request.
const JOBS_MAX: usize = 1000;

/// `{"jobs": […]}`; a bare array is understood as well.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bulk<'a> {
    #[serde(borrow)]
    jobs: Jobs<'a>,
}

/// The jobs as they stand in the body, counted as they are read: a body of millions of items ends at the first one too many.
#[derive(Debug, Deserialize)]
struct Jobs<'a>(#[serde(borrow, deserialize_with = "few")] Vec<&'a RawValue>);

fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<&'de RawValue>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an array of 1 to {JOBS_MAX} jobs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut jobs: A) -> Result<Self::Value, A::Error> {
            let mut few = Vec::new();
            while let Some(job) = jobs.next_element()? {
                if few.len() == JOBS_MAX {
                    return Err(A::Error::custom(format_args!(
                        "send 1 to {JOBS_MAX} jobs, not more"
                    )));
                }
                few.push(job);
            }
            Ok(few)
        }
    }
    deserializer.deserialize_seq(Few)
}

/// One answer per job, in the order of the request.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Answers {
    accepted: usize,
    refused: usize,
    results: Vec<Answer>,
}

#[derive(Debug, Serialize)]
struct Answer {
    status: u16,
    #[serde(flatten)]
    job: Option<Accepted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Document>,
}

impl From<Result<Accepted, Problem>> for Answer {
    fn from(result: Result<Accepted, Problem>) -> Self {
        match result {
            Ok(job) => Self {
                status: 202,
                job: Some(job),
                error: None,
            },
            Err(problem) => Self {
                status: problem.status(),
                job: None,
                error: Some(problem.document()),
            },
        }
    }
}

pub(in crate::api) async fn many(
    State(api): State<Api>,
    ApiBytes(body): ApiBytes,
) -> Result<Json<Answers>, Problem> {
    let (jobs, unread): (Vec<_>, Vec<_>) = asked(&body)?.iter().map(|raw| apart(read(raw))).unzip();
    let written = api
        .0
        .producer
        .enqueue_each(jobs.into_iter().flatten().collect())
        .await;
    if let Some(outage) = outage_of_all(&written) {
        return Err(outage.into());
    }
    // Every gap is one job that was read; the answers come in the order of the jobs.
    let mut written = written
        .into_iter()
        .map(|answer| answer.map(Accepted::from).map_err(Problem::from));
    let lost = || Err(Problem::internal());
    let results: Vec<_> = unread
        .into_iter()
        .map(|problem| problem.map_or_else(|| written.next().unwrap_or_else(lost), Err))
        .collect();
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    Ok(Json(Answers {
        accepted,
        refused: results.len() - accepted,
        results: results.into_iter().map(Answer::from).collect(),
    }))
}

fn apart<T, E>(result: Result<T, E>) -> (Option<T>, Option<E>) {
    result.map_or_else(|error| (None, Some(error)), |value| (Some(value), None))
}

fn read(raw: &RawValue) -> Result<NewJob, Problem> {
    Ok(parse::<JobRequest>(raw.get().as_bytes())?.into_job()?)
}

/// An outage that struck every job is no answer about any of them.
fn outage_of_all(written: &[Result<Enqueued, Error>]) -> Option<Outage> {
    let mut outages = written.iter().map(|answer| {
        if let Err(Error::Outage(outage)) = answer {
            Some(outage)
        } else {
            None
        }
    });
    let first = outages.next()??;
    outages.all(|outage| outage.is_some()).then(|| first.copy())
}

fn asked(body: &[u8]) -> Result<Vec<&RawValue>, Problem> {
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let Jobs(jobs) = if is_array {
        parse(body)?
    } else {
        parse::<Bulk>(body)?.jobs
    };
    if jobs.is_empty() {
        Err(Problem::invalid(format!(
            "send 1 to {JOBS_MAX} jobs, not none"
        )))
    } else {
        Ok(jobs)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_in_an_object_or_an_array_and_are_few() {
        assert_eq!(asked(br#"{"jobs":[{"kind":"a"}]}"#).unwrap().len(), 1);
        assert_eq!(asked(b" [1, 2]").unwrap().len(), 2);
        assert_eq!(asked(b"[]").unwrap_err().status(), 422);
        assert_eq!(asked(b"[").unwrap_err().status(), 400);
        assert_eq!(
            asked(format!("[{}1]", "1,".repeat(999)).as_bytes())
                .unwrap()
                .len(),
            1000
        );
        // X65: what comes after the first one too many is not looked at.
        for (before, after) in [
            ("[", "]"),
            ("{\"jobs\":[", "]}"),
            ("[", ",,,"),
            ("{\"jobs\":[", ""),
        ] {
            let problem =
                asked(format!("{before}{}1{after}", "1,".repeat(1000)).as_bytes()).unwrap_err();
            assert_eq!(problem.status(), 422, "{before}…{after}");
        }
    }
}
