//! Worker processes, as they registered and as their heartbeat last told.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millstream_common::pg::Pg;
use serde::Serialize;
use sqlx::FromRow;

use super::{Outage, rows};

/// A worker without a beat for this long is shown as silent. For people only: rescue decides on its own clock.
pub const SILENT_AFTER: Duration = Duration::from_secs(30);

/// One start of one worker process.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Worker {
    /// New at every start.
    pub id: i64,
    /// As configured; two may share it.
    pub name: String,
    /// Machine.
    pub host: String,
    /// Process.
    pub pid: i32,
    /// Program version.
    pub version: String,
    /// `active`, `paused`, `draining`, `stopped` or `lost`; `silent` if it should be live and does not beat.
    pub state: String,
    /// Names of the queues it reads.
    pub queues: Vec<String>,
    /// Names of the kinds it runs.
    pub kinds: Vec<String>,
    /// Jobs at a time.
    pub slots: i32,
    /// Slots in use at the last beat.
    pub busy: i32,
    /// Jobs ended since its start, at the last beat.
    pub finished: i64,
    /// Resident memory at the last beat.
    pub memory_bytes: i64,
    /// Where its metrics are.
    pub listen: Option<String>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Last beat.
    pub beat_at: Option<DateTime<Utc>>,
    /// When it stopped or was given up.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Live workers, or with `ended` also those of the past (newest 500), newest first.
pub async fn list(pg: &Pg, ended: bool) -> Result<Vec<Worker>, Outage> {
    let query = sqlx::query_as(
        "SELECT w.id, w.name, w.host, w.pid, w.version,
                CASE WHEN w.ended_at IS NULL AND (b.beat_at IS NULL OR b.beat_at < now() - make_interval(secs => $2)) THEN 'silent' ELSE w.state END AS state,
                ARRAY(SELECT q.name::text FROM millstream.queue q WHERE q.id = ANY(w.queues) ORDER BY q.name) AS queues,
                ARRAY(SELECT k.name::text FROM millstream.kind k WHERE k.id = ANY(w.kinds) ORDER BY k.name) AS kinds,
                w.slots, COALESCE(b.busy, 0) AS busy, COALESCE(b.finished, 0) AS finished, COALESCE(b.memory_bytes, 0) AS memory_bytes,
                w.listen, w.started_at, b.beat_at, w.ended_at
         FROM millstream.worker w LEFT JOIN millstream.worker_beat b ON b.worker_id = w.id
         WHERE $1 OR w.ended_at IS NULL ORDER BY w.id DESC LIMIT 500",
    );
    rows(
        pg,
        "listing workers",
        query.bind(ended).bind(SILENT_AFTER.as_secs_f64()),
    )
    .await
}
