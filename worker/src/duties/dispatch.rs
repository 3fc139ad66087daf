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
    is_closed,
    job::Priority,
    limits::PARCEL_JOBS_MAX,
    persist::Parcel,
    pg::{Lent, within},
    stream::publish::publish,
};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    Duty, Ran, Scope,
    leader::Leadership,
    window::{Flows, level},
};
use crate::shared::Shared;

/// The leader's pace: a job from the SQL door waits this long at most while the window has room.
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
    flows: Flows,
}

impl Dispatch {
    pub(super) fn new(leadership: Leadership) -> Self {
        Self {
            leadership,
            turns: HashMap::new(),
            flows: Flows::default(),
        }
    }
}

impl Duty for Dispatch {
    const NAME: &'static str = "dispatch";
    const SCOPE: Scope = Scope::Everywhere;

    fn every(&self, _: &Shared) -> Duration {
        if self.leadership.is_mine() {
            EVERY
        } else {
            EVERY_OTHER
        }
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        if shared.redis.refuses_work() {
            return Ok(Ran::Skipped);
        }
        let mut lent = shared.pg.hot("looking for waiting parcels").await?;
        let mut streams = streams_with_work(&mut lent).await?;
        let slots = if streams.is_empty() {
            0
        } else {
            slots(&mut lent).await?
        };
        // Tenants with few jobs each fill a window in several rounds; no stream waits for that of another.
        let start = Instant::now();
        while !streams.is_empty() && start.elapsed() < EVERY {
            let mut unfilled = Vec::new();
            for (queue, name, priority) in streams {
                if self.dispatch(shared, queue, &name, priority, slots).await? {
                    unfilled.push((queue, name, priority));
                }
            }
            streams = unfilled;
        }
        Ok(Ran::Done)
    }
}

async fn streams_with_work(lent: &mut Lent) -> Result<Vec<(i32, String, Priority)>, Outage> {
    let query = sqlx::query(
        "SELECT q.id, q.name::text, p.priority FROM millstream.queue q CROSS JOIN (VALUES (0::smallint), (1::smallint), (2::smallint)) AS p(priority)
         CROSS JOIN millstream.closed
         WHERE q.id <> ALL(queues) AND EXISTS (SELECT 1 FROM millstream.parcel c WHERE c.publishing_since IS NULL AND c.queue_id = q.id AND c.priority = p.priority)",
    );
    let rows = lent.all(query).await?;
    Ok(rows
        .iter()
        .map(|row| {
            (
                row.get(0),
                row.get(1),
                Priority::from_number(row.get(2)).unwrap_or_default(),
            )
        })
        .collect())
}

/// Slots of the fleet.
async fn slots(lent: &mut Lent) -> Result<u64, Outage> {
    let query = sqlx::query_scalar(
        "SELECT COALESCE(sum(slots), 0)::bigint FROM millstream.worker WHERE state = 'active'",
    );
    let slots: i64 = lent.one(query).await?;
    Ok(slots.unsigned_abs())
}

impl Dispatch {
    /// Free entries of a stream. Tells the queue's window to whoever else publishes.
    async fn room(
        &mut self,
        shared: &Shared,
        queue: i32,
        name: &str,
        priority: Priority,
        slots: u64,
    ) -> Result<u64, Outage> {
        let level = level(shared, name, priority).await?;
        self.flows.note(queue, priority, level, Instant::now());
        let window = self.flows.window(queue, slots);
        let set = redis::Cmd::set(shared.redis.keys().window(name), window);
        shared.redis.ask::<()>("telling a window", &set).await?;
        Ok(window.saturating_sub(level.length))
    }

    /// One round; true: there may be more to dispatch, and there is room for it.
    async fn dispatch(
        &mut self,
        shared: &Arc<Shared>,
        queue: i32,
        name: &str,
        priority: Priority,
        slots: u64,
    ) -> Result<bool, Outage> {
        let room = self.room(shared, queue, name, priority, slots).await?;
        if room == 0 {
            return Ok(false);
        }
        let after = self
            .turns
            .get(&(queue, priority.number()))
            .copied()
            .unwrap_or(0);
        let mut lent = shared.pg.hot("dispatching").await?;
        let mut tx = lent.begin().await?;
        let picked = within("dispatching", pick(&mut tx, queue, priority, after, room)).await?;
        tx.commit().await?;
        reach("dispatch.marked");
        let Some((parcels, last_tenant)) = picked else {
            return Ok(false);
        };
        self.turns.insert((queue, priority.number()), last_tenant);
        if parcels.is_empty() {
            return Ok(true);
        }
        let accepted = publish(&shared.redis, name, priority, &parcels).await?;
        reach("dispatch.published");
        let jobs: usize = parcels[..accepted].iter().map(|p| p.jobs.len()).sum();
        shared.metrics.queue(name).published.inc_by(jobs as u64);
        wait_again(shared, &parcels[accepted..]).await?;
        Ok(accepted == parcels.len())
    }
}

/// Marks up to `room` entries' worth of parcels as publishing, tenants in turn, and tells which tenant was served last, or
/// looked at in vain. `None`: somebody else is at it, or nothing fits.
async fn pick(
    conn: &mut PgConnection,
    queue: i32,
    priority: Priority,
    after: i32,
    room: u64,
) -> Result<Option<(Vec<Parcel>, i32)>, sqlx::Error> {
    let mine: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtext('millstream.dispatch'), $1)")
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
    let (mut shares, mut room, mut last) = (Vec::new(), room, after);
    for row in oldest_parcels(conn, queue, priority, &tenants, share).await? {
        let tenant: i32 = row.try_get("tenant_id")?;
        let budget = left.entry(tenant).or_insert(share);
        let entries = (*budget).min(room);
        if entries == 0 {
            continue;
        }
        let share = Share::of(&row, entries as usize)?;
        let used = share.fit.div_ceil(share.chunk) as u64;
        *budget = budget.saturating_sub(used);
        room = room.saturating_sub(used);
        last = tenant;
        shares.push(share);
    }
    let parcels = take(conn, queue, priority, &shares).await?;
    // Of so many tenants nothing can be run now; those behind them have their turn.
    if parcels.is_empty() && tenants.len() as i64 == TENANTS_MAX {
        return Ok(tenants.last().map(|last| (parcels, *last)));
    }
    Ok((!parcels.is_empty()).then_some((parcels, last)))
}

/// What a waiting parcel is to give.
struct Share {
    id: i64,
    chunk: usize,
    taken: i16,
    /// Jobs behind the cursor, and how many of them.
    left: usize,
    fit: usize,
}

impl Share {
    fn of(row: &PgRow, entries: usize) -> Result<Self, sqlx::Error> {
        let chunk = row.try_get::<i16, _>("chunk")?.max(1) as usize;
        let (taken, jobs): (i16, i16) = (row.try_get("taken")?, row.try_get("jobs")?);
        let left = (jobs - taken).max(0) as usize;
        Ok(Self {
            id: row.try_get("id")?,
            chunk,
            taken,
            left,
            fit: (entries * chunk).clamp(1, PARCEL_JOBS_MAX).min(left),
        })
    }

    fn is_whole(&self) -> bool {
        self.fit == self.left && self.taken == 0
    }
}

/// The oldest waiting parcels of each tenant that may go now and that some live worker can run, in the tenants' order, as many as `each`
/// entries take. Without their lists, which are read when they are taken: the last one may be large and needed in small part only.
async fn oldest_parcels(
    conn: &mut PgConnection,
    queue: i32,
    priority: Priority,
    tenants: &[i32],
    each: u64,
) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(concat!(
        "SELECT p.id, p.tenant_id, p.chunk, p.jobs, p.taken FROM unnest($1::int[]) WITH ORDINALITY AS t(id, turn) CROSS JOIN millstream.closed
         CROSS JOIN LATERAL (
           SELECT c.id, c.tenant_id, c.chunk, c.jobs, c.taken,
                  sum(ceil((c.jobs - c.taken)::float8 / greatest(c.chunk, 1))) OVER (ORDER BY c.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
           FROM millstream.parcel c
           WHERE c.publishing_since IS NULL AND c.queue_id = $2 AND c.priority = $3 AND c.tenant_id = t.id AND millstream.has_rested(c.not_before)
             AND c.kind_id = ANY((SELECT millstream.served_kinds($2))::int[]) AND NOT ",
        is_closed!("c"),
        "  ORDER BY c.id LIMIT $4
         ) p WHERE p.before IS NULL OR p.before < $5 ORDER BY t.turn, p.id",
    ))
    .bind(tenants)
    .bind(queue)
    .bind(priority.number())
    .bind(PARCELS_MAX.min(each as i64))
    .bind(each as f64)
    .fetch_all(conn)
    .await
}

/// Tenants with waiting parcels, those behind `after` first, found by skipping through the index.
async fn tenants_in_turn(
    conn: &mut PgConnection,
    queue: i32,
    priority: Priority,
    after: i32,
) -> Result<Vec<i32>, sqlx::Error> {
    let mut tenants: Vec<i32> = Vec::new();
    for (from, to) in [(after, i32::MAX), (-1, after)] {
        let found: Vec<i32> = sqlx::query_scalar(
            "WITH RECURSIVE t AS (
               (SELECT tenant_id FROM millstream.parcel WHERE publishing_since IS NULL AND queue_id = $1 AND priority = $2 AND tenant_id > $3 ORDER BY tenant_id LIMIT 1)
               UNION ALL
               SELECT (SELECT tenant_id FROM millstream.parcel WHERE publishing_since IS NULL AND queue_id = $1 AND priority = $2 AND tenant_id > t.tenant_id ORDER BY tenant_id LIMIT 1)
               FROM t WHERE t.tenant_id IS NOT NULL
             )
             SELECT tenant_id FROM t CROSS JOIN millstream.closed WHERE tenant_id <= $4 AND tenant_id <> ALL(tenants) LIMIT $5",
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

/// Marks the parcels as publishing, in this order; of one that is too large only its share, as a parcel of its own. What somebody else
/// has moved on meanwhile is left out.
async fn take(
    conn: &mut PgConnection,
    queue: i32,
    priority: Priority,
    shares: &[Share],
) -> Result<Vec<Parcel>, sqlx::Error> {
    let mut whole = take_whole(
        conn,
        shares
            .iter()
            .filter(|share| share.is_whole())
            .map(|share| share.id)
            .collect(),
    )
    .await?;
    let mut parcels = Vec::with_capacity(shares.len());
    for share in shares {
        let row = if share.is_whole() {
            whole.remove(&share.id)
        } else {
            part(conn, share).await?
        };
        let Some(row) = row else { continue };
        let (id, ids, epochs): (i64, Vec<JobId>, Option<Vec<i32>>) = (
            row.try_get("id")?,
            row.try_get("ids")?,
            row.try_get("epochs")?,
        );
        let epoch = |nth: usize| {
            epochs
                .as_ref()
                .and_then(|all| all.get(nth).copied())
                .unwrap_or(0)
        };
        let jobs = ids
            .into_iter()
            .enumerate()
            .map(|(nth, id)| (id, epoch(nth)))
            .collect();
        parcels.push(Parcel {
            id,
            queue,
            priority,
            chunk: share.chunk,
            jobs,
        });
    }
    Ok(parcels)
}

async fn take_whole(
    conn: &mut PgConnection,
    parcels: Vec<i64>,
) -> Result<HashMap<i64, PgRow>, sqlx::Error> {
    let rows = sqlx::query(
        "UPDATE millstream.parcel SET publishing_since = now() WHERE id = ANY(ARRAY(
           SELECT id FROM millstream.parcel WHERE id = ANY($1) AND publishing_since IS NULL AND taken = 0 ORDER BY id FOR UPDATE SKIP LOCKED
         )) RETURNING id, ids, epochs",
    )
    .bind(parcels)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.get("id"), row)).collect())
}

/// The next jobs behind the cursor.
async fn part(conn: &mut PgConnection, share: &Share) -> Result<Option<PgRow>, sqlx::Error> {
    let (id, fit) = (share.id, share.fit as i16);
    let part = sqlx::query(
        "INSERT INTO millstream.parcel (publishing_since, enqueued_at, queue_id, tenant_id, kind_id, priority, chunk, jobs, epochs, ids)
         SELECT now(), enqueued_at, queue_id, tenant_id, kind_id, priority, chunk, $3, epochs[taken + 1 : taken + $3], ids[taken + 1 : taken + $3]
         FROM millstream.parcel WHERE id = $1 AND publishing_since IS NULL AND taken = $2 AND jobs - taken = $4 FOR UPDATE SKIP LOCKED
         RETURNING id, ids, epochs",
    )
    .bind(id)
    .bind(share.taken)
    .bind(fit)
    .bind(share.left as i16)
    .fetch_optional(&mut *conn)
    .await?;
    if part.is_some() {
        let moved = if share.fit == share.left {
            sqlx::query("DELETE FROM millstream.parcel WHERE id = $1").bind(id)
        } else {
            sqlx::query("UPDATE millstream.parcel SET taken = taken + $2 WHERE id = $1")
                .bind(id)
                .bind(fit)
        };
        moved.execute(conn).await?;
    }
    Ok(part)
}

/// What the stream refused for want of room waits again.
async fn wait_again(shared: &Shared, refused: &[Parcel]) -> Result<(), Outage> {
    if refused.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = refused.iter().map(|p| p.id).collect();
    let update = sqlx::query(
        "UPDATE millstream.parcel SET publishing_since = NULL WHERE id = ANY($1) AND taken = 0",
    )
    .bind(ids);
    let loan = shared.pg.hot("setting parcels back to waiting");
    loan.execute(update).await.map(drop)
}
