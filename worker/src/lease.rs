//! The lessor: a job that is still unfinished 200 ms after it was read gets a lease, in batches.
//!
//! The guarded UPDATE to `running` makes every other hint of the job stale; the lease row names the worker that answers for
//! it. A job that cannot be leased was taken over or cancelled: its run is stopped. From the grant on, the stream entry is
//! not needed, however long the job runs. A job whose row somebody else's open transaction holds keeps no other waiting: it is asked for again.

/// The row of `lease` for a job that has just been taken, behind `INSERT … SELECT`. Where there is one already, it is of an earlier hand-out: a
/// re-hand that waits for a lease statement removes the job's lease as it was before.
macro_rules! over_stale_lease {
    () => {
        " ON CONFLICT (job_id) DO UPDATE SET worker_id = excluded.worker_id, epoch = excluded.epoch, cancel = false, started = false,
            progress = NULL, progress_note = NULL, leased_at = excluded.leased_at WHERE lease.epoch < excluded.epoch"
    };
}
pub(crate) use over_stale_lease;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::{
    error::{Outage, in_full},
    failpoint::reach,
    id::JobId,
    limits::{LEASE_DELAY, PARCEL_JOBS_MAX},
    seldom::Seldom,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{job::Hold, shared::Shared};

/// How often the oldest holds are looked at: the lease is at most this late.
const TICK: Duration = Duration::from_millis(20);
/// How long Postgres is left alone when it has not leased: each failure costs it a connection.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// `/livez` fails when the loop has not turned for this long.
const SILENCE_MAX: Duration = Duration::from_mins(1);

static LINES: Seldom = Seldom::new();

/// Runs until `stop` fires.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut fresh: mpsc::UnboundedReceiver<Vec<Arc<Hold>>>,
    stop: CancellationToken,
) {
    let mut waiting: VecDeque<Arc<Hold>> = VecDeque::new();
    // Perhaps leased: the answer was lost. A run that ends meanwhile waits until it is known from which state to settle.
    let mut unknown = Vec::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        shared.pulses.turn("lessor", SILENCE_MAX);
        while let Ok(holds) = fresh.try_recv() {
            waiting.extend(holds);
        }
        let mut due = std::mem::take(&mut unknown);
        due.retain(|hold: &Arc<Hold>| !hold.is_lost());
        take_due(&mut waiting, &mut due);
        if due.is_empty() {
            continue;
        }
        unknown = match lease(&shared, &due).await {
            Ok(held) => held,
            Err(outage) => {
                if let Some(kept_back) = LINES.may_speak() {
                    tracing::warn!(kept_back, jobs = due.len(), error = %in_full(&outage), "leasing failed; it is tried again");
                }
                due
            }
        };
        if !unknown.is_empty() {
            tick.reset_after(AGAIN_AFTER);
        }
    }
    shared.pulses.end("lessor");
}

/// Adds the holds that have waited long enough and have not ended.
fn take_due(waiting: &mut VecDeque<Arc<Hold>>, due: &mut Vec<Arc<Hold>>) {
    let now = Instant::now();
    while due.len() < PARCEL_JOBS_MAX
        && waiting
            .front()
            .is_some_and(|h| now.duration_since(h.read_at) >= LEASE_DELAY)
    {
        due.extend(waiting.pop_front().filter(|hold| hold.begin_lease()));
    }
}

/// Returns those whose jobs somebody else's transaction holds: what becomes of them is not known yet.
async fn lease(shared: &Shared, due: &[Arc<Hold>]) -> Result<Vec<Arc<Hold>>, Outage> {
    let answers = write(shared, due).await?;
    reach("lease.committed");
    let mut parcels: HashMap<i64, i16> = HashMap::new();
    let mut held = Vec::new();
    for hold in due {
        match answers.get(&hold.id) {
            Some(true) => {
                hold.lease_granted();
                if let Some(entry) = &hold.entry {
                    *parcels.entry(entry.parcel).or_default() += 1;
                }
            }
            Some(false) => {
                held.push(hold.clone());
                continue;
            }
            None => {
                shared.metrics.counters.leases_lost.inc();
                hold.lose();
            }
        }
        if let Some(entry) = &hold.entry {
            entry.release();
        }
    }
    shared.work.parcels.add(parcels);
    Ok(held)
}

/// Returns the jobs that this worker has a lease for now (true), and those whose rows are held, which nobody waits for (false). Repeating it
/// after an unknown outcome is safe.
async fn write(shared: &Shared, due: &[Arc<Hold>]) -> Result<HashMap<JobId, bool>, Outage> {
    // The lock order of all who change several jobs.
    let mut jobs: Vec<_> = due.iter().map(|h| (h.id, h.epoch)).collect();
    jobs.sort_unstable();
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.into_iter().unzip();
    let query = sqlx::query_as(concat!(
        "WITH asked AS (SELECT * FROM unnest($1::uuid[], $2::int[]) AS u(id, epoch)),
         ours AS (SELECT j.id, j.epoch FROM asked a JOIN millstream.job j ON j.id = a.id AND j.epoch = a.epoch AND j.state = 0),
         free AS MATERIALIZED (
           SELECT j.id, j.epoch FROM asked a JOIN millstream.job j ON j.id = a.id AND j.epoch = a.epoch AND j.state = 0
           ORDER BY j.id FOR NO KEY UPDATE OF j SKIP LOCKED
         ), running AS (
           UPDATE millstream.job j SET state = 1, worker_id = $3, started_at = now() - $4 * interval '1 millisecond'
           FROM free f WHERE j.id = f.id AND j.epoch = f.epoch AND j.state = 0 RETURNING j.id, j.epoch
         ), leased AS (INSERT INTO millstream.lease (job_id, epoch, worker_id) SELECT id, epoch, $3 FROM running",
        over_stale_lease!(),
        ") SELECT id, true FROM running
         UNION ALL
         SELECT id, false FROM ours WHERE id NOT IN (SELECT id FROM free)
         UNION ALL
         SELECT l.job_id, true FROM asked a JOIN millstream.lease l ON l.job_id = a.id AND l.epoch = a.epoch AND l.worker_id = $3",
    ))
    .bind(ids)
    .bind(epochs)
    .bind(shared.worker_id)
    .bind(LEASE_DELAY.as_millis() as i64);
    let answers: Vec<(JobId, bool)> = shared.pg.hot("leasing").all(query).await?;
    Ok(answers.into_iter().collect())
}
