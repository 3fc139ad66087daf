//! Probes and metrics.
//!
//! `/livez` asks nobody: a server that is away must not restart the API. `/readyz` needs Postgres with the right schema;
//! without Redis, or with one that evicts, jobs are still accepted, so that is told and is no reason to send requests elsewhere.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use millstream_common::{error::Outage, pg::within, stream::policy::Policy};
use serde::Serialize;
use tokio::sync::Mutex;

use super::{Api, problem::Problem};
use crate::ops::stats;

/// What takes longer to answer than this is not ready.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// Probes within this time share one reading: they carry no token, and must not be a way to load the servers.
const PROBE_FRESH: Duration = Duration::from_secs(1);

/// How the servers behind the API are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Reading {
    postgres: bool,
    schema: bool,
    redis: bool,
    redis_policy: Policy,
}

/// SQLSTATE of a missing table.
const UNDEFINED_TABLE: &str = "42P01";
/// SQLSTATE of a missing schema.
const UNDEFINED_SCHEMA: &str = "3F000";

/// The last reading and its time.
#[derive(Default)]
pub(super) struct Probe(Mutex<Option<(Instant, Reading)>>);

#[derive(Debug, Serialize)]
struct Readiness {
    status: &'static str,
    #[serde(flatten)]
    reading: Reading,
}

#[derive(Debug, Serialize)]
struct Health {
    #[serde(flatten)]
    readiness: Readiness,
    workers: Option<stats::WorkerStats>,
}

/// This process answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// This process can do its work.
pub(super) async fn readyz(State(api): State<Api>) -> Response {
    let readiness = readiness(&api).await;
    let status = if matches!(readiness.status, "ready" | "degraded") { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// The same for people, with the fleet; always 200 while this process answers.
pub(super) async fn health(State(api): State<Api>) -> Response {
    let readiness = readiness(&api).await;
    let workers = if readiness.reading.schema { stats::workers(api.pg()).await.ok() } else { None };
    Json(Health { readiness, workers }).into_response()
}

/// What this process tells Prometheus.
pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let reading = reading(&api).await;
    let parts = api.0.producer.parts();
    let gauges = &parts.metrics.gauges;
    gauges.postgres_up.set(reading.postgres.into());
    gauges.redis_up.set(reading.redis.into());
    gauges.redis_policy_ok.set((reading.redis_policy == Policy::Keeps).into());
    gauges.redis_breaker_open.set(parts.redis.is_down().into());
    for (pool, open, idle) in parts.pg.usage() {
        let limit = if pool == "main" { api.0.connections_max as usize } else { open };
        gauges.set_pool(pool, open.saturating_sub(idle), limit);
    }
    Ok(([(header::CONTENT_TYPE, millstream_common::metrics::CONTENT_TYPE)], parts.metrics.render()).into_response())
}

async fn readiness(api: &Api) -> Readiness {
    let reading = reading(api).await;
    let status = match reading {
        _ if api.0.stop.is_cancelled() => "stopping",
        Reading { postgres: false, .. } | Reading { schema: false, .. } => "not_ready",
        Reading { redis: false, .. } | Reading { redis_policy: Policy::Evicts, .. } => "degraded",
        Reading { .. } => "ready",
    };
    Readiness { status, reading }
}

async fn reading(api: &Api) -> Reading {
    // Held while asking: those who come meanwhile get the same answer.
    let mut last = api.0.probe.0.lock().await;
    if let Some((at, reading)) = *last
        && at.elapsed() < PROBE_FRESH
    {
        return reading;
    }
    let redis = &api.0.producer.parts().redis;
    let asked = async { redis.probe().await.and(redis.look_at_policy().await) };
    let asked = tokio::time::timeout(PROBE_DEADLINE, asked);
    let (applied, asked) = tokio::join!(tokio::time::timeout(PROBE_DEADLINE, applied(api)), asked);
    let applied = applied.ok().flatten();
    let reading = Reading {
        postgres: applied.is_some(),
        schema: applied.is_some_and(|v| v >= api.0.schema_wanted),
        redis: matches!(asked, Ok(Ok(_))),
        redis_policy: redis.policy(),
    };
    *last = Some((Instant::now(), reading));
    reading
}

/// The newest migration in the database, 0 if there is none; `None` if Postgres does not answer.
async fn applied(api: &Api) -> Option<i64> {
    let op = "probing";
    let mut lent = api.pg().main(op).await.ok()?;
    let query = sqlx::query_scalar("SELECT COALESCE(max(version), 0) FROM millstream._migrations WHERE success");
    match within(op, query.fetch_one(lent.conn())).await {
        Ok(version) => {
            lent.done();
            Some(version)
        }
        // Postgres answers, and the table is gone: reachable, without the schema. A server that is shutting down also answers
        // with an error, and is not reachable.
        Err(Outage::Postgres { source: sqlx::Error::Database(error), .. })
            if matches!(error.code().as_deref(), Some(UNDEFINED_TABLE | UNDEFINED_SCHEMA)) =>
        {
            Some(0)
        }
        Err(_) => None,
    }
}
