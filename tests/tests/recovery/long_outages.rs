//! Outages that last for leases, and losses that come again and again. Each lab has a pair of servers of its own.

use std::time::{Duration, Instant};

use millstream_common::job::Priority;
use millstream_local::{Durability, LocalServices, PostgresStop};
use millstream_producer::NewJob;
use millstream_tests::{Lab, Starts, ask::send, eventually};
use millstream_worker::Worker;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

// F11, I5, rule 50: F36, with jobs that run through it and jobs that end in it
#[tokio::test]
async fn a_postgres_that_is_away_for_three_leases_makes_nothing_start_twice() {
    let mut lab = Lab::private(Durability::Full).await;
    lab.config.worker.concurrency = 32;
    // Workers believe in an outage for four leases: the fourth is for a loaded machine to bring the server back in.
    lab.config.worker.lease_ms = 6_000;
    let lease = Duration::from_millis(lab.config.worker.lease_ms);
    let (starts, gate) = (Starts::default(), CancellationToken::new());
    let handlers = || vec![starts.gated("gated", &gate), starts.timed("timed")];
    let workers = [
        lab.worker_with(handlers()).await,
        lab.worker_with(handlers()).await,
    ];
    let producer = lab.producer();
    send(&producer, "gated", "1", 25).await;
    send(&producer, "timed", "3000", 25).await;
    eventually("all fifty run", async || {
        (lab.number("SELECT count(*) FROM millstream.lease").await == 50).then_some(())
    })
    .await;
    let began = Instant::now();
    lab.harm(|servers| servers.stop_postgres(PostgresStop::Immediate))
        .await;
    // The length of the outage: three leases.
    tokio::time::sleep(lease * 3).await;
    lab.harm(LocalServices::start_postgres).await;
    eventually("Postgres answers", async || {
        sqlx::query("SELECT 1").execute(&lab.pool).await.ok()
    })
    .await;
    for worker in workers.each_ref().map(Worker::health) {
        eventually("its heart beats", async || {
            worker.readiness().postgres.then_some(())
        })
        .await;
    }
    // With the beat before it. Longer than promised, should the machine have been that slow: then runs may have started again.
    let was_longer = began.elapsed() + lease / 10 > lease * 4;
    lab.await_count("completed", 25).await;
    gate.cancel();
    lab.await_all_completed(50).await;
    assert_eq!(starts.jobs(), 50);
    assert!(
        was_longer || starts.repeated().is_empty(),
        "{:?}",
        starts.repeated()
    );
    assert!(starts.overlapped().is_empty(), "{:?}", starts.overlapped());
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 0")
            .await,
        0,
        "nobody was taken for dead"
    );
}

/// Jobs that wait at each loss.
const QUEUED: usize = 5_000;
const LOSSES: usize = 10;
/// What was in the streams flows again within this time: that it is missing is seen in a second, and 0.4 s were measured.
const FLOWS_AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// Jobs of which nothing is known but an entry in a stream: never handed out before, and not leased.
async fn only_in_redis(lab: &Lab) -> Vec<Uuid> {
    let sql = "SELECT j.id FROM millstream.parcel p CROSS JOIN LATERAL unnest(p.ids) AS u(id) JOIN millstream.job j ON j.id = u.id
               WHERE p.publishing_since IS NOT NULL AND j.state = 0 AND j.epoch = 0";
    sqlx::query_scalar(sql).fetch_all(&lab.pool).await.unwrap()
}

/// Waits until one of them has completed at another hand-out. Those which a worker had read already complete at the first: it may
/// have been all.
async fn await_one_of(lab: &Lab, lost: &[Uuid]) {
    eventually("a job whose entry was lost completes", async || {
        let sql = "SELECT COALESCE(bool_or(state = 2 AND epoch > 0) OR bool_and(state = 2), true) FROM millstream.job WHERE id = ANY($1)";
        sqlx::query_scalar::<_, bool>(sql).bind(lost).fetch_one(&lab.pool).await.unwrap().then_some(())
    })
    .await;
}

// F11, I1, I5, rule 69: F08
#[tokio::test]
async fn a_redis_flushed_ten_times_loses_no_job_and_flows_again() {
    let mut lab = Lab::private(Durability::None).await;
    lab.config.worker.concurrency = 24;
    let starts = Starts::default();
    let _worker = lab
        .worker_with(vec![starts.timed("slow"), starts.timed("timed")])
        .await;
    let producer = lab.producer();
    let (mut sent, mut flows, mut lost_flows) = (0, Vec::new(), Vec::new());
    for _ in 0..LOSSES {
        sent += send(&producer, "slow", "400", 24).await.len();
        let missing = QUEUED.saturating_sub(lab.count("available").await as usize);
        sent += send(&producer, "timed", "1", missing).await.len();
        lab.await_number("SELECT count(*) FROM millstream.lease", 1)
            .await;
        let lost = only_in_redis(&lab).await;
        lab.command::<String>(&["FLUSHALL"]).await;
        let lost_at = Instant::now();
        let mut urgent = NewJob::new("timed", "1");
        urgent.priority = Priority::High;
        let urgent = producer
            .enqueue(urgent)
            .await
            .expect("a job is accepted")
            .id;
        sent += 1;
        lab.await_state(urgent, "completed").await;
        flows.push(lost_at.elapsed());
        await_one_of(&lab, &lost).await;
        lost_flows.push(lost_at.elapsed());
    }
    lab.await_all_completed(sent as i64).await;
    assert!(starts.overlapped().is_empty(), "{:?}", starts.overlapped());
    println!("{LOSSES} losses, {sent} jobs");
    for (what, mut flows) in [("new", flows), ("lost", lost_flows)] {
        flows.sort_unstable();
        println!(
            "{what} work flows again after {:?} in the median, {:?} at worst",
            flows[LOSSES / 2],
            flows[LOSSES - 1]
        );
        assert!(
            flows[LOSSES - 1] <= FLOWS_AGAIN_WITHIN,
            "{what} work waited for {:?}",
            flows[LOSSES - 1]
        );
    }
}
