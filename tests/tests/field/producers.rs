//! A producer whose role has exactly the rights that are documented for it.

use millstream_common::id::new_job_id;
use millstream_producer::{Error, NewJob, Producer};
use millstream_tests::Lab;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// The rights as documented; the same lines that an operator copies.
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// The documented statements for the role `app`, for another one.
fn documented(role: &str) -> Vec<String> {
    let block = OPERATIONS
        .split("```sql\n")
        .find(|block| block.starts_with("grant usage on schema millstream to app;"));
    let block = block
        .expect("the statements are in docs/operations.md")
        .split("```")
        .next()
        .unwrap();
    block
        .split(';')
        .map(str::trim)
        .filter(|sql| !sql.is_empty())
        .map(|sql| sql.replace(" to app", &format!(" to {role}")))
        .collect()
}

/// A lab, and the URL of its database for a new role with these rights.
async fn lab_for(role: &str) -> (Lab, String) {
    let lab = Lab::new().await;
    lab.worker()
        .await
        .drain(tokio_util::sync::CancellationToken::new())
        .await;
    for sql in std::iter::once(format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'"))
        .chain(documented(role))
    {
        lab.pool
            .execute(AssertSqlSafe(sql.clone()))
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    let (_, place) = lab
        .config
        .database
        .url
        .expose()
        .split_once('@')
        .expect("a URL with a user");
    let url = format!("postgres://{role}:secret@{place}");
    (lab, url)
}

#[tokio::test]
async fn x30_a_producer_works_with_the_documented_rights_and_may_no_more() {
    let role = format!("producer_{}", new_job_id().simple());
    let (lab, url) = lab_for(&role).await;
    let producer = Producer::connect(&url, lab.config.redis.url.expose())
        .await
        .unwrap();
    let keyed = |key: &str| {
        let mut job = NewJob::new("echo", "1");
        job.idempotency_key = Some(key.to_owned());
        job
    };
    producer.enqueue(keyed("a")).await.unwrap();
    assert!(producer.enqueue(keyed("a")).await.unwrap().duplicate);
    let many = producer
        .enqueue_many((0..600).map(|_| NewJob::new("echo", "2")).collect())
        .await
        .unwrap();
    assert!(many.iter().all(Result::is_ok));
    let mut own = PgConnection::connect(&url).await.unwrap();
    let mut tx = own.begin().await.unwrap();
    producer
        .enqueue_in(&mut tx, vec![NewJob::new("echo", "3")])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(
        producer.enqueue(NewJob::new("nonesuch", "1")).await,
        Err(Error::Refused(_))
    ));
    producer.close().await;
    assert_eq!(lab.number("SELECT count(*) FROM millstream.job").await, 602);
    for sql in [
        "UPDATE millstream.job SET state = 2",
        "DELETE FROM millstream.job",
        "UPDATE millstream.kind SET paused = true",
        "DELETE FROM millstream.parcel",
        "SELECT 1 FROM millstream.worker",
        "INSERT INTO millstream.tenant (name) VALUES ('other')",
    ] {
        let error = own.execute(sql).await.unwrap_err();
        let code = error
            .as_database_error()
            .and_then(|e| e.code().map(String::from));
        assert_eq!(code.as_deref(), Some("42501"), "{sql}: {error}");
    }
    own.close().await.unwrap();
    for sql in [format!("DROP OWNED BY {role}"), format!("DROP ROLE {role}")] {
        lab.pool.execute(AssertSqlSafe(sql)).await.unwrap();
    }
}
