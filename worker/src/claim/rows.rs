//! The claim statement of the hot path: one SELECT by ids, no write.
//!
//! The answer brings epoch, payload, and whether the job is closed. A job at the hinted epoch is
//! taken; any other is a stale hint and dropped. Garbage is acknowledged and dropped. A closed job,
//! or one of an unknown kind or version, is put back. An isolated job goes to a child.
//!
//! An answer later than `CLAIM_ANSWER_MAX` after the entry was read starts nothing, and neither
//! does one that comes after the fence fell: the job may have been taken over meanwhile. Such
//! entries stay pending, and takeover hands them out although their reader lives. A job that was
//! claimed straight from Postgres is given back.

use std::{collections::HashMap, sync::Arc, time::Instant};

use chrono::{DateTime, Utc};
use millstream_common::{
    error::Outage,
    id::JobId,
    is_closed,
    limits::CLAIM_ANSWER_MAX,
    metrics::{LocalHistogram, QueueMeters},
    stream::entry::Hint,
};
use sqlx::{Row, postgres::PgRow};

use super::put_back::{Foreign, put_back};
use crate::{
    contact::Contact,
    job::{Claimed, ClaimedJob, Entry, Hold},
    queues::Queue,
    shared::Shared,
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

/// Asks Postgres about the hinted jobs, whose entries were read at `read_at` at the earliest, and takes those of this queue that are still
/// available at the hinted epoch. What is closed is put back, to wait until it is not. Entries with nothing to take are acknowledged. On an outage, and when the answer is late, everything stays pending:
/// takeover hands it out again, even while this worker lives.
pub(crate) async fn claim(
    shared: &Arc<Shared>,
    queue: &Queue,
    stream: &Arc<str>,
    deliveries: Vec<Delivery>,
    read_at: Instant,
) -> Result<Vec<Claimed>, Outage> {
    let asked_at = Instant::now();
    let mut rows = fetch(shared, queue, &deliveries).await?;
    if is_late(&shared.contact, read_at) {
        return Err(Outage::PostgresTimeout { op: "claiming" });
    }
    let mut hands = Hands::new(shared, queue, (read_at, asked_at));
    let mut foreign = Vec::new();
    let (registry, mut stale) = (&shared.serves.registry, 0);
    for delivery in deliveries {
        let jobs = delivery.hint.jobs;
        // One more than its jobs: released below, when each is in hand or known to be nothing for us.
        let entry = Entry::new(
            stream.clone(),
            delivery.id,
            delivery.hint.parcel,
            jobs.len() + 1,
            shared.work.acks.clone(),
        );
        for (id, epoch) in jobs {
            let row = rows
                .remove(&id)
                .map(JobRow)
                .filter(|row| row.epoch() == epoch);
            let is_taken = match row {
                None => {
                    stale += 1;
                    false
                }
                Some(row) if row.is_closed() || !registry.knows(row.kind_id(), row.version()) => {
                    foreign.push(Foreign {
                        id,
                        epoch,
                        kind_id: row.kind_id(),
                        is_closed: row.is_closed(),
                    });
                    false
                }
                Some(row) => hands.take(&row, &entry),
            };
            if !is_taken {
                entry.release();
            }
        }
        entry.release();
    }
    if stale > 0 {
        shared.metrics.counters.stale_hints.inc_by(stale);
    }
    let claimed = hands.full();
    put_back(shared, queue, &foreign).await;
    Ok(claimed)
}

/// By id, those of this queue: a hint in another queue's stream was forged, and the true one is elsewhere.
async fn fetch(
    shared: &Shared,
    queue: &Queue,
    deliveries: &[Delivery],
) -> Result<HashMap<JobId, PgRow>, Outage> {
    let mut ids: Vec<JobId> = deliveries
        .iter()
        .flat_map(|d| d.hint.jobs.iter().map(|(id, _)| *id))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    // BETWEEN prunes partitions; `= ANY` alone would probe each of them for every id.
    let query = sqlx::query(concat!(
        "SELECT id, epoch, kind_id, tenant_id, attempt, max_attempts, payload, enqueued_at, batch_id, trace, schema_version, crash_count, ",
        is_closed!("j"),
        " FROM millstream.job j CROSS JOIN millstream.closed WHERE id = ANY($1) AND id BETWEEN $2 AND $3 AND state = 0 AND queue_id = $4",
    ))
    .bind(&ids)
    .bind(ids.first().copied().unwrap_or_default())
    .bind(ids.last().copied().unwrap_or_default())
    .bind(queue.id);
    let rows = shared.pg.hot("claiming").all(query).await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.get_unchecked(0), row))
        .collect())
}

/// A row of the statement above, whose columns have these types: that is not looked up again for every value.
struct JobRow(PgRow);

impl JobRow {
    fn epoch(&self) -> i32 {
        self.0.get_unchecked(1)
    }

    fn kind_id(&self) -> i32 {
        self.0.get_unchecked(2)
    }

    fn enqueued_at(&self) -> DateTime<Utc> {
        self.0.get_unchecked(7)
    }

    fn version(&self) -> i16 {
        self.0.get_unchecked(10)
    }

    fn is_closed(&self) -> bool {
        self.0.get_unchecked(12)
    }

    fn id(&self) -> JobId {
        self.0.get_unchecked(0)
    }
}

/// Takes jobs in hand; what is counted or told for each is counted and told once for all.
struct Hands<'a> {
    shared: &'a Arc<Shared>,
    queue: &'a Queue,
    read_at: Instant,
    asked_at: Instant,
    now: DateTime<Utc>,
    meters: QueueMeters,
    queue_time: LocalHistogram,
    claimed: Vec<Claimed>,
}

impl<'a> Hands<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        queue: &'a Queue,
        (read_at, asked_at): (Instant, Instant),
    ) -> Self {
        let meters = shared.meters.queue(queue);
        let (queue_time, now) = (meters.queue_time.local(), millstream_common::clock::now());
        Self {
            shared,
            queue,
            read_at,
            asked_at,
            now,
            meters,
            queue_time,
            claimed: Vec::new(),
        }
    }

    /// False: a repeated entry; the job runs here already, under the first one.
    fn take(&mut self, row: &JobRow, entry: &Arc<Entry>) -> bool {
        let Some(kind) = self.shared.serves.registry.get(row.kind_id()).cloned() else {
            return false;
        };
        let hold = Arc::new(Hold::fresh(
            row.id(),
            row.epoch(),
            self.read_at,
            entry.clone(),
        ));
        let Some(in_hand) = self.shared.work.held.take(&hold) else {
            return false;
        };
        if row.epoch() == 0 {
            let waited = (self.now - row.enqueued_at()).to_std().unwrap_or_default();
            self.queue_time.observe(waited.as_secs_f64());
        }
        let crashes: i16 = row.0.get_unchecked(11);
        let weight = kind.weight_of(crashes);
        self.claimed.push(Box::new(ClaimedJob {
            hold,
            guards: (in_hand, self.shared.work.capacity.take(1, weight)),
            kind,
            queue: self.queue.clone(),
            tenant_id: row.0.get_unchecked(3),
            attempt: row.0.get_unchecked(4),
            max_attempts: row.0.get_unchecked(5),
            payload: row.0.get_unchecked(6),
            batch_id: row.0.get_unchecked(8),
            trace: row.0.get_unchecked(9),
            crashes,
            asked_at: self.asked_at,
        }));
        true
    }

    /// What was taken. The lessor knows of it from here on.
    fn full(self) -> Vec<Claimed> {
        self.queue_time.flush();
        self.meters.claimed.inc_by(self.claimed.len() as u64);
        drop(
            self.shared
                .work
                .fresh
                .send(self.claimed.iter().map(|job| job.hold.clone()).collect()),
        );
        self.claimed
    }
}

#[cfg(test)]
mod tests {
    use millstream_common::limits::UNLEASED_MAX;

    use super::*;

    #[test]
    fn what_starts_has_as_long_to_be_leased_as_its_claim_took() {
        assert!(CLAIM_ANSWER_MAX * 2 <= UNLEASED_MAX);
        let (contact, now) = (Contact::new(), Instant::now());
        assert!(!is_late(&contact, now));
        assert!(is_late(
            &contact,
            now.checked_sub(CLAIM_ANSWER_MAX * 2).unwrap_or(now)
        ));
    }
}
