//! What else is the case while a figure is measured. Each lasts until its guard is ended, also in a database that is given.

use std::time::{Duration, Instant};

use millstream_common::{
    job::{NewJob, Priority},
    metrics::EnqueueSource,
    pg::within,
};
use sqlx::{Connection, PgConnection};

use super::{
    super::CommandError,
    enqueue::{QUEUE, job, many},
    site::Site,
};

/// Finished jobs that are there already.
const FINISHED: u64 = 5_000_000;
/// Made in steps that stay within the deadline of a statement.
const FINISHED_STEP: u64 = 100_000;
/// Jobs of low priority that wait.
const WAITING: u64 = 1_000_000;
/// Tenants that share a backlog.
pub(super) const TENANTS: u64 = 10_000;
/// The worker's breaker opens within this time.
const NOTICE_MAX: Duration = Duration::from_secs(30);

/// One circumstance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    /// A million jobs of low priority wait, and are worked on.
    Waiting,
    /// The same, of ten thousand tenants.
    WaitingOfTenants,
    /// Five million jobs have been done before.
    Finished,
    /// Somebody has forgotten a transaction that has a snapshot.
    OpenTransaction,
    /// The backlog belongs to ten thousand tenants.
    Tenants,
    /// Redis is down.
    RedisAway,
}

/// What is to be undone.
pub(super) struct Guard<'a> {
    site: &'a Site,
    beside: Beside,
    open: Option<PgConnection>,
}

impl Beside {
    /// Whether other jobs are worked on meanwhile.
    pub(super) fn is_a_backlog(self) -> bool {
        matches!(self, Self::Waiting | Self::WaitingOfTenants)
    }

    /// Brings it about.
    pub(super) async fn begin(self, site: &Site) -> Result<Guard<'_>, CommandError> {
        let mut open = None;
        match self {
            Self::Nothing | Self::Tenants => {}
            Self::Waiting => waiting(site, |_| low()).await?,
            Self::WaitingOfTenants => {
                add_tenants(site).await?;
                waiting(site, |nth| NewJob {
                    tenant: of_some_tenant(nth, WAITING).tenant,
                    ..low()
                })
                .await?;
            }
            Self::Finished => finished(site).await?,
            Self::OpenTransaction => open = Some(forgotten(site).await?),
            Self::RedisAway => site.stop_redis()?,
        }
        Ok(Guard {
            site,
            beside: self,
            open,
        })
    }
}

impl Guard<'_> {
    /// Undoes it.
    pub(super) async fn end(self) -> Result<(), CommandError> {
        if let Some(open) = self.open {
            // The transaction ends with its connection.
            drop(open.close().await);
        }
        if self.beside != Beside::RedisAway {
            return Ok(());
        }
        self.site.start_redis()?;
        let redis = self.site.context().redis().await?;
        let start = Instant::now();
        while redis.probe(&[]).await.is_err() {
            if start.elapsed() > NOTICE_MAX {
                return Err(CommandError::failed(
                    "Redis did not come back within half a minute",
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

fn low() -> NewJob {
    NewJob {
        priority: Priority::Low,
        ..job()
    }
}

async fn waiting(site: &Site, nth: impl Fn(u64) -> NewJob) -> Result<(), CommandError> {
    let producer = site.context().producer(EnqueueSource::Cli).await?;
    many(&producer, WAITING, nth).await?;
    producer.close().await;
    Ok(())
}

/// Rows as a job leaves them, in the partition of today. Made once: a second figure finds them.
async fn finished(site: &Site) -> Result<(), CommandError> {
    let there = site
        .number("SELECT count(*) FROM millstream.job WHERE state = 2")
        .await?
        .unsigned_abs();
    let missing = FINISHED.saturating_sub(there);
    for step in 0..missing.div_ceil(FINISHED_STEP) {
        site.context().hint(&format!(
            "  {} of {missing} finished jobs made …",
            step * FINISHED_STEP
        ));
        site.execute(
            "INSERT INTO millstream.job (id, queue_id, kind_id, tenant_id, state, attempt, worker_id, started_at, finished_at, payload)
             SELECT millstream.uuid_v7(), q.id, k.id, t.id, 2, 1, 0, now(), now(), repeat('x', 200)
             FROM generate_series(1, 100000), millstream.queue q, millstream.kind k, millstream.tenant t
             WHERE q.name = 'bench' AND k.name = 'noop' AND t.name = 'default'",
        )
        .await?;
    }
    Ok(())
}

async fn forgotten(site: &Site) -> Result<PgConnection, CommandError> {
    let op = "forgetting a transaction";
    let mut conn = site.context().pg().await?.connect(op).await?;
    within(
        op,
        sqlx::raw_sql(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM millstream.queue",
        )
        .execute(&mut conn),
    )
    .await?;
    Ok(conn)
}

/// Makes the tenants known.
pub(super) async fn add_tenants(site: &Site) -> Result<(), CommandError> {
    site.execute("INSERT INTO millstream.tenant (name) SELECT 'bench-' || n FROM generate_series(0, 9999) AS n ON CONFLICT DO NOTHING")
        .await
}

/// The nth job of a backlog of many tenants: each has some in a row, as one upload brings them.
pub(super) fn of_some_tenant(nth: u64, jobs: u64) -> NewJob {
    let in_a_row = jobs.div_ceil(TENANTS);
    NewJob {
        queue: QUEUE.into(),
        tenant: format!("bench-{}", nth / in_a_row),
        ..job()
    }
}
