//! The claim statement of the hot path: one SELECT by ids, no write.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use millstream_common::{
    error::Outage,
    id::JobId,
    limits::{CLAIM_ANSWER_MAX, PUT_BACK_DELAY, PUT_BACK_DELAY_MAX, PUT_BACKS_PER_DELAY},
    pg::within,
    rehand::{Reach, Reason, rehand},
    seldom::Seldom,
    stream::entry::Hint,
};
use sqlx::{Row, postgres::PgRow};

use super::{Claimed, entry::Entry, hold::Hold};
use crate::{
    heartbeat::contact::Contact,
    shared::{Queue, Shared},
};

/// A delivered entry and what it hints at.
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) hint: Hint,
}

/// Whether the answer to what was asked then has come too late to start what it says: the jobs may be somebody else's by now, because their
/// entries looked abandoned or this worker dead.
pub(super) fn is_late(contact: &Contact, then: Instant) -> bool {
    then.elapsed() > CLAIM_ANSWER_MAX || contact.has_fallen_since(then)
}

/// Asks Postgres about the hinted jobs, whose entries were read at `read_at` at the earliest, and takes those that are still available at
/// the hinted epoch. Entries with nothing to take are acknowledged. On an outage, and when the answer is late, everything stays pending:
/// takeover hands it out again, even while this worker lives.
pub(crate) async fn claim(
    shared: &Arc<Shared>,
    queue: &Queue,
    stream: &Arc<str>,
    deliveries: Vec<Delivery>,
    read_at: Instant,
) -> Result<Vec<Claimed>, Outage> {
    let mut rows = fetch(shared, &deliveries).await?;
    if is_late(&shared.contact, read_at) {
        return Err(Outage::PostgresTimeout { op: "claiming" });
    }
    let mut claimed = Vec::new();
    let mut foreign = Vec::new();
    let mut stale = 0;
    for delivery in deliveries {
        let parts: Vec<_> = delivery.hint.jobs.iter().map(|(id, epoch)| (rows.remove(id), *epoch)).collect();
        let (known, other): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .filter_map(|(row, epoch)| row.filter(|r| r.epoch == epoch))
            .partition(|row| shared.registry.knows(row.kind_id, row.version));
        stale += delivery.hint.jobs.len() - known.len() - other.len();
        foreign.extend(other.iter().map(|row| (row.id, row.epoch)));
        // One more than the jobs taken: released below, when all of them are in hand.
        let entry = Entry::new(stream.clone(), delivery.id, delivery.hint.parcel, known.len() + 1, shared.acks.clone());
        claimed.extend(known.into_iter().filter_map(|row| take(shared, queue, row, &entry, read_at)));
        entry.release();
    }
    if stale > 0 {
        shared.metrics.counters.stale_hints.inc_by(stale as u64);
    }
    put_back(shared, queue, &foreign).await;
    let meters = shared.meters.queue(queue);
    meters.claimed.inc_by(claimed.len() as u64);
    Ok(claimed)
}

struct JobRow {
    id: JobId,
    epoch: i32,
    kind_id: i32,
    tenant_id: i32,
    attempt: i16,
    max_attempts: i16,
    payload: String,
    enqueued_at: DateTime<Utc>,
    stage_id: Option<i64>,
    trace: Option<String>,
    version: i16,
    crashes: i16,
}

async fn fetch(shared: &Shared, deliveries: &[Delivery]) -> Result<HashMap<JobId, JobRow>, Outage> {
    let mut ids: Vec<JobId> = deliveries.iter().flat_map(|d| d.hint.jobs.iter().map(|(id, _)| *id)).collect();
    ids.sort_unstable();
    ids.dedup();
    let op = "claiming";
    let mut lent = shared.pg.hot(op).await?;
    // BETWEEN prunes partitions; `= ANY` alone would probe each of them for every id.
    let query = sqlx::query(
        "SELECT id, epoch, kind_id, tenant_id, attempt, max_attempts, payload, enqueued_at, stage_id, trace, schema_version, crash_count
         FROM millstream.job WHERE id = ANY($1) AND id BETWEEN $2 AND $3 AND state = 0",
    )
    .bind(&ids)
    .bind(ids.first().copied().unwrap_or_default())
    .bind(ids.last().copied().unwrap_or_default());
    let rows = within(op, query.fetch_all(lent.conn())).await?;
    lent.done();
    Ok(rows.iter().map(|row| (row.get(0), job_row(row))).collect())
}

fn job_row(row: &PgRow) -> JobRow {
    JobRow {
        id: row.get(0),
        epoch: row.get(1),
        kind_id: row.get(2),
        tenant_id: row.get(3),
        attempt: row.get(4),
        max_attempts: row.get(5),
        payload: row.get(6),
        enqueued_at: row.get(7),
        stage_id: row.get(8),
        trace: row.get(9),
        version: row.get(10),
        crashes: row.get(11),
    }
}

fn take(shared: &Arc<Shared>, queue: &Queue, row: JobRow, entry: &Arc<Entry>, read_at: Instant) -> Option<Claimed> {
    let hold = Arc::new(Hold::fresh(row.id, row.epoch, read_at, entry.clone()));
    let kind = shared.registry.get(row.kind_id)?.clone();
    let Some(in_hand) = shared.held.take(&hold) else {
        // A repeated entry: the job runs here already, under the first one.
        entry.release();
        return None;
    };
    if row.epoch == 0 {
        let waited = (millstream_common::clock::now() - row.enqueued_at).to_std().unwrap_or_default();
        shared.meters.queue(queue).queue_time.observe(waited.as_secs_f64());
    }
    drop(shared.fresh.send(hold.clone()));
    Some(Claimed {
        hold,
        guards: (in_hand, shared.capacity.take(kind.weight())),
        kind,
        queue: queue.clone(),
        tenant_id: row.tenant_id,
        attempt: row.attempt,
        max_attempts: row.max_attempts,
        stage_id: row.stage_id,
        payload: row.payload,
        trace: row.trace,
        crashes: row.crashes,
    })
}

static PUT_BACK_LINES: Seldom = Seldom::new();

/// Jobs of kinds or payload versions that this process does not know go back for another worker, after a short rest (F8).
pub(super) async fn put_back(shared: &Shared, queue: &Queue, jobs: &[(JobId, i32)]) {
    // One statement for each length of rest, of which there are few.
    let mut by_rest: BTreeMap<Duration, Vec<(JobId, i32)>> = BTreeMap::new();
    for job in jobs {
        by_rest.entry(rest(job.1)).or_default().push(*job);
    }
    for (rest, jobs) in by_rest {
        put_back_for(shared, queue, &jobs, rest).await;
    }
}

/// Twice as long after every few hand-outs: a rollout is over in seconds, and what no worker ever knows must not keep the fleet busy.
fn rest(epoch: i32) -> Duration {
    let doublings = epoch.unsigned_abs() / PUT_BACKS_PER_DELAY;
    2_u32.checked_pow(doublings).map_or(PUT_BACK_DELAY_MAX, |times| (PUT_BACK_DELAY * times).min(PUT_BACK_DELAY_MAX))
}

async fn put_back_for(shared: &Shared, queue: &Queue, jobs: &[(JobId, i32)], rest: Duration) {
    match hand_back(shared, jobs, Reach::Leased, Some(rest)).await {
        Ok(count) => shared.meters.queue(queue).reclaimed(millstream_common::metrics::ReclaimReason::PutBack, count as u64),
        Err(outage) => {
            if let Some(kept_back) = PUT_BACK_LINES.may_speak() {
                tracing::warn!(kept_back, error = %millstream_common::error::in_full(&outage), "jobs of unknown kinds or versions could not be put back; reconcile will find them");
            }
        }
    }
}

/// Gives jobs back unstarted, at no cost to them. Returns how many were still ours to give.
pub(crate) async fn hand_back(shared: &Shared, jobs: &[(JobId, i32)], reach: Reach, rest: Option<Duration>) -> Result<usize, Outage> {
    let op = "handing jobs back";
    let mut lent = shared.pg.main(op).await?;
    let back = within(op, rehand(lent.conn(), jobs, Reason::Lost, reach, rest)).await?;
    lent.done();
    Ok(back.len())
}

#[cfg(test)]
mod tests {
    use millstream_common::limits::UNLEASED_MAX;

    use super::*;

    // F8
    #[test]
    fn what_nobody_knows_rests_longer_and_longer_and_at_first_as_short_as_a_rollout_wants() {
        assert_eq!([0, 1, 2].map(rest), [PUT_BACK_DELAY; 3]);
        assert_eq!(rest(3), 2 * PUT_BACK_DELAY);
        assert_eq!([18, 40, i32::MAX].map(rest), [PUT_BACK_DELAY_MAX; 3]);
        let lengths: std::collections::BTreeSet<_> = (0..1_000).map(rest).collect();
        assert!(lengths.len() < 8, "a batch is few statements: {lengths:?}");
    }

    #[test]
    fn what_starts_has_as_long_to_be_leased_as_its_claim_took() {
        assert!(CLAIM_ANSWER_MAX * 2 <= UNLEASED_MAX);
        let (contact, now) = (Contact::new(), Instant::now());
        assert!(!is_late(&contact, now));
        assert!(is_late(&contact, now.checked_sub(CLAIM_ANSWER_MAX * 2).unwrap_or(now)));
    }
}
