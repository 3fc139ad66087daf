//! Reports of live progress while a job of a stage runs (P2, F35). The percentage itself is computed in the database.
//!
//! Best effort, and the only thing a handler writes outside its effect: a report that is lost or late is repaired by the
//! next one, and the database never lets progress fall.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use millstream_common::{
    error::{Outage, in_full},
    id::BatchId,
};

use millstream_worker::Context;

/// Five reports a second look alive to a person and cost nothing.
const EVERY: Duration = Duration::from_millis(200);
/// A report that takes longer is worth less than the work that waits for it.
const REPORT_DEADLINE: Duration = Duration::from_secs(1);
/// Stages remembered by an [`Announcer`]; more are running nowhere, so it forgets them all and starts again.
const STAGES_MAX: usize = 1_000;

/// Progress of a stage that is one job: it counts the items itself.
pub(super) struct StageProgress<'a> {
    context: &'a Context,
    told: Option<Instant>,
}

impl<'a> StageProgress<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self {
            context,
            told: None,
        }
    }

    /// `completed` of `total` items are done. The last report is always written, others at most five a second.
    pub(super) async fn tell(&mut self, completed: u32, total: u32, item: &str) {
        self.context
            .progress(completed as f32 / total.max(1) as f32, item);
        let is_early = self.told.is_some_and(|at| at.elapsed() < EVERY);
        if is_early && completed < total {
            return;
        }
        self.told = Some(Instant::now());
        report(self.context, completed, total, item).await;
    }
}

/// Names the current item of stages that are many jobs; the database counts those.
#[derive(Default)]
pub(super) struct Announcer(Mutex<HashMap<BatchId, Instant>>);

impl Announcer {
    /// This job has begun to work on `item`.
    pub(super) async fn begin(&self, context: &Context, item: impl FnOnce() -> String) {
        if context.batch_id.is_some_and(|stage| self.is_due(stage)) {
            report(context, 0, 0, &item()).await;
        }
    }

    fn is_due(&self, stage: BatchId) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&stage).is_some_and(|at| at.elapsed() < EVERY) {
            return false;
        }
        if told.len() >= STAGES_MAX {
            told.clear();
        }
        told.insert(stage, Instant::now());
        true
    }
}

async fn report(context: &Context, completed: u32, total: u32, item: &str) {
    let Some(stage) = context.batch_id else {
        return;
    };
    match tokio::time::timeout(
        REPORT_DEADLINE,
        write(context, stage, completed, total, item),
    )
    .await
    {
        Ok(Ok(())) => {}
        Ok(Err(outage)) => tracing::debug!(error = %in_full(&outage), "progress was not written"),
        Err(_) => tracing::debug!("progress was not written in time"),
    }
}

async fn write(
    context: &Context,
    stage: BatchId,
    completed: u32,
    total: u32,
    item: &str,
) -> Result<(), Outage> {
    let query = sqlx::query("SELECT millstream.report_stage($1, $2, $3, $4)")
        .bind(stage)
        .bind(completed as i32)
        .bind(total as i32)
        .bind(item);
    let loan = context.pg().connection("reporting progress of a stage");
    loan.execute(query).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    // P2
    #[test]
    fn a_stage_is_named_at_once_and_then_at_most_five_times_a_second() {
        let announcer = Announcer::default();
        let [one, other] = [1, 2].map(BatchId::from_u128);
        assert!(announcer.is_due(one) && announcer.is_due(other));
        assert!(!announcer.is_due(one));
    }

    // P2
    #[test]
    fn finished_stages_do_not_pile_up() {
        let announcer = Announcer::default();
        for stage in 0..3 * STAGES_MAX as u128 {
            announcer.is_due(BatchId::from_u128(stage));
        }
        assert!(
            announcer
                .0
                .lock()
                .is_ok_and(|told| told.len() <= STAGES_MAX)
        );
    }
}
