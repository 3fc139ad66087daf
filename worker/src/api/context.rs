//! What a handler knows about its run, and how it reports while it runs (F35).

use std::sync::Arc;

use millstream_common::{
    clock,
    id::{BatchId, JobId},
    limits::LOG_LINE_BYTES_MAX,
    pg::GuardedPool,
    redact::stored,
};
use tokio_util::sync::CancellationToken;

use super::{Line, Reporter};

/// What a run and its handler share while it runs. A trait, since the engine keeps both with the job in hand.
pub(crate) trait RunLink: Send + Sync {
    /// Fires when the run must end.
    fn cancel(&self) -> &CancellationToken;
    /// Keeps the newest progress report.
    fn report(&self, share: f32, note: String);
}

/// The surroundings of one run. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The job. Also its stable idempotency key: hand it to services that deduplicate.
    pub job_id: JobId,
    /// Number of this hand-out; only this one may settle the job.
    pub epoch: i32,
    /// Which counted try this is: 1, 2, …
    pub attempt: i16,
    /// Tries there will be at most.
    pub max_attempts: i16,
    /// Number of the job's tenant.
    pub tenant_id: i32,
    /// The batch that counts this job, if any.
    pub batch_id: Option<BatchId>,
    pub(crate) pg: GuardedPool,
    pub(crate) link: Arc<dyn RunLink>,
    pub(crate) reporter: Reporter,
}

impl Context {
    /// Fires when the job was cancelled, its lease lost, or the worker must stop now. The handler's future is dropped
    /// soon after; a blocking part should look at it now and then.
    pub fn cancel_token(&self) -> CancellationToken {
        self.link.cancel().clone()
    }

    /// Stable across retries: the same for every attempt of this job.
    pub fn idempotency_key(&self) -> String {
        self.job_id.to_string()
    }

    /// Share done (0 to 1; not a number counts as 0) and a word about it, visible while the job runs. Cheap: the newest report is written twice a second, without
    /// what looks like a secret, and no more of it than `NOTE_BYTES_MAX`.
    pub fn progress(&self, share: f32, note: impl Into<String>) {
        // A share of nothing, 0 / 0, is none.
        let share = if share.is_nan() { 0.0 } else { share };
        self.link.report(share.clamp(0.0, 1.0), note.into());
    }

    /// One log line, visible from now on, with its time and the try that wrote it. What looks like a secret is left out, and what is beyond
    /// `LOG_LINE_BYTES_MAX`.
    pub fn log(&self, line: impl AsRef<str>) {
        self.reporter.send(Line {
            job: self.job_id,
            epoch: self.epoch,
            attempt: self.attempt,
            at: clock::now(),
            text: stored(line.as_ref(), LOG_LINE_BYTES_MAX),
        });
    }

    /// Postgres, for a handler's own statements: a pool of the handlers of this process, beside those of the worker.
    ///
    /// A borrowed connection goes back to the pool if its last statement or transaction has ended well; after a call of
    /// [`Lent::conn`](millstream_common::pg::Lent::conn), only by [`Lent::done`](millstream_common::pg::Lent::done). Whatever ends
    /// otherwise (an error, a panic, the handler's timeout, a cancel) closes its connection, and with it whatever transaction was
    /// open. Nothing of a run that was cut short is committed later, or seen by another one.
    ///
    /// Time limits: 5 s for a connection; 12 s for a statement and 3 s for a lock, by the server (`SET LOCAL statement_timeout` and
    /// `lock_timeout` change them for one transaction); and the timeout of the kind for all of it. A worker lends its handlers
    /// `database.connections_max` connections.
    ///
    /// Rows that must be there exactly if the job completes belong into [`Success::and_write`](crate::Success::and_write) instead.
    ///
    /// ```
    /// use millstream_worker::{Context, Outcome, Success};
    ///
    /// async fn count(context: Context, order: i64) -> Outcome {
    ///     let update = sqlx::query("UPDATE orders SET seen = seen + 1 WHERE id = $1").bind(order);
    ///     context.pg().connection("counting an order").execute(update).await?;
    ///     Ok(Success::new())
    /// }
    /// ```
    pub fn pg(&self) -> &GuardedPool {
        &self.pg
    }
}
