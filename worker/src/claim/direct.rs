//! Claim without Redis: straight from the parcels, leased from the start (F12).
//!
//! While the breaker is open every worker takes jobs from waiting parcels, and, unless Redis is only full and its streams are read
//! on, from published ones whose promise is older than the grace period, since the streams that may hold them are out of reach.
//! The guarded UPDATE raises the epoch, so whatever
//! the streams still say when they come back is stale.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage,
    id::JobId,
    is_closed,
    job::Priority,
    limits::{PARCEL_JOBS_MAX, PUBLISH_GRACE, RECONCILE_SETTLE},
    pg::within,
    rehand::Leases,
    seldom::Seldom,
};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    order::{Order, WEIGHTS_DEFAULT},
    put_back::{Foreign, put_back},
    rows::is_late,
};
use crate::{
    hand_back::hand_back,
    job::{Claimed, ClaimedJob, Hold},
    lease::over_stale_lease,
    queues::Queue,
    run::{Runs, group::spawn_runs},
    shared::Shared,
};

/// No promise is that old: only waiting parcels are taken.
const NEVER: Duration = Duration::from_hours(24 * 365);
/// How often the breaker and empty parcels are looked at again.
const LOOK: Duration = Duration::from_millis(100);
/// Parcels locked in one go.
const PARCELS_MAX: i64 = 8;
/// `/livez` fails when the loop has not turned for this long.
const SILENCE_MAX: Duration = Duration::from_mins(1);

static LINES: Seldom = Seldom::new();

/// Claims from Postgres whenever Redis is down, until the worker drains.
pub(crate) async fn run(runs: Arc<Runs>) {
    let shared = &runs.shared;
    let mut order = Order::new(WEIGHTS_DEFAULT);
    let mut down_since = None;
    loop {
        shared.pulses.turn("direct claim", SILENCE_MAX);
        if shared.signals.draining.is_cancelled() {
            break;
        }
        down_since = if shared.redis.is_down() {
            down_since.or_else(|| Some(Instant::now()))
        } else {
            None
        };
        // What was read just before the streams went away is settled or leased after this.
        let grace = if down_since.is_some_and(|at: Instant| at.elapsed() > RECONCILE_SETTLE) {
            PUBLISH_GRACE
        } else {
            NEVER
        };
        let room = room(shared);
        let claimed = if room == 0 {
            Ok(0)
        } else {
            claim(&runs, order.next(), room, grace).await
        };
        if let Err(outage) = &claimed {
            shared.metrics.counters.postgres_failed("claim");
            if let Some(kept_back) = LINES.may_speak() {
                tracing::warn!(kept_back, error = %millstream_common::error::in_full(outage), "claiming from Postgres failed");
            }
        }
        if claimed.is_ok_and(|n| n > 0) {
            continue;
        }
        tokio::select! { () = tokio::time::sleep(LOOK) => {}, () = shared.signals.draining.cancelled() => {} }
    }
    shared.pulses.end("direct claim");
}

/// For so many jobs; 0 also where nothing may be claimed.
fn room(shared: &Shared) -> usize {
    if !may_claim(shared) {
        return 0;
    }
    let room = shared.work.capacity.room(least_weight(shared));
    room.min(PARCEL_JOBS_MAX)
}

fn may_claim(shared: &Shared) -> bool {
    use std::sync::atomic::Ordering::Relaxed;
    shared.redis.refuses_work() && shared.contact.is_up() && !shared.signals.paused.load(Relaxed)
}

/// Of the quickest kind: room is asked for as many jobs as could fit.
fn least_weight(shared: &Shared) -> u64 {
    shared
        .serves
        .registry
        .all()
        .map(|kind| kind.weight())
        .min()
        .unwrap_or(1)
}

async fn claim(
    runs: &Arc<Runs>,
    order: [Priority; 3],
    room: usize,
    grace: Duration,
) -> Result<usize, Outage> {
    let (shared, op) = (&runs.shared, "claiming from Postgres");
    let mut lent = shared.pg.main(op).await?;
    let asked_at = Instant::now();
    let mut tx = lent.begin().await?;
    let hints = within(op, take_hints(&mut tx, shared, order, room, grace)).await?;
    let rows = within(op, lease(&mut tx, shared, &hints)).await?;
    let sent_at = Instant::now();
    tx.commit().await?;
    drop(lent);
    if is_late(&shared.contact, sent_at) {
        return hand_back_late(shared, &rows).await;
    }
    let (known, newer): (Vec<_>, Vec<_>) = rows.iter().partition(|row| {
        shared
            .serves
            .registry
            .knows(row.get("kind_id"), row.get("schema_version"))
    });
    spawn_runs(
        runs,
        known
            .iter()
            .filter_map(|row| claimed(shared, row, asked_at)),
    );
    put_back_newer(shared, &newer).await;
    Ok(known.len())
}

/// Of payload versions that this process does not know.
async fn put_back_newer(shared: &Shared, newer: &[&PgRow]) {
    for queue in shared.serves.queues.all().iter() {
        let of_queue = newer
            .iter()
            .filter(|row| row.get::<i32, _>("queue_id") == queue.id);
        let jobs: Vec<_> = of_queue
            .map(|row| Foreign {
                id: row.get("id"),
                epoch: row.get("epoch"),
                kind_id: row.get("kind_id"),
                is_closed: false,
            })
            .collect();
        put_back(shared, queue, &jobs).await;
    }
}

/// Leases whose grant came too late: this worker may have been taken for dead meanwhile. Should this fail too, the heart finds leases without
/// a run and hands them back.
async fn hand_back_late(shared: &Shared, rows: &[PgRow]) -> Result<usize, Outage> {
    let jobs: Vec<(JobId, i32)> = rows
        .iter()
        .map(|row| (row.get("id"), row.get("epoch")))
        .collect();
    hand_back(&shared.pg, &jobs, Leases::Included, None).await?;
    Err(Outage::PostgresTimeout {
        op: "claiming from Postgres",
    })
}

/// Moves the cursors of the next parcels that may go now on, and returns the jobs they pass over. A promise far ahead was made before the clock
/// of Postgres was set back: it binds nobody.
async fn take_hints(
    conn: &mut PgConnection,
    shared: &Shared,
    order: [Priority; 3],
    room: usize,
    grace: Duration,
) -> Result<Vec<(JobId, i32)>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "SELECT p.id, p.taken, p.jobs, p.ids[p.taken + 1 : p.taken + $5] AS ids, p.epochs[p.taken + 1 : p.taken + $5] AS epochs
         FROM millstream.parcel p CROSS JOIN millstream.closed
         WHERE p.queue_id = ANY($1) AND p.kind_id = ANY($2) AND millstream.has_rested(p.not_before) AND NOT ",
        is_closed!("p"),
        "  AND (p.publishing_since IS NULL OR p.publishing_since NOT BETWEEN now() - $3 * interval '1 second' AND now() + interval '1 minute')
         ORDER BY array_position($4, p.priority), p.id LIMIT $6 FOR UPDATE OF p SKIP LOCKED",
    ))
    .bind(shared.serves.queues.ids())
    .bind(shared.serves.registry.kind_ids())
    .bind(grace.as_secs_f64())
    .bind(order.map(Priority::number).to_vec())
    .bind(room as i32)
    .bind(PARCELS_MAX)
    .fetch_all(&mut *conn)
    .await?;
    let mut hints = Vec::with_capacity(room);
    let (mut finished, mut moved) = (Vec::new(), Vec::new());
    for row in rows {
        let ids: Vec<JobId> = row.try_get("ids")?;
        let epochs: Option<Vec<i32>> = row.try_get("epochs")?;
        let fit = ids.len().min(room - hints.len());
        hints.extend(ids.iter().take(fit).enumerate().map(|(i, id)| {
            (
                *id,
                epochs.as_ref().and_then(|e| e.get(i).copied()).unwrap_or(0),
            )
        }));
        let (id, taken, jobs): (i64, i16, i16) = (
            row.try_get("id")?,
            row.try_get("taken")?,
            row.try_get("jobs")?,
        );
        let cursor = taken + fit as i16;
        if cursor >= jobs {
            finished.push(id);
        } else {
            moved.push((id, cursor));
        }
    }
    move_on(conn, finished, moved).await?;
    Ok(hints)
}

/// Deletes parcels that are used up and moves the cursors of the others.
async fn move_on(
    conn: &mut PgConnection,
    finished: Vec<i64>,
    moved: Vec<(i64, i16)>,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM millstream.parcel WHERE id = ANY($1)")
        .bind(finished)
        .execute(&mut *conn)
        .await?;
    let (ids, cursors): (Vec<i64>, Vec<i16>) = moved.into_iter().unzip();
    sqlx::query(
        "UPDATE millstream.parcel p SET taken = u.taken FROM unnest($1::bigint[], $2::smallint[]) AS u(id, taken) WHERE p.id = u.id",
    )
    .bind(ids)
    .bind(cursors)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the jobs that are still available, at a new epoch, with a lease.
async fn lease(
    conn: &mut PgConnection,
    shared: &Shared,
    hints: &[(JobId, i32)],
) -> Result<Vec<PgRow>, sqlx::Error> {
    // The lock order of all who change several jobs.
    let mut hints = hints.to_vec();
    hints.sort_unstable();
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = hints.into_iter().unzip();
    sqlx::query(concat!(
        "WITH taken AS (
           UPDATE millstream.job j SET state = 1, epoch = j.epoch + 1, worker_id = $3, started_at = now()
           FROM unnest($1::uuid[], $2::int[]) AS u(id, epoch)
           WHERE j.id = u.id AND j.epoch = u.epoch AND j.state = 0
           RETURNING j.id, j.epoch, j.queue_id, j.kind_id, j.tenant_id, j.attempt, j.max_attempts, j.payload, j.batch_id, j.trace,
                     j.schema_version, j.crash_count
         ), leased AS (INSERT INTO millstream.lease (job_id, epoch, worker_id) SELECT id, epoch, $3 FROM taken",
        over_stale_lease!(),
        ") SELECT * FROM taken",
    ))
    .bind(ids)
    .bind(epochs)
    .bind(shared.worker_id)
    .fetch_all(conn)
    .await
}

fn claimed(shared: &Arc<Shared>, row: &PgRow, asked_at: Instant) -> Option<Claimed> {
    let hold = Arc::new(Hold::leased(row.get("id"), row.get("epoch")));
    let kind = shared.serves.registry.get(row.get("kind_id"))?.clone();
    let queue_id: i32 = row.get("queue_id");
    let queue: Queue = shared
        .serves
        .queues
        .all()
        .iter()
        .find(|q| q.id == queue_id)?
        .clone();
    let crashes: i16 = row.get("crash_count");
    let weight = kind.weight_of(crashes);
    // In hand at an older epoch, which is lost: the heartbeat gives this lease back when that run has ended.
    let in_hand = shared.work.held.take(&hold)?;
    let meters = shared.meters.queue(&queue);
    meters.claimed.inc();
    meters.claimed_directly.inc();
    Some(Box::new(ClaimedJob {
        guards: (in_hand, shared.work.capacity.take(1, weight)),
        hold,
        kind,
        queue,
        tenant_id: row.get("tenant_id"),
        attempt: row.get("attempt"),
        max_attempts: row.get("max_attempts"),
        batch_id: row.get("batch_id"),
        payload: row.get("payload"),
        trace: row.get("trace"),
        crashes,
        asked_at,
    }))
}
