//! A Redis that comes back with less than it had, or with what it had a while ago.

use millstream_common::stream::GROUP;
use millstream_local::{Durability, LocalServices};
use millstream_tests::{Lab, Starts, ask::send, eventually, faults::redis};

/// More than a batch of acknowledgements and a few entries.
const TAIL_BYTES: u64 = 4_000;

/// Work is under way; after the harm everything is done once.
async fn survives(harm: impl AsyncFnOnce(&Lab, &Starts)) {
    let lab = Lab::private(Durability::Full).await;
    let starts = Starts::default();
    let _worker = lab.worker_with(vec![starts.timed("timed")]).await;
    let producer = lab.producer();
    send(&producer, "timed", "40", 400).await;
    send(&producer, "timed", "1500", 4).await;
    eventually("work is under way", async || {
        (starts.jobs() >= 30).then_some(())
    })
    .await;
    harm(&lab, &starts).await;
    send(&producer, "timed", "1", 50).await;
    lab.await_all_completed(454).await;
    assert_eq!((starts.overlapped(), starts.jobs()), (Vec::new(), 454));
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 0")
            .await,
        0,
        "nobody has died"
    );
}

// F15: entries that were added are gone, and those that were acknowledged are there again
#[tokio::test]
async fn a_redis_that_lost_the_end_of_its_file_loses_no_job() {
    survives(async |lab, _| {
        lab.harm(|servers| {
            servers.kill9_redis()?;
            redis::cut_aof_tail(servers, TAIL_BYTES)?;
            servers.start_redis()
        })
        .await;
    })
    .await;
}

// F15: the acknowledgement is in the file, the deletion behind it is not
#[tokio::test]
async fn an_entry_that_was_acknowledged_and_not_deleted_does_not_stay() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let producer = lab.producer();
    send(&producer, "noop", "1", 10).await;
    lab.await_all_completed(10).await;
    // In one step, so that nobody reads it first: the group stands behind it, and it is pending with nobody.
    let add = "redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], redis.call('XADD', KEYS[1], '*', 'p', '1', 'j', 'x'))";
    lab.command::<()>(&["EVAL", add, "1", &lab.work_stream(), GROUP])
        .await;
    assert_eq!(lab.entries().await.len(), 1);
    lab.await_drained("default").await;
}

// F16
#[tokio::test]
async fn a_redis_put_back_to_an_old_copy_starts_nothing_again() {
    survives(async |lab, starts| {
        redis::written(lab).await;
        let copy = redis::Copy::of(lab.servers()).unwrap();
        let then = starts.jobs();
        eventually("much is done meanwhile", async || {
            (starts.jobs() >= then + 100).then_some(())
        })
        .await;
        lab.harm(LocalServices::stop_redis).await;
        copy.restore(lab.servers()).unwrap();
        lab.harm(LocalServices::start_redis).await;
    })
    .await;
}
