//! Two databases on one Redis with one prefix: they keep apart by themselves.

use millstream_common::{
    config::{Config, Secret},
    pg::{Pg, mark, migrate_up},
};
use millstream_local::Durability;
use millstream_tests::{Lab, ask::send, eventually, lab::with_database, process::run};
use sqlx::{AssertSqlSafe, PgPool};

/// A second database on the servers of a private lab, with its prefix.
async fn second(lab: &Lab) -> (Config, PgPool) {
    sqlx::query(AssertSqlSafe("CREATE DATABASE second"))
        .execute(&lab.pool)
        .await
        .expect("CREATE DATABASE");
    let mut config = lab.config.clone();
    config.database.url = Secret::new(with_database(lab.config.database.url.expose(), "second"));
    migrate_up(config.database.url.expose())
        .await
        .expect("the migrations run");
    let pool = PgPool::connect(config.database.url.expose())
        .await
        .expect("the database answers");
    (config, pool)
}

async fn completed(pool: &PgPool, jobs: i64) {
    eventually(&format!("{jobs} jobs completed"), async || {
        let done: i64 = sqlx::query_scalar("SELECT count(*) FROM millstream.job WHERE state = 2")
            .fetch_one(pool)
            .await
            .expect("a count");
        (done == jobs).then_some(())
    })
    .await;
}

#[tokio::test]
async fn x25_two_databases_with_one_prefix_never_read_each_others_streams() {
    let lab = Lab::private(Durability::None).await;
    let (config, pool) = second(&lab).await;
    let (_one, _two) = (lab.worker().await, lab.worker_in(&config, Vec::new()).await);
    let one = lab.producer();
    let two = millstream_producer::Producer::new(parts(&config).await);
    for round in 1..=4 {
        send(&one, "noop", "1", 100).await;
        send(&two, "noop", "1", 100).await;
        lab.await_count("completed", round * 100).await;
        completed(&pool, round * 100).await;
        if round == 2 {
            lab.command::<()>(&["FLUSHALL"]).await;
        }
    }
    for pool in [&lab.pool, &pool] {
        let late: i64 = sqlx::query_scalar("SELECT count(*) FROM millstream.job WHERE epoch > 1")
            .fetch_one(pool)
            .await
            .expect("a count");
        assert_eq!(
            late, 0,
            "but for what FLUSHALL took, none was handed out anew"
        );
    }
}

async fn parts(config: &Config) -> millstream_producer::Parts {
    use millstream_common::{
        catalog::Catalog,
        metrics,
        stream::{keys::Keys, link::Redis},
    };
    let pg = Pg::new(config.database.url.expose(), 10).expect("a Postgres URL");
    let keys = Keys::new(
        config.redis.prefix.clone(),
        mark(&pg).await.expect("a mark"),
    );
    millstream_producer::Parts {
        redis: Redis::new(config.redis.url.expose(), keys).expect("a Redis URL"),
        catalog: Catalog::new(pg.clone()),
        metrics: metrics::Metrics::new("test").expect("metrics"),
        source: metrics::EnqueueSource::Library,
        pg,
    }
}

#[tokio::test]
async fn x25_a_copy_of_a_database_beside_it_has_a_mark_of_its_own_and_doctor_tells_it() {
    let lab = Lab::private(Durability::None).await;
    let (config, pool) = second(&lab).await;
    // As a copy has it: the same row.
    let id: uuid::Uuid = sqlx::query_scalar("SELECT id FROM millstream.installation")
        .fetch_one(&lab.pool)
        .await
        .expect("an id");
    sqlx::query("UPDATE millstream.installation SET id = $1")
        .bind(id)
        .execute(&pool)
        .await
        .expect("UPDATE");
    let of = async |config: &Config| {
        mark(&Pg::new(config.database.url.expose(), 1).expect("a URL"))
            .await
            .expect("a mark")
    };
    let (one, two) = (of(&lab.config).await, of(&config).await);
    assert_ne!(one, two);
    assert_eq!(one, of(&lab.config).await, "it stays");
    let doctor = run(&lab, &["doctor"]).await;
    let text = String::from_utf8_lossy(&doctor.stdout);
    assert!(
        text.contains(&lab.keys().beginning()) && text.contains(&one),
        "{text}"
    );
}
