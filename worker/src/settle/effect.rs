//! Jobs whose own writes commit with their completion, and all jobs of a pipeline stage: one transaction each (G1).
//!
//! The guarded UPDATE comes first. If it matches nothing, the effect is never run; if the effect fails, the completion is rolled back with it.

use std::{sync::Arc, time::Duration};

use millstream_common::{error::Outage, id::JobId, metrics::JobOutcome, pg::within, seldom::Seldom};
use sqlx::{Connection, PgConnection};

use super::{
    Ended, Patience, conclude, dead_stream,
    fail::{Row, judge, write_patiently},
};
use crate::{
    outcome::{Effect, Failure, Success},
    shared::Shared,
};

/// All statements of one effect together; each has the server's own statement timeout. A document's 20,000 chunks took 7 s.
const EFFECT_DEADLINE: Duration = Duration::from_mins(1);

/// Writes one outcome by itself.
pub(crate) async fn settle(shared: &Arc<Shared>, mut ended: Ended) {
    let effect = match &mut ended.outcome {
        Ok(success) => success.effect.take(),
        Err(_) => return settle_failure(shared, ended).await,
    };
    match complete(shared, &ended, effect).await {
        Ok(accepted) => conclude(shared, vec![(ended, accepted, JobOutcome::Succeeded)]).await,
        Err(problem) => {
            if committed(shared, &ended).await {
                return conclude(shared, vec![(ended, true, JobOutcome::Succeeded)]).await;
            }
            // The effect is used up, so the job runs again. The database's complaint is a failure of the job; an outage is not.
            ended.outcome = Err(match problem {
                Problem::Effect(message) => Failure::Retry(message),
                Problem::Outage => Failure::Snooze(Duration::from_secs(1)),
            });
            settle_failure(shared, ended).await;
        }
    }
}

static LINES: Seldom = Seldom::new();

enum Problem {
    Effect(String),
    Outage,
}

impl From<Outage> for Problem {
    fn from(outage: Outage) -> Self {
        let text = millstream_common::error::in_full(&outage);
        if let Some(kept_back) = LINES.may_speak() {
            tracing::warn!(kept_back, error = %text, "a completion with writes failed");
        }
        match outage {
            Outage::Postgres { source, .. } if source.as_database_error().is_some_and(|e| !is_passing(e.code().as_deref())) => {
                Self::Effect(text)
            }
            _ => Self::Outage,
        }
    }
}

/// Deadlock, serialisation, lock timeout, shutdown, too many connections: nothing is wrong with the write itself.
fn is_passing(code: Option<&str>) -> bool {
    code.is_some_and(|c| c.starts_with("40") || c.starts_with("53") || c.starts_with("57") || c.starts_with("55") || c.starts_with("08"))
}

async fn complete(shared: &Shared, ended: &Ended, effect: Option<Effect>) -> Result<bool, Problem> {
    let op = "settling with writes";
    let mut lent = shared.pg.main(op).await?;
    let mut tx = within(op, lent.conn().begin()).await?;
    let accepted = within(op, mark_completed(&mut tx, shared.worker_id, ended)).await?;
    if accepted && let Some(effect) = effect {
        match tokio::time::timeout(EFFECT_DEADLINE, effect(&mut tx)).await {
            Ok(written) => written.map_err(|source| Outage::Postgres { op, source })?,
            // Uses up an attempt: a write that is always too slow must end somewhere.
            Err(_) => return Err(Problem::Effect(format!("its writes took longer than {} s", EFFECT_DEADLINE.as_secs()))),
        }
    }
    within(op, tx.commit()).await?;
    lent.done();
    Ok(accepted)
}

async fn mark_completed(conn: &mut PgConnection, worker_id: i64, ended: &Ended) -> Result<bool, sqlx::Error> {
    let Ok(Success { result, tokens, .. }) = &ended.outcome else { return Ok(false) };
    let done: i64 = sqlx::query_scalar(
        concat!(
            "WITH done AS (
               UPDATE millstream.job j SET state = 2, attempt = j.attempt + 1, worker_id = $4, started_at = $5, finished_at = now(), result = $6, tokens_actual = $7
               FROM (SELECT $1::uuid AS id, $2::int AS epoch) u
               WHERE j.id = u.id",
            epoch_guard!(),
            " AND j.state = $3 RETURNING j.id
             ), unleased AS (DELETE FROM millstream.lease USING done WHERE lease.job_id = done.id)
             SELECT count(*) FROM done"
        ),
    )
    .bind(ended.job.hold.id)
    .bind(ended.job.hold.epoch)
    .bind(ended.from.number())
    .bind(worker_id)
    .bind(ended.started_at)
    .bind(result)
    .bind(tokens)
    .fetch_one(conn)
    .await?;
    Ok(done == 1)
}

/// After an unknown outcome: did the commit get through?
async fn committed(shared: &Shared, ended: &Ended) -> bool {
    let (id, epoch) = (ended.job.hold.id, ended.job.hold.epoch);
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
    let op = "reading an unknown outcome";
    let mut lent = shared.pg.main(op).await?;
    let query =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM millstream.job WHERE id = $1 AND epoch = $2 AND state = 2 AND worker_id = $3)");
    let done = within(op, query.bind(id).bind(epoch).bind(shared.worker_id).fetch_one(lent.conn())).await?;
    lent.done();
    Ok(done)
}

async fn settle_failure(shared: &Arc<Shared>, ended: Ended) {
    let Some((ended, verdict)) = judge(shared, vec![ended]).await.and_then(|mut judged| judged.pop()) else { return };
    let Some(accepted) = write_patiently(shared, &[Row::of(&ended, &verdict)]).await else { return };
    let ok = !accepted.is_empty();
    if ok && verdict.outcome == JobOutcome::Dead {
        dead_stream::announce(shared, std::iter::once(dead_stream::Notice::of(&ended, &verdict))).await;
    }
    conclude(shared, vec![(ended, ok, verdict.outcome)]).await;
}
