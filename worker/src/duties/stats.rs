//! Counts by state, for pages, scrapes and scaling: written to one small table, exported as gauges by the leader.
//!
//! Nothing here counts the job table: what waits is in the parcels, what runs in the leases, what is due later behind the
//! `ready_at` index, what is dead in the dead letters.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage,
    job::Priority,
    metrics::EnqueueSource,
    pg::Lent,
    stream::{GROUP, wire},
};
use sqlx::Row;

use super::{Duty, Ran, Scope};
use crate::shared::Shared;

/// The counts are this fresh unless there is very much to count.
const EVERY: Duration = Duration::from_secs(2);
/// Counting takes a twentieth of one core at most: with millions of scheduled jobs it is done less often.
const REST_FACTOR: u32 = 20;

/// Calls of the SQL door counted in one run; more are counted in the next.
const SQL_CALLS_MAX: i64 = 50_000;
/// Batches that were held when jobs of theirs ended, taken up in one run; more are taken up in the next.
const NOTED_BATCHES_MAX: i32 = 1_000;

#[derive(Default)]
pub(super) struct Stats {
    /// How long it took to count last.
    took: Duration,
}

impl Duty for Stats {
    const NAME: &'static str = "stats";
    const SCOPE: Scope = Scope::Leader;

    fn every(&self, _: &Shared) -> Duration {
        EVERY.max(self.took * REST_FACTOR)
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        let start = Instant::now();
        let mut lent = shared.pg.hot("counting").await?;
        refresh(&mut lent).await?;
        export(&mut lent, shared).await?;
        count_sql_door(&mut lent, shared).await?;
        let noted = sqlx::query("SELECT millstream.count_noted($1)").bind(NOTED_BATCHES_MAX);
        lent.execute(noted).await?;
        drop(lent);
        self.took = start.elapsed();
        if !shared.redis.is_down() {
            export_streams(shared).await?;
        }
        Ok(Ran::Done)
    }
}

async fn refresh(lent: &mut Lent) -> Result<(), Outage> {
    let refresh = sqlx::query(
        "WITH counted AS (
           SELECT queue_id, 'available' AS state, sum(jobs - GREATEST(done, taken))::bigint AS jobs, extract(epoch FROM now() - min(enqueued_at))::float8 AS age
           FROM millstream.parcel GROUP BY queue_id
           UNION ALL
           SELECT j.queue_id, 'running', count(*), extract(epoch FROM now() - min(l.leased_at))::float8 FROM millstream.lease l JOIN millstream.job j ON j.id = l.job_id GROUP BY j.queue_id
           UNION ALL
           SELECT queue_id, (ARRAY['scheduled', 'retryable', 'rate_limited'])[state - 2], count(*), NULL FROM millstream.job WHERE ready_at IS NOT NULL AND state IN (3, 4, 5) GROUP BY queue_id, state
           UNION ALL
           SELECT queue_id, 'dead', count(*), extract(epoch FROM now() - min(died_at))::float8 FROM millstream.dead_letter GROUP BY queue_id
         ), everything AS (
           SELECT q.id AS queue_id, s.state, COALESCE(c.jobs, 0) AS jobs, c.age FROM millstream.queue q
           CROSS JOIN unnest(ARRAY['available', 'running', 'scheduled', 'retryable', 'rate_limited', 'dead']) AS s(state)
           LEFT JOIN counted c ON c.queue_id = q.id AND c.state = s.state
         )
         INSERT INTO millstream.queue_stat (queue_id, state, jobs, oldest_age_seconds, at) SELECT queue_id, state, jobs, age, now() FROM everything
         ON CONFLICT (queue_id, state) DO UPDATE SET jobs = EXCLUDED.jobs, oldest_age_seconds = EXCLUDED.oldest_age_seconds, at = EXCLUDED.at",
    );
    lent.execute(refresh).await.map(drop)
}

async fn export(lent: &mut Lent, shared: &Shared) -> Result<(), Outage> {
    let gauges = &shared.metrics.gauges;
    let query = sqlx::query(
        "SELECT q.name::text, s.state, s.jobs::float8, s.oldest_age_seconds FROM millstream.queue_stat s JOIN millstream.queue q ON q.id = s.queue_id",
    );
    let rows = lent.all(query).await?;
    gauges.queue_jobs.replace(
        rows.iter()
            .map(|r| ([r.get::<String, _>(0), r.get(1)], r.get(2))),
    );
    let available = rows.iter().filter(|r| r.get::<&str, _>(1) == "available");
    gauges
        .queue_oldest_job_age_seconds
        .replace(available.map(|r| {
            (
                [r.get::<String, _>(0)],
                r.get::<Option<f64>, _>(3).unwrap_or(0.0),
            )
        }));
    let query = sqlx::query(
        "SELECT CASE WHEN publishing_since IS NULL THEN 'waiting' ELSE 'publishing' END, count(*)::float8 FROM millstream.parcel GROUP BY 1",
    );
    let rows = lent.all(query).await?;
    gauges
        .parcels
        .replace(rows.iter().map(|r| ([r.get::<String, _>(0)], r.get(1))));
    let query = sqlx::query("SELECT state, count(*)::float8 FROM millstream.document GROUP BY 1");
    let rows = lent.all(query).await?;
    gauges
        .documents
        .replace(rows.iter().map(|r| ([r.get::<String, _>(0)], r.get(1))));
    let query = sqlx::query_scalar(
        "SELECT count(*) FROM millstream.worker WHERE state IN ('active', 'paused')",
    );
    gauges.workers_live.set(lent.one(query).await?);
    Ok(())
}

/// Counts what came in by the SQL door, which has no process of its own. A row that is taken away here is counted here and nowhere else.
async fn count_sql_door(lent: &mut Lent, shared: &Shared) -> Result<(), Outage> {
    let query = sqlx::query(
        "WITH gone AS (
           DELETE FROM millstream.sql_enqueued WHERE ctid = ANY (ARRAY(SELECT ctid FROM millstream.sql_enqueued LIMIT $1))
           RETURNING queue_id, kind_id, jobs
         )
         SELECT q.name::text, k.name::text, sum(g.jobs)::bigint FROM gone g
         JOIN millstream.queue q ON q.id = g.queue_id JOIN millstream.kind k ON k.id = g.kind_id GROUP BY q.name, k.name",
    )
    .bind(SQL_CALLS_MAX);
    for row in lent.all(query).await? {
        shared
            .metrics
            .job(row.get(0), row.get(1))
            .enqueued(EnqueueSource::Sql, row.get::<i64, _>(2) as u64);
    }
    Ok(())
}

async fn export_streams(shared: &Shared) -> Result<(), Outage> {
    let op = "measuring streams";
    let (mut lengths, mut waiting) = (Vec::new(), Vec::new());
    for (_, queue) in shared.catalog.queues() {
        for priority in Priority::ALL {
            let stream = shared.redis.keys().stream(&queue, priority);
            // No stream: nothing in it.
            let length = redis::Cmd::xlen(&stream);
            let length = shared.redis.ask_about(op, &length).await?;
            let length = length.as_ref().and_then(wire::number).unwrap_or(0);
            let summary = redis::Cmd::xpending(&stream, GROUP);
            let pending: Result<redis::Value, Outage> = shared.redis.ask(op, &summary).await;
            let pending = pending.ok();
            let pending = pending.and_then(|told| wire::number(wire::items(&told).first()?));
            lengths.push(([queue.to_string(), priority.to_string()], length as f64));
            waiting.push((
                [queue.to_string(), priority.to_string()],
                pending.unwrap_or(0) as f64,
            ));
        }
    }
    shared.metrics.gauges.stream_entries.replace(lengths);
    shared
        .metrics
        .gauges
        .stream_pending_entries
        .replace(waiting);
    Ok(())
}
