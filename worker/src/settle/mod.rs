//! Settle: the outcomes of runs become facts, in batches, guarded by id, epoch and state.
//!
//! No timer: the next batch forms while the last one is written. A row that does not match any more belongs to somebody
//! else: its result is dropped and counted. Entries are released after COMMIT, never before.
//!
//! `complete` writes plain successes, `fail` everything that did not succeed, `effect` the jobs whose own writes must commit
//! with them, one transaction each. The statement that ends jobs of a batch counts them in it: jobs first, then batches in the
//! order of their ids. One outcome that cannot be written does not hold back its batch: `later` tries it
//! again by itself. `streak` knows how often a job has met the same thing before.
//!
//! If Postgres gives no answer, a write is repeated until one lease after the last beat, by when
//! the job is rescued anyway. If Postgres refuses everybody, the write is repeated until it is
//! back. A value that Postgres does not take (the classes are in `common::error`) is tried again in
//! halves, until the guilty row stands alone: a success then fails for good with the reason, and a
//! failure is written with its text in plain ASCII.
//!
//! A lost acknowledgement after COMMIT does no harm: the next reader finds stale hints.

/// The fence: only the hand-out whose epoch this is may write the job `j`; unless said, it is that of the row `u`.
#[cfg(not(feature = "sabotage-guard"))]
macro_rules! epoch_guard {
    () => {
        epoch_guard!("u.epoch")
    };
    ($epoch:expr) => {
        concat!(" AND j.epoch = ", $epoch)
    };
}

/// Sabotage: whoever still has the job may write its outcome.
#[cfg(feature = "sabotage-guard")]
macro_rules! epoch_guard {
    () => {
        epoch_guard!("u.epoch")
    };
    ($epoch:expr) => {
        concat!(" AND (", $epoch, ") >= 0")
    };
}

pub(crate) mod complete;
pub(crate) mod dead_stream;
pub(crate) mod effect;
pub(crate) mod fail;
mod later;
pub(crate) mod parcels;
mod streak;
pub(crate) mod verdict;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use millstream_common::{
    error::{Outage, in_full},
    failpoint::reach,
    limits::{RESULT_BYTES_MAX, SETTLE_JOBS_MAX},
    metrics::JobOutcome,
    reconnect::Reconnect,
    seldom::Seldom,
    tasks::Tasks,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Failure, Outcome},
    job::{Ended, RowState},
    shared::Shared,
};

/// Batches written at the same time: one forms and two are on their way.
const WRITES_MAX: usize = 2;
/// Outcomes written at the same time that need a transaction each: a few connections of those that everybody but the hot path shares. A slow
/// write of a handler holds up those like it and not the batches.
const ALONE_MAX: usize = 2;
/// `/livez` fails when the loop has not turned for this long.
const SILENCE_MAX: Duration = Duration::from_mins(2);
/// How often an idle loop reports that it turns.
const IDLE_TURN: Duration = Duration::from_secs(5);

/// Collects outcomes until `stop` fires and none is left.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut ended: mpsc::UnboundedReceiver<Ended>,
    stop: CancellationToken,
) {
    let (writes, alone) = (
        Arc::new(Semaphore::new(WRITES_MAX)),
        Arc::new(Semaphore::new(ALONE_MAX)),
    );
    let tasks = Tasks::new();
    loop {
        shared.pulses.turn("settle", SILENCE_MAX);
        // The permit first: what ends while both writers are busy joins the next batch.
        let Ok(permit) = writes.clone().acquire_owned().await else {
            break;
        };
        let mut batch = Vec::with_capacity(64);
        tokio::select! {
            biased;
            taken = ended.recv_many(&mut batch, SETTLE_JOBS_MAX) => if taken == 0 { break },
            () = stop.cancelled() => break,
            () = tokio::time::sleep(IDLE_TURN) => continue,
        }
        let (shared, alone) = (shared.clone(), alone.clone());
        tasks.spawn(async move {
            let sorted = Sorted::of(batch);
            // On the heap: these are large futures.
            let mut left = Box::pin(together(&shared, sorted.plain, sorted.failed)).await;
            drop(permit);
            left.extend(Box::pin(by_themselves(&shared, sorted.alone, &alone)).await);
            Box::pin(later::settle(&shared, left, &alone)).await;
        });
    }
    tasks.stop(shared.lease).await;
    shared.pulses.end("settle");
}

/// Outcomes by how they are written.
#[derive(Default)]
struct Sorted {
    plain: Vec<Ended>,
    failed: Vec<Ended>,
    alone: Vec<Ended>,
}

impl Sorted {
    fn of(batch: Vec<Ended>) -> Self {
        let mut sorted = Self::default();
        for mut ended in batch {
            refuse_large_result(&mut ended.outcome);
            match &ended.outcome {
                Ok(success) if success.effect.is_some() => sorted.alone.push(ended),
                Ok(_) => sorted.plain.push(ended),
                Err(_) => sorted.failed.push(ended),
            }
        }
        sorted
    }
}

/// Writes batches. Returns those that must be tried again by themselves.
async fn together(shared: &Arc<Shared>, plain: Vec<Ended>, failed: Vec<Ended>) -> Vec<Ended> {
    let (counted, failed): (Vec<_>, Vec<_>) = failed
        .into_iter()
        .partition(|ended| ended.job.batch_id.is_some());
    let (mut left, held, held_counted) = futures::join!(
        complete::settle(shared, plain),
        fail::settle(shared, failed),
        fail::settle(shared, counted)
    );
    left.extend(held);
    left.extend(held_counted);
    left
}

/// Writes outcomes one by one. Returns those that must be tried again.
async fn by_themselves(
    shared: &Arc<Shared>,
    outcomes: Vec<Ended>,
    permits: &Semaphore,
) -> Vec<Ended> {
    let mut left = Vec::new();
    for ended in outcomes {
        let Ok(_permit) = permits.acquire().await else {
            break;
        };
        left.extend(effect::settle(shared, ended).await);
    }
    left
}

pub(crate) fn refuse_large_result(outcome: &mut Outcome) {
    if let Ok(success) = outcome
        && success
            .result
            .as_ref()
            .is_some_and(|r| r.len() > RESULT_BYTES_MAX)
    {
        *outcome = Err(Failure::permanent(format!(
            "the result is over {RESULT_BYTES_MAX} bytes: put the data into the object store and return its address"
        )));
    }
}

static LINES: Seldom = Seldom::new();

/// Repeating a guarded write until Postgres has answered, at most one lease longer than the heart beats: then the job is rescued anyway.
pub(crate) struct Patience<'a> {
    shared: &'a Shared,
    deadline: Instant,
    reconnect: Reconnect,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            deadline: Instant::now() + shared.lease,
            reconnect: Reconnect::default(),
        }
    }

    /// Waits before the next try; false when it is no use any more.
    pub(crate) async fn allows_another(&mut self, outage: &Outage) -> bool {
        self.shared.metrics.counters.postgres_failed("settle");
        if let Some(kept_back) = LINES.may_speak() {
            tracing::warn!(kept_back, error = %in_full(outage), "settling failed; it is tried again");
        }
        self.allows(outage.is_passing()).await
    }

    /// The same, if `passing` says whether what is in the way will pass.
    async fn allows(&mut self, passing: bool) -> bool {
        // While the heart beats the leases live, and while Postgres refuses everybody nobody ends them: a run that has ended is not thrown
        // away because this process was kept from its writes. What the database itself refuses is not asked for ever.
        if passing && self.shared.contact.may_keep_outcomes() {
            self.deadline = Instant::now() + self.shared.lease;
        }
        if Instant::now() > self.deadline {
            return false;
        }
        tokio::time::sleep(self.reconnect.next_delay()).await;
        true
    }
}

/// What becomes of a success that Postgres will never take, such as a result with characters that its encoding does not have.
pub(crate) fn unwritable(outage: &Outage) -> Failure {
    let why = match outage {
        Outage::Postgres {
            source: sqlx::Error::Database(error),
            ..
        } => error.message().to_owned(),
        other => in_full(other),
    };
    Failure::permanent(format!("its result cannot be stored: {why}"))
}

/// After COMMIT: counts, releases the entries, moves the parcels on.
pub(crate) async fn conclude(shared: &Shared, settled: Vec<(Ended, bool, JobOutcome)>) {
    reach("settle.committed");
    let mut parcels: HashMap<i64, i16> = HashMap::new();
    let mut tallies = HashMap::new();
    for (ended, accepted, outcome) in &settled {
        let job = &ended.job;
        if *accepted {
            let tally = tallies
                .entry((job.queue.id, job.kind.kind_id))
                .or_insert_with(|| {
                    shared
                        .meters
                        .job(&job.queue, job.kind.kind_id, job.kind.handler.kind())
                        .tally()
                });
            tally.finished(*outcome, ended.ran);
        } else {
            shared.metrics.counters.leases_lost.inc();
            tracing::info!(job = %job.hold.id, epoch = job.hold.epoch, "an outcome came too late: the job had been handed out again or cancelled");
        }
        // A leased job's entry was released, and counted, when the lease was granted.
        if let Some(entry) = job
            .hold
            .entry
            .as_ref()
            .filter(|_| ended.from == RowState::Available)
        {
            if *accepted {
                *parcels.entry(entry.parcel).or_default() += 1;
            }
            entry.release();
        }
    }
    shared
        .work
        .finished
        .fetch_add(settled.len() as u64, Ordering::Relaxed);
    shared.work.parcels.add(parcels);
}
