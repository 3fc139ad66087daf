//! Faults of Postgres.

use std::time::{Duration, Instant};

use millstream_local::Durability;
use millstream_tests::{
    Lab, eventually,
    faults::{
        postgres::{Frozen, Stranger, lock_table, terminate_random_backend},
        random::Random,
    },
};
use sqlx::{Connection, PgConnection};

/// Long enough to see that something which would take a millisecond does not happen.
const QUIET: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_terminated_session_is_somebody_elses_and_ends() {
    let lab = Lab::new().await;
    lab.pool.close().await;
    let mut random = Random::new(1);
    // The sessions of the pool that was closed may take a moment to end.
    eventually("there is nobody else", async || {
        terminate_random_backend(&lab, &mut random)
            .await
            .is_none()
            .then_some(())
    })
    .await;
    let mut victim = PgConnection::connect(lab.config.database.url.expose())
        .await
        .unwrap();
    assert!(terminate_random_backend(&lab, &mut random).await.is_some());
    eventually("its session is over", async || {
        sqlx::query("SELECT 1").execute(&mut victim).await.err()
    })
    .await;
}

#[tokio::test]
async fn a_locked_table_answers_nobody_and_then_everybody() {
    let lab = Lab::new().await;
    let held = QUIET * 2;
    let begin = Instant::now();
    let ask = async {
        lab.await_number(
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'millstream.parcel'::regclass",
            1,
        )
        .await;
        lab.number("SELECT count(*) FROM millstream.parcel").await
    };
    tokio::join!(lock_table(&lab, "millstream.parcel", held), ask);
    assert!(begin.elapsed() >= held);
}

#[tokio::test]
async fn a_stranger_takes_every_connection_and_gives_them_back() {
    let lab = Lab::private(Durability::None).await;
    let url = lab.config.database.url.expose();
    let stranger = Stranger::exhaust_connections(&lab).await;
    assert!(stranger.connections() > 50);
    assert!(PgConnection::connect(url).await.is_err());
    drop(stranger);
    eventually("there is room again", async || {
        PgConnection::connect(url).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_frozen_postgres_says_nothing_and_then_goes_on() {
    let lab = Lab::private(Durability::None).await;
    let frozen = Frozen::freeze(lab.servers()).unwrap();
    let mut ask = Box::pin(lab.number("SELECT 7::bigint"));
    assert!(tokio::time::timeout(QUIET, &mut ask).await.is_err());
    drop(frozen);
    assert_eq!(ask.await, 7);
}
