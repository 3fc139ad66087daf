//! Probes and metrics. All of them tell what the watch saw last and ask nobody.
//!
//! `/livez` says that this process answers: a server that is away must not restart the API. `/readyz` needs Postgres with the
//! right schema; without Redis, or with one that evicts, jobs are still accepted, so that is told and is no reason to send requests elsewhere.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use millstream_common::{metrics::Degraded, stream::policy::Policy};
use serde::Serialize;

use super::{
    Api,
    watch::{Breakers, Reading},
};
use crate::ops::stats;

#[derive(Debug, Serialize)]
struct Readiness {
    status: &'static str,
    #[serde(flatten)]
    reading: Reading,
    breakers: Breakers,
    /// The right, or the command, for want of which jobs are worked without Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis_lacks: Option<String>,
    /// A stream was made anew a moment ago: what it hid is handed out again within seconds.
    streams_mending: bool,
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
    let readiness = readiness(&api);
    let status = if matches!(readiness.status, "ready" | "degraded") {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness)).into_response()
}

/// The same for people, with the fleet; always 200 while this process answers.
pub(super) async fn health(State(api): State<Api>) -> Response {
    let readiness = readiness(&api);
    let workers = if readiness.reading.schema {
        stats::workers(api.pg()).await.ok()
    } else {
        None
    };
    Json(Health { readiness, workers }).into_response()
}

/// What this process tells Prometheus.
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let (reading, parts) = (api.0.watch.reading(), api.0.producer.parts());
    let (gauges, counters) = (&parts.metrics.gauges, &parts.metrics.counters);
    gauges.postgres_up.set(reading.postgres.into());
    gauges.redis_up.set(reading.redis.into());
    gauges
        .redis_policy_ok
        .set((reading.redis_policy == Policy::Keeps).into());
    gauges
        .redis_breaker_open
        .set(parts.redis.refuses_work().into());
    counters.set_degraded(Degraded::PostgresAway, api.0.watch.postgres.toll());
    counters.set_degraded(Degraded::RedisAway, parts.redis.breaker().toll());
    for (pool, open, idle) in parts.pg.usage() {
        let limit = if pool == "main" {
            api.0.connections_max as usize
        } else {
            open
        };
        gauges.set_pool(pool, open.saturating_sub(idle), limit);
    }
    (
        [(
            header::CONTENT_TYPE,
            millstream_common::metrics::CONTENT_TYPE,
        )],
        parts.metrics.render(),
    )
        .into_response()
}

fn readiness(api: &Api) -> Readiness {
    let (reading, redis) = (api.0.watch.reading(), &api.0.producer.parts().redis);
    let (redis_lacks, streams_mending) = (redis.lacks(), redis.mending().is_under_way());
    let status = match reading {
        _ if api.0.stop.is_cancelled() => "stopping",
        Reading {
            postgres: false, ..
        }
        | Reading { schema: false, .. } => "not_ready",
        Reading { redis: false, .. }
        | Reading {
            redis_policy: Policy::Evicts,
            ..
        } => "degraded",
        _ if redis_lacks.is_some() || streams_mending => "degraded",
        Reading { .. } => "ready",
    };
    Readiness {
        status,
        reading,
        breakers: api.0.watch.breakers(redis),
        redis_lacks,
        streams_mending,
    }
}
