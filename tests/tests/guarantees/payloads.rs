//! Payloads: where they are kept, and what one that cannot be read does.

use millstream_tests::{Lab, Starts, ask::send, eventually};

// rule 24
#[tokio::test]
async fn a_large_payload_is_never_in_redis() {
    let lab = Lab::new().await;
    let payload = format!(r#"{{"marker":"{}"}}"#, "m".repeat(60_000));
    send(&lab.producer(), "echo", &payload, 20).await;
    let entries = eventually("the jobs are published", async || {
        Some(lab.entries().await).filter(|e| !e.is_empty())
    })
    .await;
    for (_, fields) in entries {
        let bytes: usize = fields
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        // 25 jobs of at most 16 bytes of id and 5 of epoch each, and a parcel's number.
        assert!(bytes <= 25 * 21 + 64, "{bytes} bytes in one entry");
    }
}

// rule 46
#[tokio::test]
async fn a_payload_that_does_not_fit_fails_its_own_job_alone() {
    let lab = Lab::new().await;
    let starts = Starts::default();
    let _worker = lab.worker_with(vec![starts.timed("timed")]).await;
    let producer = lab.producer();
    let good = send(&producer, "timed", "5", 10).await;
    let bad = send(&producer, "timed", r#"{"not":"a number"}"#, 1).await[0];
    let more = send(&producer, "timed", "5", 10).await;
    lab.await_state(bad, "dead").await;
    lab.await_count("completed", 20).await;
    assert_eq!(
        (starts.of(bad), starts.jobs()),
        (0, good.len() + more.len())
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.dead_letter")
            .await,
        1
    );
    assert_eq!(
        lab.number("SELECT max(crash_count)::bigint FROM millstream.job")
            .await,
        0
    );
}
