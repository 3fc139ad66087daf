//! Queues with what is in them: counts by state as the stats duty last wrote them, and the backlog by the parcels of this
//! moment.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use millstream_common::pg::Pg;
use serde::Serialize;
use sqlx::{FromRow, types::Json};

use super::{Outage, rows};

/// One queue.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Nothing of it is handed out.
    pub paused: bool,
    /// Available jobs by the parcels that list them. An upper bound: a parcel is told late of settled jobs, and a job that was handed out
    /// again is listed twice until its old parcel is gone, which takes seconds.
    pub backlog: i64,
    /// Jobs under a lease now.
    pub leased: i64,
    /// Jobs by state, at `counted_at`; empty until a worker has counted.
    pub jobs: Json<BTreeMap<String, i64>>,
    /// Age of the oldest job that could run, at `counted_at`.
    pub oldest_age_seconds: Option<f64>,
    /// When the counts were made.
    pub counted_at: Option<DateTime<Utc>>,
}

/// All queues, in the order of their names.
pub async fn list(pg: &Pg) -> Result<Vec<Queue>, Outage> {
    let query = sqlx::query_as(
        "SELECT q.name::text AS name, q.paused, COALESCE(p.backlog, 0) AS backlog, COALESCE(l.leased, 0) AS leased,
                COALESCE(s.jobs, '{}'::jsonb) AS jobs, s.oldest_age_seconds, s.counted_at
         FROM millstream.queue q
         LEFT JOIN (
           SELECT queue_id, sum(GREATEST(jobs - GREATEST(done, CASE WHEN publishing_since IS NULL THEN taken ELSE 0 END), 0))::bigint AS backlog
           FROM millstream.parcel GROUP BY queue_id
         ) p ON p.queue_id = q.id
         LEFT JOIN (
           -- Leases are few (what runs longer than 200 ms), so each job is looked up by its key.
           SELECT j.queue_id, count(*) AS leased FROM millstream.lease x JOIN millstream.job j ON j.id = x.job_id GROUP BY j.queue_id
         ) l ON l.queue_id = q.id
         LEFT JOIN (
           SELECT queue_id, jsonb_object_agg(state, jobs) AS jobs, max(oldest_age_seconds) FILTER (WHERE state = 'available') AS oldest_age_seconds, max(at) AS counted_at
           FROM millstream.queue_stat GROUP BY queue_id
         ) s ON s.queue_id = q.id
         ORDER BY q.name",
    );
    rows(pg, "listing queues", query).await
}
