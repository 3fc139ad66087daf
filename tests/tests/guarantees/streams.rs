//! What the streams hold, and for how long.

use millstream_common::{
    limits::{PARCEL_JOBS_MAX, WINDOW_ENTRIES_MIN},
    stream::GROUP,
};
use millstream_tests::{
    Lab, Process, Starts,
    ask::{forge, send},
    eventually,
};
use redis::streams::{StreamInfoConsumersReply, StreamInfoGroupsReply, StreamPendingReply};
use tokio_util::sync::CancellationToken;

/// A consumer name as a worker has it, of one that is not there.
const DEAD: &str = "w999999999";

async fn groups(lab: &Lab) -> Vec<String> {
    let reply: StreamInfoGroupsReply = lab.command(&["XINFO", "GROUPS", &lab.work_stream()]).await;
    reply.groups.into_iter().map(|group| group.name).collect()
}

async fn pending(lab: &Lab) -> usize {
    lab.command::<StreamPendingReply>(&["XPENDING", &lab.work_stream(), GROUP])
        .await
        .count()
}

// rules 8, 9
#[tokio::test]
async fn the_publisher_makes_the_group_and_a_worker_makes_it_from_the_start_of_the_stream() {
    let lab = Lab::new().await;
    send(&lab.producer(), "noop", "1", 300).await;
    eventually("the jobs are published", async || {
        (lab.stream_length("default").await > 0).then_some(())
    })
    .await;
    assert_eq!(groups(&lab).await, [GROUP], "no worker has ever run here");
    lab.command::<i64>(&["XGROUP", "DESTROY", &lab.work_stream(), GROUP])
        .await;
    let _worker = lab.worker().await;
    lab.await_all_completed(300).await;
    assert_eq!(
        lab.number("SELECT max(epoch)::bigint FROM millstream.job")
            .await,
        0,
        "by these very entries: none was handed out anew"
    );
    assert_eq!(groups(&lab).await, [GROUP]);
}

// rule 4
#[tokio::test]
async fn a_consumer_with_pending_entries_is_not_removed() {
    let lab = Lab::new().await;
    let (mut redis, stream) = (lab.redis().await, lab.work_stream());
    lab.command::<String>(&["XGROUP", "CREATE", &stream, GROUP, "0", "MKSTREAM"])
        .await;
    forge(&mut redis, &stream, &[("x", b"y".to_vec())]).await;
    lab.command::<redis::Value>(&["XREADGROUP", "GROUP", GROUP, DEAD, "STREAMS", &stream, ">"])
        .await;
    let script = redis::Script::new(include_str!("../../../worker/src/duties/drop_consumer.lua"));
    let mut call = script.key(&stream);
    call.arg(GROUP).arg(DEAD);
    assert_eq!(
        (
            call.invoke_async::<i32>(&mut redis).await.unwrap(),
            pending(&lab).await
        ),
        (0, 1)
    );
    let all: redis::streams::StreamRangeReply = lab.command(&["XRANGE", &stream, "-", "+"]).await;
    lab.command::<i64>(&["XACK", &stream, GROUP, &all.ids[0].id])
        .await;
    assert_eq!(call.invoke_async::<i32>(&mut redis).await.unwrap(), 1);
    let left: StreamInfoConsumersReply = lab.command(&["XINFO", "CONSUMERS", &stream, GROUP]).await;
    assert!(left.consumers.is_empty());
}

// F14
#[tokio::test]
async fn a_board_that_was_made_anew_meanwhile_keeps_its_notices() {
    let lab = Lab::new().await;
    let (mut redis, board) = (lab.redis().await, lab.keys().dead("default"));
    lab.command::<i64>(&["LPUSH", &board, "x"]).await;
    // Two workers have both been refused by the list, before one of them makes the board anew.
    let script = redis::Script::new(include_str!("../../../worker/src/settle/notice.lua"));
    for job in ["one", "two"] {
        let mut call = script.key(&board);
        call.arg(&["MAXLEN", "~", "100", "*", "job", job]);
        call.invoke_async::<String>(&mut redis).await.unwrap();
    }
    assert_eq!(lab.command::<i64>(&["XLEN", &board]).await, 2);
}

/// 200 jobs whose entries, and so many with repetitions of them, were given to a worker that died before it looked.
async fn abandoned(lab: &Lab, entries: usize) {
    let producer = &lab.producer();
    send(producer, "sleep", r#"{"ms":1}"#, 200).await;
    let real = eventually("some jobs are published", async || {
        Some(lab.entries().await).filter(|e| !e.is_empty())
    })
    .await;
    let (mut redis, stream) = (lab.redis().await, lab.work_stream());
    for (_, fields) in real.iter().cycle().take(entries - real.len()) {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        forge(&mut redis, &stream, &fields).await;
    }
    let count = entries.to_string();
    lab.command::<redis::Value>(&[
        "XREADGROUP",
        "GROUP",
        GROUP,
        DEAD,
        "COUNT",
        &count,
        "STREAMS",
        &stream,
        ">",
    ])
    .await;
    assert!(pending(lab).await >= entries);
}

// rules 14, 16
#[tokio::test]
async fn thousands_of_entries_of_a_dead_worker_are_taken_over_and_their_jobs_run_once() {
    let lab = Lab::new().await;
    abandoned(&lab, 5_000).await;
    let _worker = lab.worker().await;
    lab.await_count("completed", 200).await;
    eventually("nothing is pending", async || {
        (pending(&lab).await == 0).then_some(())
    })
    .await;
    lab.await_all_completed(200).await;
}

// rule 15: nobody holds a lock that it could take along
#[tokio::test]
async fn workers_that_are_killed_while_they_take_over_leave_it_to_the_next() {
    let lab = Lab::new().await;
    abandoned(&lab, 1_000).await;
    for _ in 0..2 {
        let before = pending(&lab).await;
        let mut worker = Process::start(&lab, &["worker"]);
        eventually("it takes over", async || {
            (pending(&lab).await < before).then_some(())
        })
        .await;
        worker.kill9();
    }
    let _last = Process::start(&lab, &["worker"]);
    lab.await_count("completed", 200).await;
    eventually("nothing is pending", async || {
        (pending(&lab).await == 0).then_some(())
    })
    .await;
}

// rule 70
#[tokio::test]
async fn a_backlog_of_any_size_keeps_a_window_in_the_streams() {
    let mut lab = Lab::new().await;
    lab.config.worker.concurrency = 2;
    let (starts, gate) = (Starts::default(), CancellationToken::new());
    let _worker = lab.worker_with(vec![starts.gated("gated", &gate)]).await;
    let producer = lab.producer();
    let mut longest = 0;
    for _ in 0..40 {
        send(&producer, "gated", "1", 500).await;
        longest = longest.max(lab.stream_length("default").await);
    }
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job").await,
        20_000
    );
    // A parcel that finds room for one entry is added whole, and of a kind that is not known to be quick each job has its own.
    assert!(
        longest < WINDOW_ENTRIES_MIN as usize + PARCEL_JOBS_MAX,
        "{longest} entries"
    );
    let bytes: u64 = lab
        .command(&["MEMORY", "USAGE", &lab.work_stream(), "SAMPLES", "0"])
        .await;
    assert!(bytes < 1 << 20, "{bytes} bytes");
}

// rule 9: the key that tells a Redis which has lost its data is somebody's list now. That is no reason to reconcile no more.
#[tokio::test]
async fn a_key_that_somebody_has_made_into_something_else_is_made_again() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let key = lab.keys().incarnation();
    let is_a_word =
        async || (lab.command::<String>(&["TYPE", &key]).await == "string").then_some(());
    eventually("the key is there", is_a_word).await;
    // At once: the worker looks at any moment.
    let change = "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')";
    lab.command::<i64>(&["EVAL", change, "1", &key]).await;
    eventually("the key is made again", is_a_word).await;
    send(&lab.producer(), "noop", "1", 3).await;
    lab.await_all_completed(3).await;
}
