//! `GET /v1/jobs/{id}/wait?timeout_s=`: answers with the job when it has ended, or as it is when the time is over. Whoever
//! asked looks at `state`.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::Deserialize;
use tokio::time::Instant;

use super::no_job;
use crate::{
    api::{
        Api,
        extract::{ApiQuery, Id},
        problem::Problem,
    },
    ops::{
        jobs::{self, Job},
        wait::until_final,
    },
};

/// Proxies in between give up at about 60 s as well.
const WAIT_S_MAX: f64 = 60.0;
/// When nothing is said.
const WAIT_S: f64 = 30.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct WaitQuery {
    timeout_s: Option<f64>,
}

pub(in crate::api) async fn one(
    State(api): State<Api>,
    Id(id): Id,
    ApiQuery(query): ApiQuery<WaitQuery>,
) -> Result<Json<Job>, Problem> {
    let limit = limit(query.timeout_s)?;
    let _place = api.0.waiters.try_acquire().map_err(|_| {
        Problem::unavailable("too many requests wait for jobs; ask again in a moment")
    })?;
    let ids = [id];
    tokio::select! {
        waited = until_final(api.pg(), &ids, Instant::now() + limit, Duration::ZERO, |_| {}) => drop(waited?),
        // The process ends: the answer is where the job stands now.
        () = api.0.stop.cancelled() => {}
    }
    jobs::one(api.pg(), id)
        .await?
        .map(Json)
        .ok_or_else(|| no_job(id))
}

fn limit(asked_s: Option<f64>) -> Result<Duration, Problem> {
    let seconds = asked_s.unwrap_or(WAIT_S);
    if (0.0..=WAIT_S_MAX).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(Problem::invalid(format!(
            "timeout_s must be between 0 and {WAIT_S_MAX}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_between_0_and_60_seconds() {
        // X37
        for (asked, expected) in [
            (None, 30),
            (Some(0.0), 0),
            (Some(-0.0), 0),
            (Some(60.0), 60),
        ] {
            assert!(
                limit(asked).is_ok_and(|limit| limit.as_secs() == expected),
                "{asked:?}"
            );
        }
        for wrong in [
            -1.0,
            60.5,
            1e300,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            assert!(
                limit(Some(wrong)).is_err_and(|problem| problem.status() == 422),
                "{wrong}"
            );
        }
    }
}
