//! Dispatch: waiting parcels become stream entries, as far as the window has room (F20, F21).
//!
//! The leader runs it every 50 ms, every other worker once a second in case the leader is stuck. One dispatcher per queue at a
//! time (an advisory lock that ends with the transaction). Tenants take turns: each gives a small share of its oldest parcel, so
//! a million jobs of one do not stand before ten of another.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage,
    failpoint::reach,
    id::JobId,
    job::Priority,
    limits::{PARCEL_JOBS_MAX, WINDOW_ENTRIES_MIN},
    persist::Parcel,
    pg::within,
    stream::publish::publish,
};
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};

use super::{Duty, Ran, Scope, leader::Leadership};
use crate::shared::Shared;

/// The leader's pace: a job from the SQL door waits this long at most.
const EVERY: Duration = Duration::from_millis(50);
/// Everybody else's pace.
const EVERY_OTHER: Duration = Duration::from_secs(1);
/// Tenants served in one run and stream.
const TENANTS_MAX: i64 = 64;
/// Parcels published in one run and stream: bounds the transaction.
const PARCELS_MAX: i64 = 128;

pub(super) struct Dispatch {
    leadership: Leadership,
    /// The last tenant served per queue and priority: the next run goes on behind it.
    turns: HashMap<(i32, i16), i32>,
    /// Finished jobs per second of the fleet, to size the window: (finished, when, rate).
    rate: Option<(i64, Instant, f64)>,
}

impl Dispatch {
    pub(super) fn new(leadership: Leadership) -> Self {
        Self { leadership, turns: HashMap::new(), rate: None }
    }

    /// Entries a stream may hold: half a second of the fleet's recent rate, four rounds of its slots, and a floor.
    async fn window(&mut self, conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
        let row = sqlx::query(
            "SELECT COALESCE(sum(w.slots), 0)::bigint, COALESCE(sum(b.finished), 0)::bigint
             FROM millstream.worker w JOIN millstream.worker_beat b ON b.worker_id = w.id WHERE w.state = 'active'",
        )
        .fetch_one(conn)
        .await?;
        let (slots, finished): (i64, i64) = (row.get(0), row.get(1));
        let rate = match self.rate {
            Some((before, at, rate)) if finished <= before => {
                if at.elapsed() > Duration::from_secs(10) {
                    0.0
                } else {
                    rate
                }
            }
            Some((before, at, _)) => (finished - before) as f64 / at.elapsed().as_secs_f64().max(0.05),
            None => 0.0,
        };
        if self.rate.is_none_or(|(before, ..)| finished != before) {
            self.rate = Some((finished, Instant::now(), rate));
        }
        Ok(WINDOW_ENTRIES_MIN.max(4 * slots.unsigned_abs()).max((rate / 2.0) as u64 / 25))
    }
}

impl Duty for Dispatch {
    const NAME: &'static str = "dispatch";
    const SCOPE: Scope = Scope::Everywhere;

    fn every(&self, _: &Shared) -> Duration {
        if self.leadership.is_mine() { EVERY } else { EVERY_OTHER }
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        if shared.redis.refuses_work() {
            return Ok(Ran::Skipped);
        }
        let op = "looking for waiting parcels";
        let mut lent = shared.pg.main(op).await?;
        let streams = within(op, streams_with_work(lent.conn())).await?;
        let window = if streams.is_empty() { 0 } else { within(op, self.window(lent.conn())).await? };
        lent.done();
        for (queue, name, priority) in streams {
            self.dispatch(shared, queue, &name, priority, window).await?;
        }
        Ok(Ran::Done)
    }
}

async fn streams_with_work(conn: &mut PgConnection) -> Result<Vec<(i32, String, Priority)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT q.id, q.name::text, p.priority FROM millstream.queue q CROSS JOIN (VALUES (0::smallint), (1::smallint), (2::smallint)) AS p(priority)
         WHERE NOT q.paused AND EXISTS (SELECT 1 FROM millstream.parcel c WHERE c.publishing_since IS NULL AND c.queue_id = q.id AND c.priority = p.priority)",
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), Priority::from_number(row.get(2)).unwrap_or_default())).collect())
}

impl Dispatch {
    async fn dispatch(&mut self, shared: &Arc<Shared>, queue: i32, name: &str, priority: Priority, window: u64) -> Result<(), Outage> {
        let room = room(shared, name, priority, window).await?;
        if room == 0 {
            return Ok(());
        }
        let op = "dispatching";
        let after = self.turns.get(&(queue, priority.number())).copied().unwrap_or(0);
        let mut lent = shared.pg.main(op).await?;
        let mut tx = within(op, lent.conn().begin()).await?;
        let picked = within(op, pick(&mut tx, queue, priority, after, room)).await?;
        within(op, tx.commit()).await?;
        lent.done();
        reach("dispatch.marked");
        let Some((parcels, last_tenant)) = picked else { return Ok(()) };
        self.turns.insert((queue, priority.number()), last_tenant);
        let accepted = publish(&shared.redis, name, priority, &parcels).await?;
        reach("dispatch.published");
        let jobs: usize = parcels[..accepted].iter().map(|p| p.jobs.len()).sum();
        shared.metrics.queue(name).published.inc_by(jobs as u64);
        put_off(shared, &parcels[accepted..]).await
    }
}

/// Free entries of a stream. Tells the stream's window to whoever else publishes.
async fn room(shared: &Shared, queue: &str, priority: Priority, window: u64) -> Result<u64, Outage> {
    let op = "measuring a stream";
    let keys = shared.redis.keys();
    let mut conn = shared.redis.connection(op).await?;
    let mut pipe = redis::pipe();
    pipe.cmd("SET").arg(keys.window(queue)).arg(window).ignore().cmd("XLEN").arg(keys.stream(queue, priority));
    let (length,): (u64,) = shared.redis.within(op, pipe.query_async(&mut conn)).await?;
    Ok(window.saturating_sub(length))
}

/// Marks up to `room` entries' worth of parcels as publishing, tenants in turn, and tells which tenant was served last. `None`:
/// somebody else is at it, or nothing fits.
async fn pick(
    conn: &mut PgConnection,
    queue: i32,
    priority: Priority,
    after: i32,
    room: u64,
) -> Result<Option<(Vec<Parcel>, i32)>, sqlx::Error> {
    let mine: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtext('millstream.dispatch'), $1)")
        .bind(queue)
        .fetch_one(&mut *conn)
        .await?;
    if !mine {
        return Ok(None);
    }
    let tenants = tenants_in_turn(conn, queue, priority, after).await?;
    // Several tenants share the room; one alone may have all of it.
    let share = room.div_ceil(tenants.len().max(1) as u64).max(1);
    let mut left: HashMap<i32, u64> = HashMap::new();
    let (mut parcels, mut room, mut last) = (Vec::new(), room, after);
    for row in oldest_parcels(conn, queue, priority, &tenants, share).await? {
        let tenant: i32 = row.try_get("tenant_id")?;
        let budget = left.entry(tenant).or_insert(share);
        let entries = (*budget).min(room);
        if entries == 0 {
            continue;
        }
        let parcel = take(conn, &row, queue, priority, entries as usize).await?;
        let used = parcel.jobs.len().div_ceil(parcel.chunk) as u64;
        *budget = budget.saturating_sub(used);
        room = room.saturating_sub(used);
        last = tenant;
        parcels.push(parcel);
    }
    Ok((!parcels.is_empty()).then_some((parcels, last)))
}

/// The oldest waiting parcels of each tenant that some live worker can run, in the tenants' order. A rest that ends far ahead was
/// written before the clock of Postgres was set back, and is over.
async fn oldest_parcels(
    conn: &mut PgConnection,
    queue: i32,
    priority: Priority,
    tenants: &[i32],
    each: u64,
) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(
        "SELECT p.id, p.tenant_id, p.chunk, p.jobs, p.taken, p.ids, p.epochs FROM unnest($1::int[]) WITH ORDINALITY AS t(id, turn)
         CROSS JOIN LATERAL (
           SELECT c.id, c.tenant_id, c.chunk, c.jobs, c.taken, c.ids, c.epochs FROM millstream.parcel c
           WHERE c.publishing_since IS NULL AND c.queue_id = $2 AND c.priority = $3 AND c.tenant_id = t.id AND (c.not_before IS NULL OR c.not_before NOT BETWEEN now() AND now() + interval '1 minute')
             AND EXISTS (SELECT 1 FROM millstream.kind k WHERE k.id = c.kind_id AND NOT k.paused)
             AND EXISTS (SELECT 1 FROM millstream.worker w WHERE w.state = 'active' AND c.kind_id = ANY(w.kinds) AND c.queue_id = ANY(w.queues))
           ORDER BY c.id LIMIT $4 FOR UPDATE SKIP LOCKED
         ) p ORDER BY t.turn, p.id",
    )
    .bind(tenants)
    .bind(queue)
    .bind(priority.number())
    .bind(PARCELS_MAX.min(each as i64))
    .fetch_all(conn)
    .await
}

/// Tenants with waiting parcels, those behind `after` first, found by skipping through the index.
async fn tenants_in_turn(conn: &mut PgConnection, queue: i32, priority: Priority, after: i32) -> Result<Vec<i32>, sqlx::Error> {
    let mut tenants: Vec<i32> = Vec::new();
    for (from, to) in [(after, i32::MAX), (-1, after)] {
        let found: Vec<i32> = sqlx::query_scalar(
            "WITH RECURSIVE t AS (
               (SELECT tenant_id FROM millstream.parcel WHERE publishing_since IS NULL AND queue_id = $1 AND priority = $2 AND tenant_id > $3 ORDER BY tenant_id LIMIT 1)
               UNION ALL
               SELECT (SELECT tenant_id FROM millstream.parcel WHERE publishing_since IS NULL AND queue_id = $1 AND priority = $2 AND tenant_id > t.tenant_id ORDER BY tenant_id LIMIT 1)
               FROM t WHERE t.tenant_id IS NOT NULL
             )
             SELECT tenant_id FROM t WHERE tenant_id <= $4 AND NOT EXISTS (SELECT 1 FROM millstream.tenant n WHERE n.id = t.tenant_id AND n.paused) LIMIT $5",
        )
        .bind(queue)
        .bind(priority.number())
        .bind(from)
        .bind(to)
        .bind(TENANTS_MAX - tenants.len() as i64)
        .fetch_all(&mut *conn)
        .await?;
        tenants.extend(found);
    }
    Ok(tenants)
}

/// Marks a parcel as publishing; of one that is too large only its next `entries`, as a parcel of their own.
async fn take(conn: &mut PgConnection, row: &PgRow, queue: i32, priority: Priority, entries: usize) -> Result<Parcel, sqlx::Error> {
    let chunk = row.try_get::<i16, _>("chunk")?.max(1) as usize;
    let (id, taken): (i64, i16) = (row.try_get("id")?, row.try_get("taken")?);
    let (ids, epochs): (Vec<JobId>, Option<Vec<i32>>) = (row.try_get("ids")?, row.try_get("epochs")?);
    let jobs: Vec<(JobId, i32)> = ids
        .into_iter()
        .enumerate()
        .map(|(i, id)| (id, epochs.as_ref().and_then(|e| e.get(i).copied()).unwrap_or(0)))
        .skip(taken.max(0) as usize)
        .collect();
    let fit = (entries * chunk).clamp(1, PARCEL_JOBS_MAX).min(jobs.len());
    if fit == jobs.len() && taken == 0 {
        sqlx::query("UPDATE millstream.parcel SET publishing_since = now() WHERE id = $1").bind(id).execute(conn).await?;
        return Ok(Parcel { id, queue, priority, chunk, jobs });
    }
    let part: i64 = sqlx::query_scalar(
        "INSERT INTO millstream.parcel (publishing_since, enqueued_at, queue_id, tenant_id, kind_id, priority, chunk, jobs, epochs, ids)
         SELECT now(), enqueued_at, queue_id, tenant_id, kind_id, priority, chunk, $2, epochs[taken + 1 : taken + $2], ids[taken + 1 : taken + $2]
         FROM millstream.parcel WHERE id = $1 RETURNING id",
    )
    .bind(id)
    .bind(fit as i16)
    .fetch_one(&mut *conn)
    .await?;
    let moved = if fit == jobs.len() {
        sqlx::query("DELETE FROM millstream.parcel WHERE id = $1").bind(id)
    } else {
        sqlx::query("UPDATE millstream.parcel SET taken = taken + $2 WHERE id = $1").bind(id).bind(fit as i16)
    };
    moved.execute(conn).await?;
    Ok(Parcel { id: part, queue, priority, chunk, jobs: jobs.into_iter().take(fit).collect() })
}

/// What the stream refused for want of room waits again.
async fn put_off(shared: &Shared, refused: &[Parcel]) -> Result<(), Outage> {
    if refused.is_empty() {
        return Ok(());
    }
    let op = "putting parcels off";
    let ids: Vec<i64> = refused.iter().map(|p| p.id).collect();
    let mut lent = shared.pg.main(op).await?;
    within(
        op,
        sqlx::query("UPDATE millstream.parcel SET publishing_since = NULL WHERE id = ANY($1) AND taken = 0").bind(ids).execute(lent.conn()),
    )
    .await?;
    lent.done();
    Ok(())
}
