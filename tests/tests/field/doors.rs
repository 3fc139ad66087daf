//! What the doors say: sentences that name the field, the name or the encoding, and a count of what came in by SQL.

use millstream_common::{metrics::Metrics, pg::migrate_up};
use millstream_kinds as handlers;
use millstream_producer::JobKind;
use millstream_tests::{Lab, Served, eventually, lab::with_database, process::run};
use millstream_worker::{Context, Handler, Outcome, Parts, Success, Worker};
use sqlx::{Connection, PgConnection};

// X07: an encoding without every character
#[tokio::test]
async fn x07_a_database_that_is_not_utf8_is_refused_by_name() {
    let mut lab = Lab::new().await;
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let name = format!(
            "t_{}_{}",
            encoding.to_lowercase(),
            millstream_common::id::new_job_id().simple()
        );
        let make = format!(
            "CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        );
        sqlx::query(sqlx::AssertSqlSafe(make))
            .execute(&lab.pool)
            .await
            .unwrap();
        let url = with_database(lab.config.database.url.expose(), &name);
        let refused = migrate_up(&url).await.unwrap_err().to_string();
        assert!(
            refused.contains(encoding) && refused.contains("UTF8"),
            "{refused}"
        );
        let mut conn = PgConnection::connect(&url).await.unwrap();
        let written: bool = sqlx::query_scalar("SELECT to_regnamespace('millstream') IS NOT NULL")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert!(!written, "nothing was written");
        conn.close().await.unwrap();
        let old = std::mem::replace(
            &mut lab.config.database.url,
            millstream_common::config::Secret::new(url),
        );
        let migrated = run(&lab, &["migrate", "up"]).await;
        assert_eq!(migrated.status.code(), Some(4), "{migrated:?}");
        let doctor = run(&lab, &["doctor"]).await;
        let told = String::from_utf8(doctor.stdout).unwrap();
        assert!(
            told.lines().any(|line| line.starts_with("FAIL")
                && line.contains("encoding")
                && line.contains(encoding)),
            "{told}"
        );
        lab.config.database.url = old;
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "DROP DATABASE {name} WITH (FORCE)"
        )))
        .execute(&lab.pool)
        .await
        .unwrap();
    }
}

// X09: at the doors as well
#[tokio::test]
async fn x09_the_answer_names_the_field_and_the_form() {
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let told = async |body: &str| {
        let (status, answer) = api.post_text("/v1/jobs", body.to_owned()).await;
        assert_eq!(status.as_u16(), 422, "{answer}");
        answer["detail"].as_str().unwrap().to_owned()
    };
    let detail = told(r#"{"kind":"noop","run_at":"tomorrow"}"#).await;
    assert!(
        detail.starts_with("run_at: ")
            && detail.contains("\"tomorrow\"")
            && detail.contains("RFC 3339"),
        "{detail}"
    );
    let detail = told(r#"{"kind":"noop","max_attempts":"many"}"#).await;
    assert!(
        detail.starts_with("max_attempts: ") && detail.contains("a whole number"),
        "{detail}"
    );
    let (_, answer) = api
        .post_text(
            "/v1/jobs/bulk",
            r#"{"jobs":[{"kind":"noop"},{"kind":"noop","run_at":7}]}"#.into(),
        )
        .await;
    assert!(
        answer["results"][1]["error"]["detail"]
            .as_str()
            .unwrap()
            .starts_with("run_at: "),
        "{answer}"
    );
    // And in the error of a job whose handler wanted something else.
    let _worker = lab.worker().await;
    let id = lab
        .producer()
        .enqueue(millstream_producer::NewJob::new(
            "sleep",
            r#"{"ms":"long"}"#,
        ))
        .await
        .unwrap()
        .id;
    lab.await_state(id, "dead").await;
    let error: String = sqlx::query_scalar("SELECT error FROM millstream.job WHERE id = $1")
        .bind(id)
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert!(
        error.contains("ms: invalid type") && error.contains("a whole number"),
        "{error}"
    );
}

async fn nothing(_: Context, _: serde_json::Value) -> Outcome {
    Ok(Success::new())
}

async fn start(lab: &Lab, more: Vec<Handler>) -> Result<Worker, String> {
    let mut all = handlers::built_in(&lab.config).unwrap();
    all.extend(more);
    let parts = Parts {
        config: lab.config.clone(),
        metrics: Metrics::new("test").unwrap(),
        handlers: all,
        isolation: None,
    };
    Worker::start(parts).await.map_err(|e| e.in_full())
}

#[derive(serde::Serialize)]
struct BadlyNamed;

impl JobKind for BadlyNamed {
    const KIND: &'static str = "Badly Named";
}

// X15: in code
#[tokio::test]
async fn x15_two_handlers_of_one_kind_and_bad_names_are_refused_with_a_sentence() {
    let lab = Lab::new().await;
    let twice = start(
        &lab,
        vec![Handler::new("mine", nothing), Handler::new("mine", nothing)],
    )
    .await
    .err()
    .unwrap();
    assert!(
        twice.contains("two handlers are for kind \"mine\""),
        "{twice}"
    );
    let built_in = start(&lab, vec![Handler::new("echo", nothing)])
        .await
        .err()
        .unwrap();
    assert!(
        built_in.contains("two handlers are for kind \"echo\""),
        "{built_in}"
    );
    let long = "x".repeat(65);
    for name in ["Badly Named", "", "ü", &long] {
        let refused = start(&lab, vec![Handler::new(name, nothing)])
            .await
            .err()
            .unwrap();
        assert!(
            refused.contains("is no name for a kind: use 1 to 64 of a-z 0-9 _ . -"),
            "{refused}"
        );
    }
    let refused = lab
        .producer()
        .enqueue_kind(&BadlyNamed)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("\"Badly Named\" is no name for a kind"),
        "{refused}"
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker").await,
        0,
        "nobody has registered"
    );
}

// X15: in SQL, with what drivers send
#[tokio::test]
async fn x15_the_sql_door_takes_json_and_refuses_null_with_a_sentence() {
    let lab = Lab::new().await;
    for call in [
        "enqueue('echo', '{\"a\":1}')",
        "enqueue('echo', '{\"a\":1}'::json)",
        "enqueue('echo', '{\"a\":1}'::jsonb)",
        "enqueue('echo'::text, '{\"a\":1}'::json, priority => 'high')",
        "enqueue('echo'::varchar, '{\"a\":1}')",
        "enqueue(kind => 'echo', payload => '{\"a\":1}', queue => 'default')",
        "enqueue_many('echo', '{\"{\\\"a\\\":1}\"}')",
        "enqueue_many('echo', ARRAY['{\"a\":1}']::json[])",
        "enqueue_many('echo', ARRAY['{\"a\":1}']::jsonb[])",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(format!("SELECT millstream.{call}")))
            .execute(&lab.pool)
            .await
            .unwrap_or_else(|e| panic!("{call}: {e}"));
    }
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE payload::jsonb = '{\"a\":1}'")
            .await,
        9
    );
    // Drivers that ask for the types of parameters hear of jsonb, as before.
    let mut conn = lab.pool.acquire().await.unwrap();
    sqlx::raw_sql("PREPARE p AS SELECT millstream.enqueue($1, $2)")
        .execute(&mut *conn)
        .await
        .unwrap();
    let types = sqlx::query_scalar::<_, String>(
        "SELECT parameter_types::text FROM pg_prepared_statements WHERE name = 'p'",
    );
    assert_eq!(types.fetch_one(&mut *conn).await.unwrap(), "{text,jsonb}");
    for call in [
        "enqueue('echo', NULL)",
        "enqueue('echo', NULL::json)",
        "enqueue_many('echo', ARRAY['{}', NULL]::jsonb[])",
        "enqueue_many('echo', NULL)",
    ] {
        let refused = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT millstream.{call}")))
            .execute(&lab.pool)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("the payload of a job of kind \"echo\" is null"),
            "{call}: {refused}"
        );
    }
}

// X16: two workers, one of which leads: each call is counted by one of them, once
#[tokio::test]
async fn x16_what_comes_in_by_sql_is_counted_once_by_whoever_leads() {
    let lab = Lab::new().await;
    let workers = [
        Served::start(&lab, &["worker"]).await,
        Served::start(&lab, &["worker"]).await,
    ];
    let call = "SELECT count(*) FROM millstream.enqueue_many('noop', ARRAY(SELECT to_jsonb(n) FROM generate_series(1, 600) AS n))";
    sqlx::query(call).execute(&lab.pool).await.unwrap();
    for _ in 0..2 {
        // The second time it is there already.
        sqlx::query("SELECT millstream.enqueue('echo', idempotency_key => 'k')")
            .execute(&lab.pool)
            .await
            .unwrap();
    }
    let mut rolled_back = lab.pool.begin().await.unwrap();
    sqlx::query("SELECT millstream.enqueue('noop')")
        .execute(&mut *rolled_back)
        .await
        .unwrap();
    rolled_back.rollback().await.unwrap();
    let counted = async |kind: &str| {
        let series = format!(
            "millstream_jobs_enqueued_total{{kind=\"{kind}\",queue=\"default\",source=\"sql\"}}"
        );
        workers[0].sample(&series).await + workers[1].sample(&series).await
    };
    eventually("all are counted", async || {
        (counted("noop").await >= 600.0 && counted("echo").await >= 1.0).then_some(())
    })
    .await;
    sqlx::query(call).execute(&lab.pool).await.unwrap();
    eventually("those that came later are counted too", async || {
        (counted("noop").await >= 1200.0).then_some(())
    })
    .await;
    assert_eq!(
        (counted("noop").await, counted("echo").await),
        (1200.0, 1.0)
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.sql_enqueued")
            .await,
        0
    );
}
