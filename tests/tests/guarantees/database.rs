//! Postgres: which server is taken, with which settings, and what a lock on a hot table does.

use std::path::PathBuf;

use millstream_common::{limits::STATEMENT_DEADLINE, pg::Pg};
use millstream_local::{Durability, PostgresStop};
use millstream_tests::{Lab, ask::send, eventually, process};
use serde_json::Value;
use sqlx::Connection;

async fn data_directory(lab: &Lab) -> PathBuf {
    let path: String = sqlx::query_scalar("SELECT current_setting('data_directory')")
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    path.into()
}

// rule 36
#[tokio::test]
async fn a_server_in_recovery_is_refused_by_worker_and_api() {
    let lab = Lab::private(Durability::None).await;
    let data = data_directory(&lab).await;
    lab.harm(|servers| servers.stop_postgres(PostgresStop::Fast))
        .await;
    std::fs::write(data.join("standby.signal"), "").unwrap();
    lab.harm(millstream_local::LocalServices::start_postgres)
        .await;
    eventually("the standby answers", async || {
        let standby: Option<bool> = sqlx::query_scalar("SELECT pg_is_in_recovery()")
            .fetch_one(&lab.pool)
            .await
            .ok();
        standby.filter(|standby| *standby)
    })
    .await;
    for command in [
        &["worker"][..],
        &["api", "--listen", "127.0.0.1:0"],
        &["enqueue", "noop"],
    ] {
        let refused = process::run(&lab, command).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && said.contains("primary"),
            "{command:?}: {said}"
        );
    }
    let doctor = doctor(&lab, "postgres role").await;
    assert_eq!(doctor["level"], "fail", "{doctor}");
}

/// One line of the doctor's report.
async fn doctor(lab: &Lab, check: &str) -> Value {
    let output = process::run(lab, &["--json", "doctor"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .find(|line| line["check"] == check)
        .unwrap_or_else(|| panic!("no {check} in {text}"))
}

// rule 66
#[tokio::test]
async fn settings_that_lose_accepted_jobs_are_told() {
    let lab = Lab::private(Durability::Full).await;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(doctor(&lab, setting).await["level"], "ok");
        let off = format!("ALTER SYSTEM SET {setting} = off");
        sqlx::query(sqlx::AssertSqlSafe(off))
            .execute(&lab.pool)
            .await
            .unwrap();
    }
    sqlx::query("SELECT pg_reload_conf()")
        .execute(&lab.pool)
        .await
        .unwrap();
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        eventually(&format!("{setting} is told"), async || {
            (doctor(&lab, setting).await["level"] == "warn").then_some(())
        })
        .await;
    }
    let log = lab.folder().join("worker.log");
    let mut worker = process::Process::start_logging(&lab, &["worker"], &log);
    lab.await_workers(1).await;
    worker.kill9();
    let said = std::fs::read_to_string(log).unwrap();
    assert!(
        said.contains("fsync") && said.contains("synchronous_commit"),
        "{said}"
    );
}

// rule 67
#[tokio::test]
async fn a_lock_on_a_hot_table_stops_nobody_for_good_and_nobody_is_taken_for_dead() {
    let lab = Lab::new().await;
    let (worker, _other) = (lab.worker().await, lab.worker().await);
    let producer = lab.producer();
    send(&producer, "sleep", r#"{"ms":20}"#, 100).await;
    let mut conn = lab.pool.acquire().await.unwrap();
    let mut locked = conn.begin().await.unwrap();
    sqlx::query("LOCK TABLE millstream.job, millstream.parcel IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *locked)
        .await
        .unwrap();
    // Longer than the lock timeout of every session of ours and than a lease, as counted by hearts that must not stop.
    let beat = lab
        .number("SELECT min(beat) FROM millstream.worker_beat")
        .await;
    lab.await_number("SELECT min(beat) FROM millstream.worker_beat", beat + 30)
        .await;
    assert!(worker.health().stuck_loops().is_empty(), "every loop turns");
    locked.commit().await.unwrap();
    lab.await_all_completed(100).await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker WHERE state = 'active'")
            .await,
        2
    );
    assert_eq!(
        lab.number("SELECT max(crash_count)::bigint FROM millstream.job")
            .await,
        0
    );
}

// rules 64, 67
#[tokio::test]
async fn every_session_gives_up_statements_and_locks_by_itself() {
    let lab = Lab::new().await;
    let pg = Pg::new(lab.config.database.url.expose(), 1).unwrap();
    for loan in [pg.hot("asking"), pg.main("asking")] {
        let ask = "SELECT (SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout'), (SELECT setting::bigint FROM pg_settings WHERE name = 'lock_timeout')";
        let (statement, lock): (i64, i64) = loan.one(sqlx::query_as(ask)).await.unwrap();
        // After the client's own deadline, so that the client is the one who knows.
        assert!(
            u128::try_from(statement).unwrap() > STATEMENT_DEADLINE.as_millis()
                && statement < 60_000
        );
        assert_eq!(lock, 3_000);
    }
}

// rule 58
#[tokio::test]
async fn hot_tables_are_vacuumed_early() {
    let lab = Lab::new().await;
    let options = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = 'millstream' AND c.relkind = 'r' AND array_to_string(c.reloptions, ',') LIKE '%autovacuum_vacuum_%'
                     AND (c.relname IN ('worker_beat', 'lease') OR c.relname ~ '^job_[0-9]')";
    assert!(
        lab.number(options).await >= 3,
        "beats, leases and the partitions of jobs have settings of their own"
    );
}
