//! Harm done to the streams while workers read them. The keys are this lab's own, so the shared Redis will do.

use millstream_common::stream::GROUP;
use millstream_tests::{Lab, ask::send, eventually};

/// 600 short jobs under way on one worker, some done, some in the stream; then the harm; then all must complete.
async fn survives(harm: impl AsyncFnOnce(&Lab, &str, i64)) {
    let mut lab = Lab::new().await;
    lab.config.worker.concurrency = 8;
    let worker = lab.worker().await;
    let producer = lab.producer();
    send(&producer, "sleep", r#"{"ms":40}"#, 600).await;
    let stream = lab.work_stream();
    eventually("work is under way", async || {
        (lab.count("completed").await >= 20 && lab.entries().await.len() >= 20).then_some(())
    })
    .await;
    harm(&lab, &stream, worker.id()).await;
    send(&producer, "noop", "1", 40).await;
    lab.await_all_completed(640).await;
    let groups: redis::streams::StreamInfoGroupsReply =
        lab.command(&["XINFO", "GROUPS", &stream]).await;
    assert_eq!(
        groups
            .groups
            .iter()
            .map(|g| g.name.as_str())
            .collect::<Vec<_>>(),
        [GROUP],
        "the group is there for the next job"
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 0")
            .await,
        0,
        "nobody is blamed"
    );
    assert!(groups.groups.iter().all(|g| g.pending == 0));
}

// F11
#[tokio::test]
async fn a_deleted_stream_loses_no_job() {
    survives(async |lab, stream, _| lab.command(&["DEL", stream]).await).await;
}

// F11
#[tokio::test]
async fn a_destroyed_group_loses_no_job() {
    survives(async |lab, stream, _| lab.command(&["XGROUP", "DESTROY", stream, GROUP]).await).await;
}

// F11
#[tokio::test]
async fn a_group_moved_past_unread_entries_loses_no_job() {
    survives(async |lab, stream, _| lab.command(&["XGROUP", "SETID", stream, GROUP, "$"]).await)
        .await;
}

// F11
#[tokio::test]
async fn a_group_moved_back_to_the_start_runs_no_job_twice() {
    survives(async |lab, stream, _| lab.command(&["XGROUP", "SETID", stream, GROUP, "0"]).await)
        .await;
}

// F11
#[tokio::test]
async fn a_trimmed_stream_loses_no_job() {
    survives(async |lab, stream, _| lab.command(&["XTRIM", stream, "MAXLEN", "0"]).await).await;
}

// F11
#[tokio::test]
async fn entries_deleted_while_pending_lose_no_job() {
    survives(async |lab, stream, _| {
        let reply: redis::streams::StreamPendingCountReply = lab
            .command(&["XPENDING", stream, GROUP, "-", "+", "100"])
            .await;
        for pending in reply.ids {
            lab.command::<i64>(&["XDEL", stream, &pending.id]).await;
        }
    })
    .await;
}

// F11
#[tokio::test]
async fn a_live_consumer_that_is_deleted_loses_no_job() {
    survives(async |lab, stream, worker| {
        lab.command::<i64>(&[
            "XGROUP",
            "DELCONSUMER",
            stream,
            GROUP,
            &format!("w{worker}"),
        ])
        .await;
    })
    .await;
}

// S22
#[tokio::test]
async fn a_stream_replaced_by_another_type_of_key_loses_no_job() {
    survives(async |lab, stream, _| lab.command(&["SET", stream, "foo"]).await).await;
}
