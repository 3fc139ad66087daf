//! Each of the roles in deploy/roles can do its work, and nothing else.

use millstream_common::{
    config::{Config, Secret},
    id::new_job_id,
    pg::{migrate_down, migrate_up, missing_rights},
};
use millstream_producer::{Error, NewJob, Producer};
use millstream_tests::{Lab, Served, ask::send, process::run_in};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;

const SCRIPTS: [(&str, &str); 5] = [
    ("migrate", include_str!("../../../deploy/roles/migrate.sql")),
    (
        "producer",
        include_str!("../../../deploy/roles/producer.sql"),
    ),
    ("worker", include_str!("../../../deploy/roles/worker.sql")),
    ("api", include_str!("../../../deploy/roles/api.sql")),
    ("reader", include_str!("../../../deploy/roles/reader.sql")),
];

const LATER: &str =
    "SELECT millstream.enqueue('echo', '1', run_at => now() + interval '1 day')::text";

/// A lab with the five roles, under names of its own: roles belong to the whole server.
struct Roles {
    lab: Lab,
    id: String,
}

impl Roles {
    async fn new() -> Self {
        let lab = Lab::new().await;
        // Makes the kinds in the box known.
        lab.worker().await.drain(CancellationToken::new()).await;
        let id = new_job_id().simple().to_string();
        let roles = Self { lab, id };
        for (role, script) in SCRIPTS {
            let name = roles.name(role);
            roles
                .admin(&format!("CREATE ROLE {name} LOGIN PASSWORD 'secret'"))
                .await;
            roles
                .admin(&script.replace(&format!("millstream_{role}"), &name))
                .await;
        }
        roles
    }

    fn name(&self, role: &str) -> String {
        format!("{role}_{}", self.id)
    }

    async fn admin(&self, sql: &str) {
        let done = self.lab.pool.execute(AssertSqlSafe(sql.to_owned())).await;
        done.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// The settings of the lab, for a process of this role.
    fn config(&self, role: &str) -> Config {
        let mut config = self.lab.config.clone();
        let url = config.database.url.expose().to_owned();
        let (_, place) = url.split_once('@').expect("a URL with a user");
        config.database.url = Secret::new(format!("postgres://{}:secret@{place}", self.name(role)));
        config
    }

    /// Every one of these is refused for want of a right.
    async fn may_not(&self, role: &str, statements: &[&str]) {
        let url = self.config(role).database.url.expose().to_owned();
        let mut own = PgConnection::connect(&url).await.unwrap();
        for sql in statements {
            let error = own.execute(AssertSqlSafe((*sql).to_owned())).await;
            let error = error.err().unwrap_or_else(|| panic!("{role}: {sql}"));
            let code = error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some("42501"), "{role}: {sql}: {error}");
        }
        own.close().await.unwrap();
    }

    /// `millstream ARGS…` under this role.
    async fn runs(&self, role: &str, args: &[&str]) {
        let ended = run_in(&self.config(role), args).await;
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{role}: {args:?}: {said}");
    }

    async fn end(self) {
        for (role, _) in SCRIPTS {
            let name = self.name(role);
            self.admin(&format!("DROP OWNED BY {name}")).await;
            self.admin(&format!("DROP ROLE {name}")).await;
        }
    }
}

#[tokio::test]
async fn the_role_that_migrates_makes_the_schema_and_owns_nothing_else() {
    let roles = Roles::new().await;
    roles.admin("CREATE TABLE public.theirs (a int)").await;
    migrate_down(roles.lab.config.database.url.expose(), 0)
        .await
        .unwrap();
    let url = roles.config("migrate").database.url.expose().to_owned();
    roles
        .admin("DROP SCHEMA IF EXISTS millstream CASCADE")
        .await;
    migrate_up(&url).await.unwrap();
    roles
        .may_not(
            "migrate",
            &["SELECT a FROM public.theirs", "DROP TABLE public.theirs"],
        )
        .await;
    migrate_down(&url, 0).await.unwrap();
    roles.end().await;
}

#[tokio::test]
async fn x30_the_role_of_a_producer_enqueues_and_moves_nothing() {
    let roles = Roles::new().await;
    let config = roles.config("producer");
    let producer = Producer::connect(config.database.url.expose(), config.redis.url.expose())
        .await
        .unwrap();
    let mut keyed = NewJob::new("echo", "1");
    keyed.idempotency_key = Some("a".to_owned());
    producer.enqueue(keyed.clone()).await.unwrap();
    assert!(producer.enqueue(keyed).await.unwrap().duplicate);
    let many = (0..600).map(|_| NewJob::new("echo", "2")).collect();
    let many = producer.enqueue_many(many).await.unwrap();
    assert!(many.iter().all(Result::is_ok));
    let mut own = PgConnection::connect(config.database.url.expose())
        .await
        .unwrap();
    let mut tx = own.begin().await.unwrap();
    let job = vec![NewJob::new("echo", "3")];
    producer.enqueue_in(&mut tx, job).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(
        producer.enqueue(NewJob::new("nonesuch", "1")).await,
        Err(Error::Refused(_))
    ));
    producer.close().await;
    own.execute("SELECT millstream.enqueue('echo', '1')")
        .await
        .unwrap();
    own.close().await.unwrap();
    let refused = [
        "UPDATE millstream.job SET state = 2",
        "DELETE FROM millstream.job",
        "UPDATE millstream.kind SET paused = true",
        "DELETE FROM millstream.parcel",
        "SELECT 1 FROM millstream.worker",
        "INSERT INTO millstream.tenant (name) VALUES ('other')",
        "SELECT millstream.seal_day('2020-01-01')",
    ];
    roles.may_not("producer", &refused).await;
    roles.end().await;
}

#[tokio::test]
async fn the_role_of_workers_lacks_nothing_and_migrates_nothing() {
    let roles = Roles::new().await;
    let config = roles.config("worker");
    assert_eq!(
        missing_rights(config.database.url.expose()).await.unwrap(),
        []
    );
    let worker = roles.lab.worker_in(&config, Vec::new()).await;
    send(&roles.lab.producer(), "noop", "1", 50).await;
    send(&roles.lab.producer(), "fail", r#"{"class":"permanent"}"#, 1).await;
    roles.lab.await_count("completed", 50).await;
    roles.lab.await_count("dead", 1).await;
    worker.drain(CancellationToken::new()).await;
    let refused = [
        "DELETE FROM millstream._migrations",
        "DROP TABLE millstream.queue",
        "ALTER TABLE millstream.queue ADD b int",
        "CREATE TABLE millstream.mine (a int)",
    ];
    roles.may_not("worker", &refused).await;
    roles.end().await;
}

#[tokio::test]
async fn the_role_of_the_api_asks_and_steers_and_is_no_worker() {
    let mut roles = Roles::new().await;
    send(&roles.lab.producer(), "fail", r#"{"class":"permanent"}"#, 2).await;
    let worker = roles.lab.worker().await;
    roles.lab.await_count("dead", 2).await;
    worker.drain(CancellationToken::new()).await;
    let letter = sample(&roles.lab);
    let later: String = sqlx::query_scalar(LATER)
        .fetch_one(&roles.lab.pool)
        .await
        .unwrap();
    for args in [
        &["enqueue", "echo", "--payload", "1"] as &[&str],
        &["jobs", "list"],
        &["jobs", "show", &later],
        &["jobs", "explain", &later],
        &["jobs", "retry", &later],
        &["jobs", "cancel", &later],
        &["queues", "list"],
        &["queues", "add", "other"],
        &["queues", "pause", "other"],
        &["kinds", "pause", "echo"],
        &["tenants", "add", "acme"],
        &["tenants", "keep", "acme", "7"],
        &["workers", "list"],
        &["retention"],
        &["dead", "list"],
        &["dead", "redrive", "--kind", "fail", "--yes"],
        &["documents", "add", &letter],
        &["documents", "list"],
    ] {
        roles.runs("api", args).await;
    }
    roles.lab.config = roles.config("api");
    let api = Served::start(&roles.lab, &["api"]).await;
    drop(api);
    let refused = [
        "UPDATE millstream.worker SET state = 'stopped'",
        "DELETE FROM millstream.leader",
        "INSERT INTO millstream.lease (job_id) VALUES (gen_random_uuid())",
        "DELETE FROM millstream.audit",
        "DELETE FROM millstream.page",
        "DELETE FROM millstream._migrations",
        "SELECT millstream.seal_day('2020-01-01')",
    ];
    roles.may_not("api", &refused).await;
    roles.end().await;
}

fn sample(lab: &Lab) -> String {
    let path = lab.folder().join("letter.pdf");
    std::fs::write(&path, include_bytes!("../../../admin/samples/letter.pdf")).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn the_role_of_readers_reads_and_changes_nothing() {
    let roles = Roles::new().await;
    send(&roles.lab.producer(), "echo", "1", 3).await;
    for args in [
        &["jobs", "list"] as &[&str],
        &["queues", "list"],
        &["kinds", "list"],
        &["workers", "list"],
        &["dead", "list"],
        &["retention"],
        &["documents", "list"],
    ] {
        roles.runs("reader", args).await;
    }
    let refused = [
        "UPDATE millstream.job SET state = 2",
        "INSERT INTO millstream.tenant (name) VALUES ('other')",
        "SELECT millstream.enqueue('echo', '1')",
        "SELECT millstream.cancel('{}', 'me')",
        "DELETE FROM millstream.audit",
    ];
    roles.may_not("reader", &refused).await;
    roles.end().await;
}
