//! The schema, its rights, and what is added to it (X32, X33, X36).

use std::{collections::BTreeSet, time::Duration};

use millstream_common::{
    config::Secret,
    pg::{Reverted, migrate_down, schema_status, would_revert},
};
use millstream_producer::NewJob;
use millstream_tests::{Lab, Process, eventually, process::run};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::operators::{doctor, said, text};

/// Tables, and columns as `table.column`, without the partitions.
async fn stored(lab: &Lab) -> Stored {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE n.nspname = 'millstream' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> '_migrations'",
    )
    .fetch_all(&lab.pool)
    .await
    .unwrap();
    let tables = columns.iter().map(|(table, _)| table.clone()).collect();
    (
        tables,
        columns
            .into_iter()
            .map(|(table, column)| format!("{table}.{column}"))
            .collect(),
    )
}

// Every migration is taken back, and what was told is what went.
#[tokio::test]
async fn x32_the_truth_is_told_of_every_step_down() {
    let lab = Lab::new().await;
    let url = lab.config.database.url.expose();
    let steps = would_revert(&schema_status(url).await.unwrap(), 0);
    let versions: Vec<_> = steps.iter().map(|step| step.version).collect();
    let all = sqlx::query_scalar::<_, i64>(
        "SELECT version FROM millstream._migrations ORDER BY version DESC",
    )
    .fetch_all(&lab.pool);
    assert_eq!(
        versions,
        all.await.unwrap(),
        "no step is left out, the newest comes first"
    );
    for step in steps {
        let before = stored(&lab).await;
        migrate_down(url, step.version - 1).await.unwrap();
        assert_told(&step, &before, &stored(&lab).await);
    }
    assert_eq!(
        stored(&lab).await,
        (BTreeSet::new(), BTreeSet::new()),
        "nothing is left"
    );
}

/// Names of tables, and of columns as `table.column`.
type Stored = (BTreeSet<String>, BTreeSet<String>);

fn assert_told(
    step: &Reverted,
    (tables, columns): &Stored,
    (tables_after, columns_after): &Stored,
) {
    let gone: BTreeSet<_> = tables.difference(tables_after).cloned().collect();
    assert_eq!(
        step.tables.iter().cloned().collect::<BTreeSet<_>>(),
        gone,
        "{} {}",
        step.version,
        step.name
    );
    let of_gone = |column: &String| {
        column
            .split_once('.')
            .is_some_and(|(table, _)| gone.contains(table))
    };
    let gone_columns: BTreeSet<_> = columns
        .difference(columns_after)
        .filter(|column| !of_gone(column))
        .cloned()
        .collect();
    assert_eq!(
        step.columns.iter().cloned().collect::<BTreeSet<_>>(),
        gone_columns,
        "{} {}",
        step.version,
        step.name
    );
}

/// What later migrations may do and those of the first schema do not: name, up, down, and whether all data are kept.
const LATER: [(&str, &str, &str, bool); 6] = [
    (
        "columns",
        "ALTER TABLE millstream.tenant ADD a int, ADD b int",
        "-- ALTER TABLE millstream.tenant DROP name;\nALTER TABLE millstream.tenant DROP a, DROP COLUMN b;",
        false,
    ),
    (
        "a statistic",
        "ALTER TABLE millstream.parcel ALTER kind_id SET (n_distinct = -1)",
        "ALTER TABLE millstream.parcel ALTER kind_id RESET (n_distinct);\nANALYZE millstream.parcel;",
        true,
    ),
    (
        "a table, a column and a function",
        "CREATE TABLE millstream.a (b int); ALTER TABLE millstream.lease ADD c boolean;
         CREATE FUNCTION millstream.d() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION millstream.d();\nALTER TABLE millstream.lease DROP c;\nDROP TABLE millstream.a;",
        false,
    ),
    (
        "a constraint and a default",
        "ALTER TABLE millstream.image DROP CONSTRAINT image_role_check; ALTER TABLE millstream.lease ALTER progress SET DEFAULT 0",
        "ALTER TABLE millstream.image ADD CONSTRAINT image_role_check CHECK (role IN ('picture', 'mask', 'page'));
         ALTER TABLE millstream.lease ALTER progress DROP DEFAULT;",
        true,
    ),
    (
        "a function that is put back",
        "CREATE OR REPLACE FUNCTION millstream.refuse_sealed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE OR REPLACE FUNCTION millstream.refuse_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN DELETE FROM millstream.job; DROP TABLE millstream.parcel; RETURN NULL; END $$;",
        true,
    ),
    ("rows", "INSERT INTO millstream.queue (name) VALUES ('later')", "DELETE FROM millstream.queue WHERE name = 'later';", false),
];

#[tokio::test]
async fn x32_the_truth_is_told_of_steps_that_later_migrations_take() {
    let lab = Lab::new().await;
    for (name, up, down, keeps) in LATER {
        let first = stored(&lab).await;
        lab.pool
            .execute(up)
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let before = stored(&lab).await;
        lab.pool
            .execute(down)
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let (told, after) = (Reverted::read(99, name, down), stored(&lab).await);
        assert_told(&told, &before, &after);
        assert_eq!((told.keeps_all_data(), after), (keeps, first), "{name}");
    }
    assert_eq!(Reverted::read(99, "rows", LATER[5].2).rows_of, ["queue"]);
}

/// The migrations of before the first release, in their order.
const OLD: [&str; 23] = [
    "names",
    "job",
    "dispatch",
    "doors",
    "documents",
    "moves",
    "isolation",
    "versions",
    "crashes",
    "persist",
    "fresh",
    "retention",
    "vacuum",
    "keys",
    "tenants",
    "mark",
    "closed",
    "doors",
    "since",
    "operators",
    "pictures",
    "report",
    "tries",
];

// By its number alone such a database looks newer than the program, and a worker would start on it.
#[tokio::test]
async fn x32_a_database_of_the_old_numbering_is_refused_and_stays_as_it_is() {
    let lab = Lab::new().await;
    lab.producer()
        .enqueue(NewJob::new("echo", "1"))
        .await
        .unwrap();
    lab.pool
        .execute("DELETE FROM millstream._migrations")
        .await
        .unwrap();
    let number = "INSERT INTO millstream._migrations (version, description, success, checksum, execution_time)
        SELECT nth, name, true, sha384(convert_to(nth || name, 'UTF8')), 0 FROM unnest($1::text[]) WITH ORDINALITY AS u(name, nth)";
    sqlx::query(number)
        .bind(OLD.map(str::to_owned).to_vec())
        .execute(&lab.pool)
        .await
        .unwrap();
    let before = stored(&lab).await;
    for args in [
        &["migrate", "up"][..],
        &["migrate", "status"],
        &["migrate", "down", "--to", "0"],
        &["migrate", "down", "--to", "0", "--yes"],
        &["enqueue", "echo"],
        &["worker"],
        &["api", "--listen", "127.0.0.1:0"],
    ] {
        let output = run(&lab, args).await;
        let told = said(&output);
        assert_eq!(output.status.code(), Some(4), "{args:?}: {told}");
        assert!(
            told.contains("must be made anew") && told.contains("millstream migrate up"),
            "{args:?}: {told}"
        );
    }
    let checks = doctor(&lab).await;
    assert_eq!(checks["postgres"][0]["level"], "fail", "{checks:?}");
    assert!(
        checks["postgres"][0]
            .to_string()
            .contains("must be made anew"),
        "{checks:?}"
    );
    let rows = "SELECT (SELECT count(*) FROM millstream._migrations) * 100 + (SELECT count(*) FROM millstream.job)";
    assert_eq!(
        (stored(&lab).await, lab.number(rows).await),
        (before, 2301),
        "nothing was changed"
    );
}

#[tokio::test]
async fn x32_a_step_that_takes_functions_back_threatens_no_jobs() {
    let lab = Lab::new().await;
    let tell = async |to: &str| text(&run(&lab, &["migrate", "down", "--to", to]).await.stdout);
    let told = tell("9").await;
    assert!(
        told.contains("  10 stages: no table, column or row goes"),
        "{told}"
    );
    assert!(!told.contains("rows: job"), "{told}");
    let told = tell("7").await;
    assert!(
        told.ends_with("  8 retention: the tables go with all rows: swept"),
        "{told}"
    );
    assert!(
        told.contains("upload, document; some rows go of: kind"),
        "{told}"
    );
    lab.producer()
        .enqueue(NewJob::new("echo", "1"))
        .await
        .unwrap();
    lab.pool.execute("ANALYZE millstream.job").await.unwrap();
    let told = tell("0").await;
    assert!(
        told.contains("  2 jobs: the tables go with all rows: job (about 1 row)"),
        "{told}"
    );
    assert_eq!(lab.count("available").await, 1, "nothing was changed");
}

#[tokio::test]
async fn x33_a_queue_that_is_added_is_read_without_a_restart() {
    let mut lab = Lab::new().await;
    let _worker = lab.worker().await;
    lab.config.worker.queues = vec!["default".into()];
    let _narrow = lab.worker().await;
    assert!(
        run(&lab, &["queues", "add", "fresh"])
            .await
            .status
            .success()
    );
    let output = run(
        &lab,
        &[
            "enqueue",
            "echo",
            "--queue",
            "fresh",
            "--wait",
            "--timeout",
            "60",
        ],
    )
    .await;
    assert!(output.status.success(), "{}", said(&output));
    let readers = "SELECT count(*) FROM millstream.worker w JOIN millstream.queue q ON q.id = ANY(w.queues) WHERE q.name = 'fresh'";
    assert_eq!(
        lab.number(readers).await,
        1,
        "who was told what to read reads that"
    );
}

#[tokio::test]
async fn x33_explain_sends_nobody_to_a_program_without_the_handler() {
    let lab = Lab::new().await;
    for kind in ["mail", "echo"] {
        run(&lab, &["kinds", "add", kind]).await;
        let id = text(&run(&lab, &["enqueue", kind]).await.stdout);
        let told = text(&run(&lab, &["jobs", "explain", &id]).await.stdout);
        assert!(told.contains("No live worker"), "{told}");
        assert_eq!(
            told.contains("start one: millstream worker"),
            kind == "echo",
            "{told}"
        );
    }
}

/// A role that owns nothing, gone with the test.
struct Role<'l> {
    lab: &'l Lab,
    name: String,
}

impl<'l> Role<'l> {
    async fn new(lab: &'l Lab) -> Self {
        let role = Self {
            lab,
            name: format!("r_{}", Uuid::now_v7().simple()),
        };
        role.sql(&format!("CREATE ROLE {} LOGIN PASSWORD 'pw'", role.name))
            .await;
        role
    }

    async fn sql(&self, sql: &str) {
        self.lab
            .pool
            .execute(AssertSqlSafe(sql.to_owned()))
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    fn url(&self) -> Secret {
        let url = self.lab.config.database.url.expose();
        let (_, place) = url.rsplit_once('@').unwrap();
        Secret::new(format!("postgres://{}:pw@{place}", self.name))
    }

    async fn drop(self) {
        self.sql(&format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name))
            .await;
    }
}

// What doctor names is all that a role needs to be a worker's, housekeeping included.
#[tokio::test]
async fn x36_the_rights_of_every_duty_are_known_at_the_start() {
    let lab = Lab::new().await;
    let mut theirs = Lab::new().await;
    let role = Role::new(&lab).await;
    theirs.config.database.url = role.url();
    role.sql(&format!(
        "DROP TABLE millstream.job_{}",
        (chrono::Utc::now() + Duration::from_hours(24)).format("%Y%m%d")
    ))
    .await;
    let first = doctor(&theirs).await;
    assert!(
        advice(&first["worker rights"])
            .iter()
            .any(|grant| grant.starts_with("GRANT USAGE ON SCHEMA millstream TO r_")),
        "{first:?}"
    );
    assert_eq!(first["partitions"][0]["level"], "warn");
    for grant in advice(&first["worker rights"]) {
        role.sql(&grant).await;
    }
    let second = doctor(&theirs).await;
    assert_eq!(second["worker rights"][0]["level"], "ok", "{second:?}");

    let worker = theirs.worker().await;
    let output = run(&theirs, &["enqueue", "echo", "--wait", "--timeout", "60"]).await;
    assert!(output.status.success(), "{}", said(&output));
    eventually("tomorrow has a partition", async || {
        (doctor(&theirs).await["partitions"][0]["level"] == "ok").then_some(())
    })
    .await;
    let owner = "SELECT count(*) FROM pg_class c WHERE c.relname ~ '^job_\\d{8}$' AND c.relowner <> (SELECT relowner FROM pg_class WHERE oid = 'millstream.job'::regclass)";
    assert_eq!(
        lab.number(owner).await,
        0,
        "the days belong to whom the table belongs to"
    );
    worker.drain(CancellationToken::new()).await;
    eventually("nobody is connected any more", async || {
        let open = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = $1",
        )
        .bind(&role.name);
        (open.fetch_one(&lab.pool).await.unwrap() == 0).then_some(())
    })
    .await;
    role.drop().await;
}

#[tokio::test]
async fn x36_a_worker_says_at_its_start_what_its_role_may_not() {
    let lab = Lab::new().await;
    let mut theirs = Lab::new().await;
    let role = Role::new(&lab).await;
    theirs.config.database.url = role.url();
    // All that is usually thought of: tables, and functions that anybody may call.
    role.sql(&format!(
        "GRANT USAGE ON SCHEMA millstream TO {}",
        role.name
    ))
    .await;
    role.sql(&format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA millstream TO {}",
        role.name
    ))
    .await;
    let log = lab.folder().join("worker.log");
    let mut worker = Process::start_logging(&theirs, &["worker"], &log);
    let said = eventually("the worker works", async || {
        Some(std::fs::read_to_string(&log).unwrap()).filter(|said| said.contains("working"))
    })
    .await;
    let (start, _) = said.split_once("working").unwrap();
    assert!(
        start.contains("lacks a right") && start.contains("duty partitions"),
        "{said}"
    );
    assert!(
        start.contains("GRANT EXECUTE ON FUNCTION millstream.ensure_partitions(integer)"),
        "{said}"
    );
    assert!(
        start.contains("duty retention") && !start.contains("jobs and housekeeping"),
        "{said}"
    );
    worker.signal(rustix::process::Signal::TERM);
    worker.exit_code().await;
    role.drop().await;
}

// An application's role, which may use the schema and nothing else, removes no day.
#[tokio::test]
async fn x36_a_day_of_jobs_is_removed_by_nobody_who_was_not_granted_it() {
    let lab = Lab::new().await;
    let may = "SELECT count(*) FROM pg_proc p, aclexplode(p.proacl) a WHERE p.pronamespace = 'millstream'::regnamespace AND a.grantee = 0
      AND p.proname IN ('ensure_partitions', 'seal_day', 'unseal_day', 'drop_day')";
    assert_eq!(lab.number(may).await, 0);
    let definer = "SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'millstream'::regnamespace AND p.prosecdef AND p.proconfig::text NOT LIKE '%search_path=pg_catalog, pg_temp%'";
    assert_eq!(
        lab.number(definer).await,
        0,
        "what runs with its owner's rights finds names in one place"
    );
}

fn advice(checks: &[Value]) -> Vec<String> {
    checks
        .iter()
        .map(|check| {
            check["advice"]
                .as_str()
                .unwrap_or_else(|| panic!("{}", json!(checks)))
                .to_owned()
        })
        .collect()
}
