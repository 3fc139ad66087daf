//! Links that are slow: everything takes longer, and nothing is done twice for it.

use std::time::Duration;

use millstream_tests::{Fault, Lab, Links, Starts, ask::send, faults::links::Server};

/// Three hundred milliseconds there and back, more or less.
const LATENCY: Fault = Fault::Delay {
    mean: Duration::from_millis(150),
    jitter: Duration::from_millis(50),
};
/// 256 kbit.
const NARROW: Fault = Fault::Throttle {
    bytes_per_second: 32_000,
};

/// Both workers are behind the slow link.
async fn survives(server: Server, fault: Fault, payload: &str, jobs: usize) {
    let mut lab = Lab::new().await;
    // A beat takes several round trips; with the shortest lease a second of latency would be a death.
    lab.config.worker.lease_ms = 15_000;
    let (links, starts) = (Links::of(&lab).await, Starts::default());
    let handlers = || vec![starts.timed("timed"), starts.timed("long")];
    let _one = lab.worker_in(&links.config, handlers()).await;
    let _two = lab.worker_in(&links.config, handlers()).await;
    let producer = lab.producer();
    send(&producer, "timed", "1", 1).await;
    lab.await_all_completed(1).await;
    links.to(server).set(fault);
    send(&producer, "timed", payload, jobs).await;
    send(&producer, "long", "1200", 3).await;
    lab.await_all_completed(jobs as i64 + 4).await;
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), jobs + 4));
    // A claim whose answer takes over two seconds is left to others before anything starts: under load that may happen, and is no second start.
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE attempt > 1 OR crash_count > 0")
            .await,
        0
    );
}

// F27
#[tokio::test]
async fn latency_to_redis_starts_nothing_twice() {
    survives(Server::Redis, LATENCY, "20", 60).await;
}

// F27
#[tokio::test]
async fn latency_to_postgres_starts_nothing_twice() {
    survives(Server::Postgres, LATENCY, "20", 60).await;
}

// F28
#[tokio::test]
async fn a_narrow_link_to_postgres_starts_nothing_twice() {
    // A number with a long head: a few hundred bytes that the handler reads as one millisecond.
    survives(
        Server::Postgres,
        NARROW,
        &format!("{}1", " ".repeat(300)),
        60,
    )
    .await;
}
