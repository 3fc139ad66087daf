//! `POST /v1/jobs/bulk`: up to a thousand jobs, each with its own answer. One that is refused does not stop the others; those
//! accepted are written in one transaction.

use axum::{Json, extract::State};
use millstream_common::{error::Error, job::NewJob};
use serde::{Deserialize, Serialize};
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
struct Bulk {
    jobs: Vec<Box<RawValue>>,
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
            Ok(job) => Self { status: 202, job: Some(job), error: None },
            Err(problem) => Self { status: problem.status(), job: None, error: Some(problem.document()) },
        }
    }
}

pub(in crate::api) async fn many(State(api): State<Api>, ApiBytes(body): ApiBytes) -> Result<Json<Answers>, Problem> {
    let asked = asked(&body)?;
    let mut admitted = Vec::new();
    let mut results: Vec<Option<Result<Accepted, Problem>>> = Vec::with_capacity(asked.len());
    for raw in &asked {
        match admit(&api, raw).await {
            Ok(job) => {
                admitted.push(job);
                results.push(None);
            }
            Err(problem) => results.push(Some(Err(problem))),
        }
    }
    let mut written =
        api.0.producer.enqueue_many(admitted).await?.into_iter().map(|answer| answer.map(Accepted::from).map_err(Problem::from));
    // Every gap is one admitted job; the answers come in the order of the jobs.
    let results: Vec<_> =
        results.into_iter().map(|result| result.or_else(|| written.next()).unwrap_or_else(|| Err(Problem::internal()))).collect();
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    Ok(Json(Answers { accepted, refused: results.len() - accepted, results: results.into_iter().map(Answer::from).collect() }))
}

fn asked(body: &[u8]) -> Result<Vec<Box<RawValue>>, Problem> {
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let jobs = if is_array { parse(body)? } else { parse::<Bulk>(body)?.jobs };
    if (1..=JOBS_MAX).contains(&jobs.len()) {
        Ok(jobs)
    } else {
        Err(Problem::invalid(format!("send 1 to {JOBS_MAX} jobs, not {}", jobs.len())))
    }
}

/// Everything that can be said about one job before anything is written. An outage is no answer about a job.
async fn admit(api: &Api, raw: &RawValue) -> Result<NewJob, Problem> {
    let job = parse::<JobRequest>(raw.get().as_bytes())?.into_job()?;
    match api.0.producer.parts().catalog.resolve(&job.queue, &job.kind, &job.tenant).await {
        Ok(_) => Ok(job),
        Err(Error::Refused(refusal)) => Err(refusal.into()),
        Err(Error::Outage(outage)) => Err(outage.into()),
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
        assert_eq!(asked(format!("[{}1]", "1,".repeat(1000)).as_bytes()).unwrap_err().status(), 422);
    }
}
