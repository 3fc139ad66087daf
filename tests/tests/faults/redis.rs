//! Faults of Redis.

use std::time::{Duration, Instant};

use millstream_local::{Durability, LocalServices};
use millstream_tests::{
    Lab, eventually,
    faults::{machine::SmallDisk, redis},
};

async fn set(lab: &Lab, name: &str) -> ::redis::RedisResult<()> {
    ::redis::cmd("SET")
        .arg(name)
        .arg("x".repeat(500))
        .query_async(&mut lab.redis().await)
        .await
}

async fn exists(lab: &Lab, name: &str) -> bool {
    lab.command::<i64>(&["EXISTS", name]).await == 1
}

#[tokio::test]
async fn connections_are_killed_and_commands_are_held_up() {
    let lab = Lab::private(Durability::None).await;
    let mut conn = lab.redis().await;
    assert!(redis::client_kill_all(&lab).await >= 1);
    eventually("the connection breaks", async || {
        ::redis::cmd("PING").exec_async(&mut conn).await.err()
    })
    .await;
    let pause = Duration::from_millis(300);
    let begin = Instant::now();
    redis::client_pause(&lab, pause, redis::Pause::Write).await;
    lab.command::<String>(&["PING"]).await;
    set(&lab, "a").await.unwrap();
    assert!(
        begin.elapsed() >= pause.mul_f64(0.9),
        "a write waits for the end of the pause: {:?}",
        begin.elapsed()
    );
    redis::client_pause(&lab, Duration::from_hours(1), redis::Pause::Write).await;
    redis::client_unpause(&lab).await;
    set(&lab, "b").await.unwrap();
    let begin = Instant::now();
    redis::debug_sleep(&lab, pause).await;
    assert!(begin.elapsed() >= pause.mul_f64(0.9));
}

#[tokio::test]
async fn a_full_memory_refuses_writes_until_it_is_freed() {
    let lab = Lab::private(Durability::None).await;
    redis::fill_memory(&lab).await;
    let refusal = set(&lab, "a").await.unwrap_err();
    assert_eq!(refusal.code(), Some("OOM"), "{refusal}");
    redis::free_memory(&lab).await;
    set(&lab, "a").await.unwrap();
    redis::eviction_policy(&lab, "allkeys-lru").await;
    let policy: (String, String) = lab.command(&["CONFIG", "GET", "maxmemory-policy"]).await;
    assert_eq!(policy.1, "allkeys-lru");
}

#[tokio::test]
async fn what_was_cut_off_or_written_after_a_copy_is_gone_after_the_restart() {
    let lab = Lab::private(Durability::Full).await;
    set(&lab, "early").await.unwrap();
    redis::written(&lab).await;
    let copy = redis::Copy::of(lab.servers()).unwrap();
    set(&lab, "late").await.unwrap();
    lab.harm(LocalServices::stop_redis).await;
    assert!(redis::cut_aof_tail(lab.servers(), 100).unwrap() > 0);
    lab.harm(LocalServices::start_redis).await;
    assert!(
        exists(&lab, "early").await && !exists(&lab, "late").await,
        "the last command is gone with its tail"
    );
    set(&lab, "later").await.unwrap();
    lab.harm(LocalServices::stop_redis).await;
    copy.restore(lab.servers()).unwrap();
    lab.harm(LocalServices::start_redis).await;
    assert!(exists(&lab, "early").await && !exists(&lab, "later").await);
    lab.harm(redis::restart_without_persistence).await;
    assert!(!exists(&lab, "early").await);
}

#[tokio::test]
async fn an_append_only_file_on_a_full_disk_refuses_writes_until_there_is_space() {
    let lab = Lab::private(Durability::Full).await;
    lab.harm(LocalServices::stop_redis).await;
    let Some(disk) = SmallDisk::over(&redis::folder(lab.servers()).unwrap(), 8) else {
        return;
    };
    lab.harm(LocalServices::start_redis).await;
    set(&lab, "a").await.unwrap();
    disk.fill();
    eventually("writes are refused", async || {
        set(&lab, "b")
            .await
            .err()
            .filter(|e| e.code() == Some("MISCONF"))
    })
    .await;
    disk.free();
    eventually("writes are taken again", async || set(&lab, "c").await.ok()).await;
}
