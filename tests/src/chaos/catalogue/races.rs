//! Faults of people: cancel, retry and redrive against each other and against the workers (F57).

use std::time::Duration;

use anyhow::Result;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::chaos::{
    fleet::Fleet,
    journal::{Event, Journal, now},
    rng::Rng,
    workload::{MIDDLE, Payload},
};

/// Above all tokens of producers.
const TOKENS: u64 = 100_000_000_000_000_000;
const JOBS: u64 = 50;
const ACTORS: usize = 4;

/// F57
pub(super) async fn moves(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let first = TOKENS + now() * 100;
    let journal = Journal::open(&fleet.dir().join("journals").join(format!("case-{first}.1.journal")))?;
    let mut jobs = Vec::new();
    let mut conn = fleet.postgres().await?;
    for token in first..first + JOBS {
        // Every third one dies of its first attempt, and of every one after a redrive.
        let payload = serde_json::to_string(&Payload { token, fail: if token % 3 == 0 { 9 } else { 0 } })?;
        journal.write(Event::Intent(token));
        let id: Uuid = sqlx::query_scalar("SELECT millstream.enqueue($1, $2::jsonb, max_attempts => 1)")
            .bind(MIDDLE)
            .bind(payload)
            .fetch_one(&mut conn)
            .await?;
        journal.write(Event::Ok(token, Some(id)));
        jobs.push(id);
    }
    fleet.timeline.note("four actors cancel and retry 50 jobs for 8 s");
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
        let act = if rng.chance(60) { "SELECT millstream.cancel($1, 'chaos')" } else { "SELECT millstream.retry_now($1, 'chaos')" };
        sqlx::query(act).bind(some).execute(&mut conn).await?;
        sleep(Duration::from_millis(rng.below(60))).await;
    }
    Ok(())
}
