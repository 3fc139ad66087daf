//! Rows that handlers write by themselves, in runs that may be cut anywhere.

use std::{pin::pin, time::Duration};

use millstream_common::{pg::Lent, retry::RetryPolicy};
use millstream_producer::NewJob;
use millstream_tests::{Lab, eventually};
use millstream_worker::{Context, Failure, Handler, Outcome, Success};

const JOBS: u64 = 1000;
/// Every so many jobs one is cut at each place.
const EVERY: u64 = 40;
/// A run that stalls costs a slot this long. On a busy machine none of the others takes as long.
const TIMEOUT: Duration = Duration::from_secs(1);

/// One row, every second one in a transaction of its own. The first try of some stalls, or gives up, in the middle of it.
async fn write(context: Context, nth: u64) -> Outcome {
    let mut conn = context.pg().connection("writing a row").await?;
    if context.attempt == 1 {
        cut(&mut conn, nth).await?;
    }
    let insert = sqlx::query("INSERT INTO own_row (job) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(context.job_id);
    if nth.is_multiple_of(2) {
        let mut tx = conn.begin().await?;
        tx.execute(insert).await?;
        tx.commit().await?;
    } else {
        // In a transaction that somebody has left open, this would be committed by nobody.
        conn.execute(insert).await?;
    }
    Ok(Success::new())
}

/// Ends the run of some jobs, each in another way; returns for the others.
async fn cut(conn: &mut Lent, nth: u64) -> Result<(), Failure> {
    match nth % EVERY {
        // In the middle of a transaction.
        0 => {
            let mut tx = conn.begin().await?;
            let insert = sqlx::query("INSERT INTO own_row (job) VALUES (gen_random_uuid())");
            tx.execute(insert).await?;
            std::future::pending().await
        }
        // In the middle of a statement.
        1 => {
            let mut tx = conn.begin().await?;
            tx.execute(sqlx::query("SELECT pg_sleep(5)")).await?;
            std::future::pending().await
        }
        // BEGIN is sent, and nobody waits for its answer: the connection is in a transaction and does not know.
        2 => {
            let begin = pin!(conn.begin());
            // On a busy machine the answer may be there before this looks for it.
            drop(futures::poll!(begin));
            Err(Failure::retry("given up"))
        }
        _ => Ok(()),
    }
}

#[tokio::test]
async fn x11_every_completed_job_has_its_own_row_and_no_session_stays_in_a_transaction() {
    let lab = Lab::new().await;
    sqlx::query("CREATE TABLE own_row (job uuid PRIMARY KEY)")
        .execute(&lab.pool)
        .await
        .unwrap();
    let quick = Duration::from_millis(1);
    let policy = RetryPolicy {
        base: quick,
        factor: 1.0,
        cap: quick,
        max_attempts: 1000,
    };
    let worker = lab
        .worker_with(vec![
            Handler::new("writing", write)
                .timeout(TIMEOUT)
                .retry(policy),
        ])
        .await;
    let jobs = (0..JOBS)
        .map(|nth| NewJob::new("writing", nth.to_string()))
        .collect();
    let answers = lab.producer().enqueue_many(jobs).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    lab.await_count("completed", JOBS as i64).await;
    let without = "SELECT count(*) FROM millstream.job j WHERE state = 2 AND NOT EXISTS (SELECT 1 FROM own_row r WHERE r.job = j.id)";
    assert_eq!(
        lab.number(without).await,
        0,
        "completed, and the row is lost"
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM own_row").await,
        JOBS as i64,
        "and what was cut has left nothing"
    );
    assert!(
        lab.number("SELECT count(*) FROM millstream.job_error WHERE class = 'timeout'")
            .await
            > 0,
        "runs were cut"
    );
    eventually("no session is in a transaction", async || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        (lab.number(open).await == 0).then_some(())
    })
    .await;
    assert!(
        worker
            .health()
            .metrics()
            .contains("millstream_pool_connections{pool=\"handlers\"")
    );
}
