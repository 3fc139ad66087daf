//! Jobs whose own writes commit with their completion: one transaction each (G1).
//!
//! The guarded UPDATE comes first, and the count in the job's batch last: the row of the batch is locked for a moment, and
//! the batch cannot end before it knows what the effect adds to it. If the UPDATE matches nothing, the effect is never run; if the
//! effect fails, the completion is rolled back with it.
//! An effect can be run once only. Until it has been, an outage costs nothing but time; after that the job must run again to have it back.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use millstream_common::{
    error::{Outage, in_full},
    id::{BatchId, JobId},
    metrics::JobOutcome,
    persist::is_held,
    pg::{Pg, Tx},
    seldom::Seldom,
};
use sqlx::PgConnection;

use super::{
    Ended, Patience, conclude, dead_stream,
    fail::{Row, Written, judge, write_patiently},
    unwritable,
};
use crate::{
    api::{Effect, Failure, Success},
    job::RowState,
    shared::Shared,
};

/// All statements of one effect together; each has the server's own statement timeout. A document's 20,000 chunks took 7 s.
const EFFECT_DEADLINE: Duration = Duration::from_mins(1);

/// Nobody knows whether an effect has committed, and it cannot be run again: the job is.
pub(crate) const UNKNOWN: Failure = Failure::Snooze(Duration::from_secs(1));

/// Writes one outcome by itself. Returns it if it must be tried again.
pub(crate) async fn settle(shared: &Arc<Shared>, mut ended: Ended) -> Option<Ended> {
    let mut effect = match &mut ended.outcome {
        Ok(success) => success.effect.take(),
        Err(_) => return settle_failure(shared, ended).await,
    };
    match complete_patiently(shared, &ended, &mut effect).await {
        Ok(Some(accepted)) => {
            conclude(shared, vec![(ended, accepted, JobOutcome::Succeeded)]).await;
        }
        Ok(None) => {
            if let Ok(success) = &mut ended.outcome {
                success.effect = effect;
            }
            return Some(ended);
        }
        Err(failure) => {
            if !committed(shared, ended.job.hold.id, ended.job.hold.epoch).await {
                ended.outcome = Err(failure);
                return settle_failure(shared, ended).await;
            }
            conclude(shared, vec![(ended, true, JobOutcome::Succeeded)]).await;
        }
    }
    None
}

/// Whether the completion was accepted, `None` if others must not wait for the answer, or what its failure means for the job: the database's
/// complaint is one, an outage is not.
async fn complete_patiently(
    shared: &Shared,
    ended: &Ended,
    effect: &mut Option<Effect>,
) -> Result<Option<bool>, Failure> {
    let Ok(success) = &ended.outcome else {
        return Ok(Some(false));
    };
    let completion = Completion {
        id: ended.job.hold.id,
        epoch: ended.job.hold.epoch,
        from: ended.from,
        worker_id: shared.worker_id,
        started_at: ended.started_at,
        batch_id: ended.job.batch_id,
        success,
    };
    let had_effect = effect.is_some();
    let mut patience = Patience::new(shared);
    loop {
        let outage = match complete(&shared.pg, &completion, effect).await {
            // Perhaps by the try before, whose answer was lost.
            Ok(accepted) => {
                let stands = accepted || committed(shared, completion.id, completion.epoch).await;
                return Ok(Some(stands));
            }
            Err(Problem::Effect(message)) => return Err(Failure::Retry(message)),
            Err(Problem::Outage(outage)) => outage,
        };
        if outage.is_about_the_data() {
            return Err(unwritable(&outage));
        }
        let is_used_up = had_effect && effect.is_none();
        if !is_used_up && (is_held(&outage) || outage.may_be_of_one_row()) {
            return Ok(None);
        }
        if is_used_up || !patience.allows_another(&outage).await {
            return Err(UNKNOWN);
        }
    }
}

static LINES: Seldom = Seldom::new();

pub(crate) enum Problem {
    /// Its writes were refused, or took too long.
    Effect(String),
    /// Everything else.
    Outage(Outage),
}

impl std::convert::From<Outage> for Problem {
    fn from(outage: Outage) -> Self {
        if let Some(kept_back) = LINES.may_speak() {
            tracing::warn!(kept_back, error = %in_full(&outage), "a completion with writes failed");
        }
        Self::Outage(outage)
    }
}

/// A success that is to be written.
pub(crate) struct Completion<'a> {
    pub(crate) id: JobId,
    pub(crate) epoch: i32,
    /// What the row must say.
    pub(crate) from: RowState,
    pub(crate) worker_id: i64,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) batch_id: Option<BatchId>,
    pub(crate) success: &'a Success,
}

/// Writes it with its effect, which is taken when its turn has come. False: the job is somebody else's.
pub(crate) async fn complete(
    pg: &Pg,
    completion: &Completion<'_>,
    effect: &mut Option<Effect>,
) -> Result<bool, Problem> {
    let mut lent = pg.main("settling with writes").await?;
    let mut tx = lent.begin().await?;
    let accepted = mark_completed(&mut tx, completion).await?;
    if accepted && let Some(effect) = effect.take() {
        write(&mut tx, effect).await?;
    }
    if accepted && let Some(batch) = completion.batch_id {
        count(&mut tx, batch).await?;
    }
    // What is checked only now is of the effect as well.
    tx.commit().await.or_else(refused_or_away)?;
    Ok(accepted)
}

async fn write(conn: &mut PgConnection, effect: Effect) -> Result<(), Problem> {
    match tokio::time::timeout(EFFECT_DEADLINE, effect(conn)).await {
        Ok(written) => written
            .map_err(|source| Outage::Postgres {
                op: "writing what a job has done",
                source,
            })
            .or_else(refused_or_away),
        // Uses up an attempt: a write that is always too slow must end somewhere.
        Err(_) => Err(Problem::Effect(format!(
            "its writes took longer than {} s",
            EFFECT_DEADLINE.as_secs()
        ))),
    }
}

fn refused_or_away(outage: Outage) -> Result<(), Problem> {
    if outage.is_passing() {
        Err(outage.into())
    } else {
        Err(Problem::Effect(in_full(&outage)))
    }
}

/// It also tells `millstream.admit_to_batches` which job it is whose effect may add jobs to its batch.
async fn mark_completed(tx: &mut Tx<'_>, completion: &Completion<'_>) -> Result<bool, Outage> {
    let query = sqlx::query_scalar(
        concat!(
            "WITH done AS (
               UPDATE millstream.job j SET state = 2, attempt = j.attempt + 1, worker_id = $4, started_at = $5, finished_at = now(), result = $6, tokens_actual = $7
               FROM (SELECT $1::uuid AS id, $2::int AS epoch) u
               WHERE j.id = u.id",
            epoch_guard!(),
            " AND j.state = $3 RETURNING j.id
             ), unleased AS (DELETE FROM millstream.lease USING done WHERE lease.job_id = done.id)
             SELECT count(*), set_config('millstream.settling', $1::uuid::text, true) FROM done"
        ),
    )
    .bind(completion.id)
    .bind(completion.epoch)
    .bind(completion.from.number())
    .bind(completion.worker_id)
    .bind(completion.started_at)
    .bind(&completion.success.result)
    .bind(completion.success.tokens);
    let done: i64 = tx.one(query).await?;
    Ok(done == 1)
}

async fn count(tx: &mut Tx<'_>, batch: BatchId) -> Result<(), Outage> {
    let query = sqlx::query("SELECT millstream.count_completed(ARRAY[$1])").bind(batch);
    tx.execute(query).await.map(drop)
}

/// After an unknown outcome: did the commit get through?
pub(crate) async fn committed(shared: &Shared, id: JobId, epoch: i32) -> bool {
    let mut patience = Patience::new(shared);
    loop {
        match read_completed(shared, id, epoch).await {
            Ok(done) => return done,
            Err(outage) if patience.allows_another(&outage).await => {}
            Err(_) => return false,
        }
    }
}

async fn read_completed(shared: &Shared, id: JobId, epoch: i32) -> Result<bool, Outage> {
    // Locked: a session whose process has died may be about to commit.
    let query = sqlx::query_scalar(
        "SELECT state = 2 AND worker_id = $3 FROM millstream.job WHERE id = $1 AND epoch = $2 FOR NO KEY UPDATE",
    )
    .bind(id)
    .bind(epoch)
    .bind(shared.worker_id);
    let loan = shared.pg.main("reading an unknown outcome");
    let done: Option<Option<bool>> = loan.optional(query).await?;
    Ok(done.flatten().unwrap_or(false))
}

async fn settle_failure(shared: &Arc<Shared>, ended: Ended) -> Option<Ended> {
    let (ended, verdict) = judge(shared, vec![ended]).await?.pop()?;
    let Written { accepted, left } = write_patiently(shared, &[Row::of(&ended, &verdict)]).await?;
    if !left.is_empty() {
        return Some(ended);
    }
    let ok = !accepted.is_empty();
    if ok && verdict.outcome == JobOutcome::Dead {
        dead_stream::announce(
            shared,
            std::iter::once(dead_stream::Notice::of(&ended, &verdict)),
        )
        .await;
    }
    conclude(shared, vec![(ended, ok, verdict.outcome)]).await;
    None
}
