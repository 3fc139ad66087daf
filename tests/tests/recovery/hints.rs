//! Entries that lie: a hint is a question to Postgres, never an order.

use millstream_common::{
    id::new_job_id,
    stream::{
        GROUP,
        entry::{JOBS_FIELD, PARCEL_FIELD, pack},
    },
};
use millstream_tests::{
    Lab, Starts,
    ask::{forge, send},
    eventually,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn hint(parcel: &str, job: Uuid, epoch: i32) -> [(&'static str, Vec<u8>); 2] {
    [
        (PARCEL_FIELD, parcel.into()),
        (JOBS_FIELD, pack(&[(job, epoch)])),
    ]
}

// F10, F11
#[tokio::test]
async fn garbage_and_forged_entries_start_nothing_and_disappear() {
    let lab = Lab::new().await;
    let (starts, gate) = (Starts::default(), CancellationToken::new());
    let (_one, _two) = (
        lab.worker_with(vec![starts.gated("gated", &gate)]).await,
        lab.worker_with(vec![starts.gated("gated", &gate)]).await,
    );
    let producer = lab.producer();
    let done = send(&producer, "noop", "1", 1).await[0];
    lab.await_state(done, "completed").await;
    let live = send(&producer, "gated", "1", 1).await[0];
    // From the lease on Postgres answers for it: no hint of whatever epoch may start it again.
    lab.await_state(live, "running").await;
    let (mut redis, stream) = (lab.redis().await, lab.work_stream());
    for garbage in [
        &[("x", b"y".to_vec())][..],
        &[(PARCEL_FIELD, b"-".to_vec()), (JOBS_FIELD, vec![0xff; 40])],
        &[(JOBS_FIELD, vec![1])],
    ] {
        forge(&mut redis, &stream, garbage).await;
    }
    forge(&mut redis, &stream, &hint("1", new_job_id(), 0)).await;
    forge(&mut redis, &stream, &hint("-9", done, 0)).await;
    for epoch in [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7, i32::MAX] {
        forge(&mut redis, &stream, &hint("1", live, epoch)).await;
    }
    eventually("the forged entries are gone", async || {
        (lab.stream_length("default").await == 0).then_some(())
    })
    .await;
    assert_eq!(
        (starts.of(live), lab.state(live).await.as_str()),
        (1, "running")
    );
    gate.cancel();
    lab.await_all_completed(2).await;
    assert_eq!((starts.of(live), starts.jobs()), (1, 1));
}

// F10, F11: the same entries once more, as from an old copy of Redis
#[tokio::test]
async fn replayed_entries_start_nothing() {
    let lab = Lab::new().await;
    let starts = Starts::default();
    let producer = lab.producer();
    producer
        .parts()
        .catalog
        .announce_kinds(&[("timed", 3)])
        .await
        .unwrap();
    send(&producer, "timed", "1", 30).await;
    let recorded = eventually("the jobs are published", async || {
        Some(lab.entries().await).filter(|e| e.len() == 30)
    })
    .await;
    let _worker = lab.worker_with(vec![starts.timed("timed")]).await;
    lab.await_all_completed(30).await;
    let (mut redis, stream) = (lab.redis().await, lab.work_stream());
    for (_, fields) in &recorded {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        forge(&mut redis, &stream, &fields).await;
    }
    lab.await_all_completed(30).await;
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), 30));
}

// F3, F11: the producer dies between COMMIT and XADD
#[tokio::test]
async fn a_promise_to_publish_that_nobody_kept_is_kept_by_reconcile() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let id = new_job_id();
    sqlx::query(
        "SELECT parcel_id FROM millstream.persist(ARRAY[$1::uuid], ARRAY[1], (SELECT array_agg(id) FROM millstream.kind WHERE name = 'noop'), ARRAY[1],
           ARRAY[1::smallint], ARRAY['1'], NULL, NULL, NULL, NULL, NULL, NULL, true, NULL)",
    )
    .bind(id)
    .fetch_one(&lab.pool)
    .await
    .unwrap();
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.parcel WHERE publishing_since IS NOT NULL")
            .await,
        1
    );
    lab.await_all_completed(1).await;
    assert_eq!(
        lab.number("SELECT max(epoch)::bigint FROM millstream.job")
            .await,
        1,
        "it was handed out anew"
    );
    let groups: redis::streams::StreamInfoGroupsReply =
        lab.command(&["XINFO", "GROUPS", &lab.work_stream()]).await;
    assert_eq!(groups.groups[0].name, GROUP);
}
