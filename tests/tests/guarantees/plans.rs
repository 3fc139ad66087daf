//! The plans that Postgres really uses for the very statements of the product, read from its log: on an empty table, on a full one that was
//! never analysed, and on an analysed one.

use std::collections::BTreeSet;

use millstream_local::Durability;
use millstream_tests::{Lab, ask::send};
use serde_json::Value;

/// Of today, on top of what is there.
const ROWS: &str =
    "INSERT INTO millstream.job (id, queue_id, kind_id, tenant_id, state, attempt, payload)
    SELECT millstream.uuid_v7(), 1, 1, 1, 2, 1, repeat('x', 50) FROM generate_series(1, 100000)";

/// A statement of the hot path, by words that only it has, and how many of the ten partitions it may look into.
const HOT: [(&str, usize); 6] = [
    (
        "payload, enqueued_at, batch_id, trace, schema_version, crash_count",
        2,
    ),
    (
        "UPDATE millstream.job j SET state = 2, attempt = j.attempt + 1",
        2,
    ),
    // What is long, or fails, is rare: it may look for each id in each partition.
    ("UPDATE millstream.job j SET state = 1", usize::MAX),
    ("INSERT INTO millstream.job (id, queue_id", usize::MAX),
    ("DELETE FROM millstream.parcel p USING", usize::MAX),
    ("ready_at <= now()", usize::MAX),
];

/// Every session of this database from now on writes its plans into the server's log.
async fn explain_everything(lab: &Lab) {
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_nested_statements = on",
        "auto_explain.log_format = 'json'",
    ] {
        let database: String = sqlx::query_scalar("SELECT current_database()::text")
            .fetch_one(&lab.pool)
            .await
            .unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "ALTER DATABASE \"{database}\" SET {setting}"
        )))
        .execute(&lab.pool)
        .await
        .unwrap();
    }
}

fn log(lab: &Lab) -> String {
    let path = lab.servers().dir().unwrap().join("postgres.log");
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// The plans in a piece of the log: a JSON document in lines that begin with a tab, behind a line that ends with "plan:".
fn plans(log: &str) -> Vec<Value> {
    let mut plans = Vec::new();
    for piece in log.split("plan:\n").skip(1) {
        let json: String = piece
            .lines()
            .take_while(|line| line.starts_with('\t'))
            .collect();
        plans.extend(serde_json::from_str(&json).ok());
    }
    plans
}

/// Of a plan and all below it.
fn nodes<'a>(plan: &'a Value, into: &mut Vec<&'a Value>) {
    into.push(plan);
    for below in plan["Plans"].as_array().into_iter().flatten() {
        nodes(below, into);
    }
}

fn assert_right(plan: &Value, partitions_max: usize, when: &str) {
    let mut all = Vec::new();
    nodes(&plan["Plan"], &mut all);
    let of_jobs = |node: &&&Value| {
        node["Relation Name"]
            .as_str()
            .is_some_and(|name| name.starts_with("job_2") || name == "job_default")
    };
    let scans: Vec<_> = all
        .iter()
        .filter(of_jobs)
        .filter(|node| {
            node["Node Type"]
                .as_str()
                .is_some_and(|kind| kind.ends_with("Scan"))
        })
        .collect();
    assert!(
        scans.iter().all(|node| node["Node Type"] != "Seq Scan"),
        "{when}: {plan:#}"
    );
    let looked_into: BTreeSet<_> = scans
        .iter()
        .filter_map(|node| node["Relation Name"].as_str())
        .collect();
    assert!(looked_into.len() <= partitions_max, "{when}: {plan:#}");
    // A range of ids alone would be read from end to end.
    let by_id = |node: &&&Value| {
        node["Index Cond"]
            .as_str()
            .is_none_or(|cond| cond.contains("id = ") || !cond.contains("id >= "))
    };
    assert!(scans.iter().all(by_id), "{when}: {plan:#}");
}

/// Works a little of everything, and looks at the plans.
async fn work_and_look(lab: &Lab, when: &str) {
    let before = log(lab).len();
    let worker = lab.worker().await;
    let producer = lab.producer();
    let done = lab
        .number("SELECT count(*) FROM millstream.job WHERE state = 2")
        .await;
    send(&producer, "noop", "1", 60).await;
    send(&producer, "sleep", r#"{"ms":400}"#, 2).await;
    lab.await_number(
        "SELECT count(*) FROM millstream.job WHERE state = 2",
        done + 62,
    )
    .await;
    worker
        .drain(tokio_util::sync::CancellationToken::new())
        .await;
    let log = log(lab);
    let plans = plans(&log[before..]);
    for (words, partitions_max) in HOT {
        let of_it: Vec<_> = plans
            .iter()
            .filter(|plan| {
                plan["Query Text"]
                    .as_str()
                    .is_some_and(|text| text.contains(words))
            })
            .collect();
        assert!(!of_it.is_empty(), "{when}: no plan of {words}");
        for plan in of_it {
            assert_right(plan, partitions_max, when);
        }
    }
}

// rule 62
#[tokio::test]
async fn hot_statements_use_the_index_and_only_the_partitions_they_need() {
    let lab = Lab::private(Durability::None).await;
    explain_everything(&lab).await;
    work_and_look(&lab, "empty").await;
    sqlx::query(ROWS).execute(&lab.pool).await.unwrap();
    work_and_look(&lab, "full, never analysed").await;
    sqlx::query("ANALYZE millstream.job")
        .execute(&lab.pool)
        .await
        .unwrap();
    work_and_look(&lab, "full, analysed").await;
}

/// Waiting parcels of jobs that are not there, the nth of the nth tenant, or all of one.
async fn add_parcels(lab: &Lab, parcels: i32, tenants: i32) {
    sqlx::query(
        "INSERT INTO millstream.parcel (queue_id, tenant_id, kind_id, priority, chunk, jobs, ids)
         SELECT q.id, 1 + n % $2, k.id, 1, 25, 1, ARRAY[millstream.uuid_v7()] FROM generate_series(1, $1) AS n, millstream.queue q, millstream.kind k
         WHERE q.name = 'default' AND k.name = 'noop'",
    )
    .bind(parcels)
    .bind(tenants)
    .execute(&lab.pool)
    .await
    .unwrap();
}

// rule 62, F21: dispatch reads the parcels of whose turn it is, also when the last backlog was all one tenant's
#[tokio::test]
async fn dispatch_reads_no_other_tenants_parcels_whatever_was_counted_last() {
    let lab = Lab::private(Durability::None).await;
    explain_everything(&lab).await;
    add_parcels(&lab, 2_000, 1).await;
    sqlx::raw_sql("ANALYZE millstream.parcel; DELETE FROM millstream.parcel")
        .execute(&lab.pool)
        .await
        .unwrap();
    add_parcels(&lab, 5_000, 5_000).await;
    let _worker = lab.worker().await;
    lab.await_number(
        "SELECT count(*) FROM millstream.parcel WHERE publishing_since IS NOT NULL",
        64,
    )
    .await;
    let plans = plans(&log(&lab));
    let of_dispatch = plans.iter().filter(|plan| {
        plan["Query Text"]
            .as_str()
            .is_some_and(|text| text.contains("CROSS JOIN LATERAL"))
    });
    let mut looked_at = 0;
    for plan in of_dispatch {
        let mut all = Vec::new();
        nodes(&plan["Plan"], &mut all);
        let scans = all.iter().filter(|node| node["Relation Name"] == "parcel");
        assert!(
            scans
                .clone()
                .all(|node| node["Index Name"] == "parcel_waiting"),
            "{plan:#}"
        );
        looked_at += scans.count();
    }
    assert!(looked_at > 0);
}
