//! The installation at a glance. Counts of jobs are those of the stats duty; everything else is read from small tables.

use std::collections::BTreeMap;

use millstream_common::pg::Pg;
use serde::Serialize;

use super::{Outage, queues, queues::Queue, row, rows, workers::SILENT_AFTER};

/// The numbers of one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// All queues.
    pub queues: Vec<Queue>,
    /// Documents by state.
    pub documents: BTreeMap<String, i64>,
    /// Workers that beat.
    pub workers: WorkerStats,
    /// The outbox.
    pub parcels: ParcelStats,
}

/// Live workers together.
#[derive(Debug, Clone, Default, Serialize, sqlx::FromRow)]
pub struct WorkerStats {
    /// How many.
    pub live: i64,
    /// Jobs at a time.
    pub slots: i64,
    /// Slots in use.
    pub busy: i64,
}

/// What is listed and not done.
#[derive(Debug, Clone, Default, Serialize, sqlx::FromRow)]
pub struct ParcelStats {
    /// Waiting for room in a stream.
    pub waiting: i64,
    /// On a stream.
    pub publishing: i64,
    /// Age of the oldest one that waits.
    pub oldest_waiting_seconds: Option<f64>,
}

/// Reads all of it.
pub async fn stats(pg: &Pg) -> Result<Stats, Outage> {
    let documents: Vec<(String, i64)> = rows(
        pg,
        "counting documents",
        sqlx::query_as("SELECT state, count(*) FROM millstream.document GROUP BY state"),
    )
    .await?;
    Ok(Stats {
        queues: queues::list(pg).await?,
        documents: documents.into_iter().collect(),
        workers: workers(pg).await?,
        parcels: parcels(pg).await?,
    })
}

/// Live workers, their slots and how many are in use.
pub async fn workers(pg: &Pg) -> Result<WorkerStats, Outage> {
    let query = sqlx::query_as(
        "SELECT count(*) AS live, COALESCE(sum(w.slots), 0)::bigint AS slots, COALESCE(sum(b.busy), 0)::bigint AS busy
         FROM millstream.worker w JOIN millstream.worker_beat b ON b.worker_id = w.id
         WHERE w.ended_at IS NULL AND b.beat_at > now() - make_interval(secs => $1)",
    );
    Ok(row(
        pg,
        "counting workers",
        query.bind(SILENT_AFTER.as_secs_f64()),
    )
    .await?
    .unwrap_or_default())
}

/// The outbox: how many parcels wait, how many are on a stream, and how old the oldest waiting one is.
pub async fn parcels(pg: &Pg) -> Result<ParcelStats, Outage> {
    let query = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE publishing_since IS NULL) AS waiting, count(*) FILTER (WHERE publishing_since IS NOT NULL) AS publishing,
                extract(epoch FROM now() - min(enqueued_at) FILTER (WHERE publishing_since IS NULL))::float8 AS oldest_waiting_seconds
         FROM millstream.parcel",
    );
    Ok(row(pg, "counting parcels", query)
        .await?
        .unwrap_or_default())
}
