//! Duties: the housekeeping, in any worker (F18).
//!
//! Most run only in the leader, which is elected by a beat in Postgres and judged on the observer's own monotonic clock.
//! Leadership is an optimisation: every duty is idempotent, guarded by its statements and safe with two leaders.

pub(crate) mod consumers;
mod crash;
mod dispatch;
mod due;
mod keep;
mod leader;
mod learn;
mod partitions;
mod pauses;
mod pending;
mod probe;
mod reconcile;
mod rescue;
mod retention;
mod stats;
mod sweep;
mod takeover;
mod window;

use std::{future::Future, sync::Arc, time::Duration};

use millstream_common::{
    error::{Outage, in_full},
    metrics::DutyOutcome,
    seldom::Seldom,
    tasks::Tasks,
};
use tokio_util::sync::CancellationToken;

use self::{keep::Round, leader::Leadership};
use crate::shared::Shared;

static LINES: Seldom = Seldom::new();

/// How long a new leader leaves its rare duties. Its first seconds are the busiest of a process: connections have no plans yet, and a
/// backlog waits. The first round of all duties costs Postgres 30 ms, as much as 2,000 jobs. A duty that is cut short here by its own
/// pause or nudge runs earlier.
const FIRST_ROUND_AFTER: Duration = Duration::from_secs(2);

/// Where a duty runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Only in the leader.
    Leader,
    /// In every worker.
    Everywhere,
}

/// What a run of a duty came to, if nothing failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ran {
    /// What there was to do is done.
    Done,
    /// Nothing was looked at: it needs a server that is away. That is no success, or an alert would not see that it stands still.
    Skipped,
}

/// One housekeeping task. Takes no input, can be repeated at any time.
trait Duty: Send + 'static {
    const NAME: &'static str;
    const SCOPE: Scope;

    /// The pause between two runs.
    fn every(&self, shared: &Shared) -> Duration;

    /// Does what there is to do now.
    fn run_once(
        &mut self,
        shared: &Arc<Shared>,
    ) -> impl Future<Output = Result<Ran, Outage>> + Send;

    /// Ends the pause early when something has happened.
    fn nudged(shared: &Shared) -> impl Future<Output = ()> + Send {
        let _ = shared;
        std::future::pending()
    }
}

/// Starts all duties; they end when `tasks` stop.
pub(crate) fn start(shared: &Arc<Shared>, keep_days: Option<u32>, tasks: &Tasks) {
    let leadership = Leadership::default();
    let keeper = Keeper {
        shared: shared.clone(),
        leadership: leadership.clone(),
        tasks: tasks.clone(),
    };
    keeper.start(leader::Elect::new(leadership.clone()));
    keeper.start(probe::Probe::default());
    keeper.start(rescue::Rescue::default());
    keeper.start(learn::Learn::default());
    keeper.start(dispatch::Dispatch::new(leadership));
    keeper.start(due::Due);
    keeper.start(takeover::Takeover::default());
    keeper.start(reconcile::Reconcile::default());
    keeper.start(consumers::Consumers);
    keeper.start(partitions::Partitions);
    keeper.start(pauses::Pauses);
    keeper.start(retention::Retention::new(keep_days));
    keeper.start(stats::Stats::default());
    keeper.start(sweep::Sweep::default());
}

struct Keeper {
    shared: Arc<Shared>,
    leadership: Leadership,
    tasks: Tasks,
}

impl Keeper {
    fn start<D: Duty>(&self, duty: D) {
        let kept = Kept {
            shared: self.shared.clone(),
            leadership: self.leadership.clone(),
            duty,
        };
        self.tasks.spawn(kept.until(self.tasks.stop_token()));
    }
}

/// A duty in its place.
struct Kept<D> {
    shared: Arc<Shared>,
    leadership: Leadership,
    duty: D,
}

impl<D: Duty> Kept<D> {
    /// Runs the duty at its pace until `stop` fires.
    async fn until(mut self, stop: CancellationToken) {
        let pulses = self.shared.pulses.clone();
        keep::keep(&pulses, &format!("duty {}", D::NAME), &stop, &mut self).await;
        if D::NAME == leader::NAME {
            self.leadership.resign(&self.shared).await;
        }
    }

    /// An outage has a line of its own; what fails although both servers are there is worth one each second at most.
    fn tell(&self, outage: &Outage) {
        let error = in_full(outage);
        if !self.shared.contact.is_up() || self.shared.redis.refuses_work() {
            tracing::debug!(duty = D::NAME, error, "a duty failed; it runs again");
        } else if let Some(kept_back) = LINES.may_speak() {
            tracing::warn!(
                duty = D::NAME,
                kept_back,
                error,
                "a duty failed; it runs again"
            );
        }
    }
}

impl<D: Duty> Round for Kept<D> {
    fn pause(&self) -> Duration {
        self.duty.every(&self.shared)
    }

    async fn run(&mut self) {
        if D::SCOPE == Scope::Leader && !self.leadership.is_mine() {
            return;
        }
        let now_unix_s = millstream_common::clock::now().timestamp_millis() as f64 / 1000.0;
        // A duty owns its connections through `Lent`: cutting it short closes them and rolls back.
        let outcome = match tokio::time::timeout(
            keep::RUN_DEADLINE,
            self.duty.run_once(&self.shared),
        )
        .await
        {
            Ok(Ok(Ran::Done)) => DutyOutcome::Succeeded,
            Ok(Ok(Ran::Skipped)) => DutyOutcome::Skipped,
            Ok(Err(outage)) => {
                self.tell(&outage);
                DutyOutcome::Failed
            }
            Err(_) => {
                tracing::warn!(duty = D::NAME, "a duty took too long and was cut short");
                DutyOutcome::Failed
            }
        };
        self.shared
            .metrics
            .record_duty(D::NAME, outcome, now_unix_s);
    }

    async fn nudged(&mut self) {
        let won = async {
            match D::SCOPE {
                // A new leader does not wait out the pause of a duty that had nothing to do here: one that is restarted often would
                // never get to the rare ones.
                Scope::Leader => {
                    self.leadership.won().await;
                    tokio::time::sleep(FIRST_ROUND_AFTER).await;
                }
                Scope::Everywhere => std::future::pending().await,
            }
        };
        tokio::select! {
            () = D::nudged(&self.shared) => {}
            () = won => {}
        }
    }
}
