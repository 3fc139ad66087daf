//! Faults of people: cancel, retry and redrive against each other and against the workers (F57).

use std::time::Duration;

use anyhow::Result;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::asks::{Asks, Options};
use crate::chaos::{fleet::Fleet, rng::Rng, workload::MIDDLE};

const JOBS: u64 = 50;
const ACTORS: usize = 4;

/// F57
pub(super) async fn moves(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let (mut asks, mut conn, mut jobs) = (Asks::open(fleet)?, fleet.postgres().await?, Vec::new());
    for nth in 0..JOBS {
        // Every third one dies of its first attempt, and of every one after a redrive.
        let may_die = nth % 3 == 0;
        let more = if may_die { r#","fail":9"# } else { "" };
        jobs.push(
            asks.job(
                &mut conn,
                MIDDLE,
                more,
                Options {
                    max_attempts: 1,
                    may_die,
                    ..Options::default()
                },
            )
            .await?,
        );
    }
    fleet
        .timeline
        .note("four actors cancel and retry 50 jobs for 8 s");
    let mut actors = tokio::task::JoinSet::new();
    for _ in 0..ACTORS {
        let (conn, jobs, rng) = (fleet.postgres().await?, jobs.clone(), Rng::new(rng.draw()));
        actors.spawn(actor(conn, jobs, rng));
    }
    while let Some(done) = actors.join_next().await {
        done??;
    }
    Ok(())
}

async fn actor(mut conn: PgConnection, jobs: Vec<Uuid>, mut rng: Rng) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        let some: Vec<Uuid> = (0..=rng.below(4)).map(|_| rng.pick(&jobs)).collect();
        // Cancelled is final: seldom, so that there is something to retry.
        let act = if rng.chance(60) {
            "SELECT millstream.cancel($1, 'chaos')"
        } else {
            "SELECT millstream.retry_now($1, 'chaos')"
        };
        sqlx::query(act).bind(some).execute(&mut conn).await?;
        sleep(Duration::from_millis(rng.below(60))).await;
    }
    Ok(())
}
