//! A Redis whose streams were tampered with: entries and names that are no text, ids that are used up, groups ahead of their stream.

use millstream_common::stream::GROUP;
use millstream_tests::{
    Lab,
    ask::{forge, send},
    eventually,
};
use redis::aio::MultiplexedConnection;

/// A worker as a consumer, of one that is not there.
const DEAD: &str = "w999999999";
const LAST_ID: &str = "18446744073709551615-18446744073709551615";

async fn raw(
    redis: &mut MultiplexedConnection,
    words: &[&[u8]],
) -> redis::RedisResult<redis::Value> {
    redis::Cmd::new().arg(words).query_async(redis).await
}

/// Jobs that are in the stream while nobody reads it.
async fn published(lab: &Lab, jobs: usize) {
    let before = lab.entries_count().await;
    send(&lab.producer(), "noop", "1", jobs).await;
    eventually("the jobs are published", async || {
        (lab.entries_count().await > before).then_some(())
    })
    .await;
}

trait Entries {
    async fn entries_count(&self) -> usize;
}

impl Entries for Lab {
    async fn entries_count(&self) -> usize {
        self.stream_length("default").await
    }
}

/// Entries that are none of ours, before and behind those that are.
async fn x60_garbage(lab: &Lab) {
    let (mut redis, stream) = (lab.redis().await, lab.work_stream());
    let fields: [&[&[u8]]; 5] = [
        &[b"\xff", b"v"],
        &[b"", b""],
        &[b"p", b"\xff", b"j", b"\xff"],
        &[b"j", b"\xc3\x28"],
        &[b"\xf0\x9f", b"x", b"p", b"1"],
    ];
    for fields in fields {
        raw(
            &mut redis,
            &[&[b"XADD", stream.as_bytes(), b"*"], fields].concat(),
        )
        .await
        .expect("XADD");
    }
}

async fn nothing_is_left(lab: &Lab) {
    lab.await_drained("default").await;
    eventually("nothing is pending", async || {
        let told: redis::streams::StreamPendingReply =
            lab.command(&["XPENDING", &lab.work_stream(), GROUP]).await;
        (told.count() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn x60_entries_that_are_no_text_are_dropped_and_their_neighbours_run() {
    let lab = Lab::new().await;
    x60_garbage(&lab).await;
    published(&lab, 50).await;
    x60_garbage(&lab).await;
    let _worker = lab.worker().await;
    lab.await_all_completed(50).await;
    x60_garbage(&lab).await;
    nothing_is_left(&lab).await;
    assert_eq!(
        lab.number("SELECT max(epoch)::bigint FROM millstream.job")
            .await,
        0,
        "none was handed out anew"
    );
}

#[tokio::test]
async fn x60_entries_that_are_no_text_stop_neither_takeover_nor_reconcile() {
    let lab = Lab::new().await;
    published(&lab, 50).await;
    x60_garbage(&lab).await;
    let (mut redis, stream) = (lab.redis().await, lab.work_stream());
    // Read by one that is gone, and by one whose name is no text, in a stream with a group whose name is none either.
    raw(
        &mut redis,
        &[b"XGROUP", b"CREATE", stream.as_bytes(), b"\xff", b"0"],
    )
    .await
    .expect("XGROUP CREATE");
    for consumer in [DEAD.as_bytes(), b"\xff\xfe"] {
        let words: [&[u8]; 8] = [
            b"XREADGROUP",
            b"GROUP",
            GROUP.as_bytes(),
            consumer,
            b"COUNT",
            b"2",
            b"STREAMS",
            stream.as_bytes(),
        ];
        raw(&mut redis, &[&words[..], &[b">"]].concat())
            .await
            .expect("XREADGROUP");
    }
    // And the word that tells of a loss is none.
    raw(
        &mut redis,
        &[b"SET", lab.keys().incarnation().as_bytes(), b"\xff"],
    )
    .await
    .expect("SET");
    // What reconcile lists: entries that the group was moved past.
    let _worker = lab.worker().await;
    lab.await_count("completed", 50).await;
    lab.command::<String>(&["XGROUP", "SETID", &stream, GROUP, "$"])
        .await;
    published_or_run(&lab, 20).await;
    lab.await_all_completed(70).await;
    nothing_is_left(&lab).await;
}

async fn published_or_run(lab: &Lab, jobs: usize) {
    send(&lab.producer(), "noop", "1", jobs).await;
}

/// Jobs run by the streams again: nothing was handed out anew for them.
async fn flows(lab: &Lab, jobs: usize, total: i64) {
    let ids = send(&lab.producer(), "noop", "2", jobs).await;
    lab.await_all_completed(total).await;
    let again: i64 =
        sqlx::query_scalar("SELECT count(*) FROM millstream.job WHERE id = ANY($1) AND epoch > 0")
            .bind(&ids)
            .fetch_one(&lab.pool)
            .await
            .expect("a count");
    assert_eq!(again, 0, "these went by the stream");
}

#[tokio::test]
async fn x61_a_stream_whose_ids_are_used_up_is_made_anew_and_what_it_held_runs() {
    for by_entry in [true, false] {
        let lab = Lab::new().await;
        published(&lab, 20).await;
        if by_entry {
            lab.command::<String>(&["XADD", &lab.work_stream(), LAST_ID, "x", "y"])
                .await;
        } else {
            lab.command::<String>(&["XSETID", &lab.work_stream(), LAST_ID])
                .await;
        }
        // The next one to publish finds it, without any worker.
        send(&lab.producer(), "noop", "1", 20).await;
        eventually("there is a stream again", async || {
            lab.entries()
                .await
                .first()
                .filter(|(id, _)| !id.starts_with("18446744"))
                .map(drop)
        })
        .await;
        let worker = lab.worker().await;
        lab.await_all_completed(40).await;
        flows(&lab, 10, 50).await;
        drop(worker);
    }
}

#[tokio::test]
async fn x61_a_stream_is_mended_while_nothing_is_published_and_the_worker_says_so_until_what_it_hid_runs()
 {
    for (what, words) in [
        ("ids", vec!["XADD", "STREAM", LAST_ID, "x", "y"]),
        (
            "group",
            vec!["XGROUP", "SETID", "STREAM", GROUP, "99999999999999-0"],
        ),
        (
            "group to the end",
            vec!["XGROUP", "SETID", "STREAM", GROUP, LAST_ID],
        ),
    ] {
        let lab = Lab::new().await;
        let worker = lab.worker().await;
        flows(&lab, 10, 10).await;
        let stream = lab.work_stream();
        let words: Vec<&str> = words
            .into_iter()
            .map(|word| if word == "STREAM" { &stream } else { word })
            .collect();
        lab.command::<redis::Value>(&words).await;
        send(&lab.producer(), "noop", "1", 20).await;
        eventually(&format!("{what}: the worker is not ready"), async || {
            let told = worker.health().readiness();
            // A producer of this test may have been the one that mended it.
            (told.streams_mending && !told.ready || what == "ids").then_some(())
        })
        .await;
        lab.await_all_completed(30).await;
        flows(&lab, 10, 40).await;
        eventually(&format!("{what}: the worker is ready again"), async || {
            worker.health().readiness().ready.then_some(())
        })
        .await;
    }
}

// A key that holds something else, in a queue that no worker reads, stops nobody who looks into all queues.
#[tokio::test]
async fn x61_a_key_that_is_no_stream_stops_no_other_queue() {
    let mut lab = Lab::new().await;
    lab.config.worker.queues = vec!["default".to_owned()];
    let other = lab
        .keys()
        .stream("documents", millstream_common::job::Priority::High);
    lab.command::<i64>(&["LPUSH", &other, "x"]).await;
    published(&lab, 20).await;
    let (mut redis, stream) = (lab.redis().await, lab.work_stream());
    forge(&mut redis, &stream, &[("x", b"y".to_vec())]).await;
    lab.command::<redis::Value>(&[
        "XREADGROUP",
        "GROUP",
        GROUP,
        DEAD,
        "COUNT",
        "100",
        "STREAMS",
        &stream,
        ">",
    ])
    .await;
    let _worker = lab.worker().await;
    lab.await_all_completed(20).await;
    nothing_is_left(&lab).await;
}
