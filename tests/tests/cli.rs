//! The command line: what it prints, how it exits, and what it refuses (F51, F8).

use std::process::Output;

use millstream_tests::{Lab, Process, eventually, process::run};
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", text(&output.stdout)))
}

async fn rows(lab: &Lab) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM millstream.job")
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

// F8, F51: each refusal is one line that names the fault, with the right exit code, and writes nothing
#[tokio::test]
async fn bad_input_is_refused_in_one_line_and_writes_nothing() {
    let lab = Lab::new().await;
    let large = format!("\"{}\"", "x".repeat(70_000));
    let file = lab.folder().join("large.json");
    std::fs::write(&file, &large).unwrap();
    let from_file = format!("@{}", file.display());
    let cases: [(&[&str], i32, &str); 7] = [
        (&["enqueue", "echo", "--priority", "urgent"], 2, "priority"),
        (&["enqueue", "echo", "--payload", "{\"a\":"], 2, "JSON"),
        (&["enqueue", "echo", "--payload", &from_file], 2, "65536"),
        (&["enqueue", "nonesuch"], 2, "unknown kind"),
        (
            &["enqueue", "echo", "--queue", "nowhere"],
            2,
            "unknown queue",
        ),
        (
            &["enqueue", "echo", "--no-such-option"],
            2,
            "--no-such-option",
        ),
        (
            &["jobs", "show", "01890a5d-ac96-774b-bcce-b302099a8057"],
            3,
            "01890a5d",
        ),
    ];
    for (args, code, word) in cases {
        let output = run(&lab, args).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(
            error.contains(word) && error.lines().count() == 1,
            "{args:?}: {error}"
        );
    }
    assert_eq!(rows(&lab).await, 0);
}

// F51: exit code 5, and no password in the text (F64)
#[tokio::test]
async fn an_unreachable_server_is_told_apart_and_its_password_is_not_shown() {
    let mut lab = Lab::new().await;
    lab.config.database.url =
        millstream_common::config::Secret::new("postgres://u:canary@127.0.0.1:1/nothing");
    let output = run(&lab, &["enqueue", "echo"]).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{error}");
    assert!(
        error.contains("127.0.0.1:1") && !error.contains("canary") && error.lines().count() == 1,
        "{error}"
    );
}

// F61: a database without our schema
#[tokio::test]
async fn a_wrong_schema_version_says_what_to_run() {
    let lab = Lab::new().await;
    let down = run(&lab, &["migrate", "down", "--to", "0", "--yes"]).await;
    assert!(down.status.success(), "{}", text(&down.stderr));
    let output = run(&lab, &["enqueue", "echo"]).await;
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text(&output.stderr).contains("millstream migrate up"),
        "{}",
        text(&output.stderr)
    );
    let up = run(&lab, &["migrate", "up"]).await;
    assert!(up.status.success(), "{}", text(&up.stderr));
    assert!(run(&lab, &["enqueue", "echo"]).await.status.success());
}

// F51, F7: enqueue, run, wait, show, list
#[tokio::test]
async fn a_job_is_enqueued_run_and_shown() {
    let lab = Lab::new().await;
    let mut worker = Process::start(&lab, &["worker", "--concurrency", "4"]);
    let waited = json(
        &run(
            &lab,
            &[
                "--json",
                "enqueue",
                "echo",
                "--payload",
                "{\"a\":1}",
                "--wait",
            ],
        )
        .await,
    );
    assert_eq!(
        (&waited["state"], &waited["result"]["a"]),
        (&Value::from("completed"), &Value::from(1)),
        "{waited}"
    );
    let shown = json(
        &run(
            &lab,
            &["--json", "jobs", "show", waited["id"].as_str().unwrap()],
        )
        .await,
    );
    for field in [
        "id",
        "kind",
        "queue",
        "priority",
        "state",
        "payload",
        "metadata",
        "tenant",
        "batch_id",
        "attempt",
        "max_attempts",
        "epoch",
    ] {
        assert!(shown.get(field).is_some(), "{field} is missing: {shown}");
    }
    let listed = run(&lab, &["--json", "jobs", "list", "--state", "completed"]).await;
    assert_eq!(text(&listed.stdout).lines().count(), 1);
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.exit_code().await, Some(0));
}

// F14, F6: dead letters are listed and redriven, waiting jobs cancelled
#[tokio::test]
async fn dead_jobs_are_listed_and_redriven_and_scheduled_ones_cancelled() {
    let lab = Lab::new().await;
    let _worker = Process::start(&lab, &["worker"]);
    let dead = run(
        &lab,
        &[
            "--json",
            "enqueue",
            "fail",
            "--payload",
            "{\"class\":\"permanent\",\"message\":\"no way\"}",
            "--wait",
        ],
    )
    .await;
    assert_eq!(
        dead.status.code(),
        Some(1),
        "a dead job is no success: {}",
        text(&dead.stderr)
    );
    let listed = run(&lab, &["--json", "dead", "list"]).await;
    let letter: Value = serde_json::from_str(text(&listed.stdout).lines().next().unwrap()).unwrap();
    assert!(letter.to_string().contains("no way"), "{letter}");
    let dry = run(&lab, &["dead", "redrive", "--all"]).await;
    assert_eq!(
        lab.count("dead").await,
        1,
        "without --yes nothing moves: {}",
        text(&dry.stdout)
    );
    assert!(
        run(&lab, &["dead", "redrive", "--all", "--yes"])
            .await
            .status
            .success()
    );
    eventually("dead again, at a higher epoch", async || {
        let epoch: i32 =
            sqlx::query_scalar("SELECT epoch FROM millstream.job_view WHERE state = 'dead'")
                .fetch_optional(&lab.pool)
                .await
                .unwrap()?;
        (epoch >= 3).then_some(())
    })
    .await;
    let later = json(
        &run(
            &lab,
            &[
                "--json",
                "enqueue",
                "echo",
                "--run-at",
                "2099-01-01T00:00:00Z",
            ],
        )
        .await,
    );
    assert!(
        run(&lab, &["jobs", "cancel", later["id"].as_str().unwrap()])
            .await
            .status
            .success()
    );
    assert_eq!(lab.count("cancelled").await, 1);
}

// F51: what an operator looks at
#[tokio::test]
async fn queues_workers_and_doctor_tell_how_things_stand() {
    let lab = Lab::new().await;
    let _worker = Process::start(&lab, &["worker", "--name", "w-one"]);
    eventually("the worker is listed", async || {
        text(&run(&lab, &["--json", "workers", "list"]).await.stdout)
            .contains("w-one")
            .then_some(())
    })
    .await;
    let queues = text(&run(&lab, &["--json", "queues", "list"]).await.stdout);
    assert!(
        queues.contains("default") && queues.contains("documents"),
        "{queues}"
    );
    let doctor = run(&lab, &["doctor"]).await;
    assert!(
        text(&doctor.stdout).contains("postgres"),
        "{}",
        text(&doctor.stdout)
    );
}

// F51: figures with their costs beside the bare path, at somebody's own servers, which are left as they were
#[tokio::test]
async fn a_bench_tells_rates_and_costs_and_cleans_up() {
    let lab = Lab::new().await;
    let out = lab.folder().join("bench");
    let args = [
        "--json",
        "bench",
        "--jobs",
        "1000",
        "--runs",
        "1",
        "--only",
        "bulk,drain_1_worker",
        "--out",
        out.to_str().unwrap(),
    ];
    let output = run(&lab, &args).await;
    let printed: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let file = std::fs::read_dir(&out)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let written: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(printed, written, "{}", text(&output.stderr));
    let names: Vec<_> = written
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["bulk_enqueue", "drain_1_worker"]);
    for row in &written {
        let positive = |field: &str| row[field].as_f64().is_some_and(|figure| figure > 0.0);
        assert!(
            positive("jobs_per_s")
                && positive("raw_jobs_per_s")
                && positive("ratio_to_raw")
                && positive("wal_bytes_per_job"),
            "{row}"
        );
        assert!(
            row["cpu_us_per_job"]["postgres"].is_null(),
            "a server of somebody else cannot be seen: {row}"
        );
    }
    assert!(
        written[1]["memory_mb"].as_f64().unwrap() > 1.0
            && written[1]["cpu_us_per_job"]["worker"].as_f64().is_some()
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE state = 2")
            .await,
        1000
    );
    assert_eq!(
        lab.number(
            "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'bench_raw'"
        )
        .await,
        0
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.parcel").await,
        0
    );
    let nowhere = lab.folder().join("file");
    std::fs::write(&nowhere, "").unwrap();
    let refused = run(&lab, &["bench", "--out", nowhere.to_str().unwrap()]).await;
    assert!(
        text(&refused.stderr).contains("cannot be written to"),
        "before anything is measured: {}",
        text(&refused.stderr)
    );
}

#[tokio::test]
async fn a_bench_does_not_disturb_workers_and_names_its_figures() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let disturbing = run(&lab, &["bench", "--jobs", "1000"]).await;
    assert_eq!(disturbing.status.code(), Some(1));
    assert!(
        text(&disturbing.stderr).contains("workers are at work"),
        "{}",
        text(&disturbing.stderr)
    );
    let unknown = run(&lab, &["bench", "--only", "nonesuch"]).await;
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown.stderr).contains("latency_sql"),
        "{}",
        text(&unknown.stderr)
    );
    assert_eq!(
        run(&lab, &["bench", "--only", "bulk,"]).await.status.code(),
        Some(2),
        "no name is not every name"
    );
}

// B2: how long jobs are kept is told before it happens, and set by tenant
#[tokio::test]
async fn retention_is_told_and_a_tenant_gets_a_rule_of_its_own() {
    let lab = Lab::new().await;
    let days = run(&lab, &["--json", "retention"]).await;
    let days: Vec<Value> = text(&days.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(days.len() >= 8, "yesterday to a week ahead: {days:?}");
    let all = |row: &Value| {
        row["day"]
            .as_str()
            .zip(row["goes_on"].as_str())
            .is_some_and(|(day, goes_on)| day < goes_on)
            && row["bytes"].as_i64() > Some(0)
    };
    assert!(days.iter().all(all), "{days:?}");
    for (args, code, told) in [
        (["tenants", "keep", "default", "7"], 0, "7 days"),
        (["tenants", "keep", "default", "0"], 2, "1 to 36500"),
        (
            ["tenants", "keep", "default", "soon"],
            2,
            "a number of days",
        ),
        (["tenants", "keep", "nobody", "7"], 3, "nobody"),
    ] {
        let output = run(&lab, &args).await;
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(
            output.status.code() == Some(code) && said.contains(told),
            "{args:?}: {said}"
        );
    }
    let keep =
        "SELECT COALESCE(max(keep_days), 0)::bigint FROM millstream.tenant WHERE name = 'default'";
    assert_eq!(lab.number(keep).await, 7);
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.audit WHERE action = 'tenant keep'")
            .await,
        1
    );
    assert_eq!(
        run(&lab, &["tenants", "keep", "default", "default"])
            .await
            .status
            .code(),
        Some(0)
    );
    assert_eq!(lab.number(keep).await, 0);
}
