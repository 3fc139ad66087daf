//! What is told of a job, and what is not (X13, X14, X67, X72).

use std::sync::Arc;

use millstream_producer::NewJob;
use millstream_tests::{Lab, Served, eventually, process::run};
use millstream_worker::{Context, Failure, Handler, Outcome, Success};
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use super::operators::{said, text};

async fn enqueued(lab: &Lab, kind: &str, payload: Value) -> Uuid {
    let output = run(lab, &["enqueue", kind, "--payload", &payload.to_string()]).await;
    text(&output.stdout)
        .parse()
        .unwrap_or_else(|e| panic!("{e}: {}", said(&output)))
}

/// A job as `jobs show --json` and `GET /v1/jobs/{id}` tell of it: the same.
async fn shown(lab: &Lab, api: &Served, id: Uuid) -> Value {
    let output = run(lab, &["--json", "jobs", "show", &id.to_string()]).await;
    let by_cli: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (_, by_http) = api.json(&format!("/v1/jobs/{id}")).await;
    assert_eq!(by_cli["errors"], by_http["errors"]);
    assert_eq!(
        (&by_cli["attempt"], &by_cli["error"]),
        (&by_http["attempt"], &by_http["error"])
    );
    by_http
}

async fn shown_to_people(lab: &Lab, id: Uuid) -> String {
    text(&run(lab, &["jobs", "show", &id.to_string()]).await.stdout)
}

#[tokio::test]
async fn x13_tries_are_told_as_they_were() {
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let _worker = lab.worker().await;
    let again = enqueued(&lab, "fail", json!({"times": 1, "message": "boom"})).await;
    let limited = enqueued(
        &lab,
        "fail",
        json!({"times": 1, "message": "slowly", "class": "rate_limited"}),
    )
    .await;
    let running = enqueued(&lab, "sleep", json!({"ms": 60_000})).await;
    let later = text(
        &run(&lab, &["enqueue", "echo", "--run-at", "1h"])
            .await
            .stdout,
    )
    .parse()
    .unwrap();
    lab.await_state(running, "running").await;
    let job = shown(&lab, &api, running).await;
    assert_eq!(
        (&job["attempt"], &job["state"]),
        (&json!(1), &json!("running"))
    );
    assert!(shown_to_people(&lab, running).await.contains("1 of 3"));
    assert!(
        text(
            &run(&lab, &["jobs", "explain", &running.to_string()])
                .await
                .stdout
        )
        .contains("try 1 of 3")
    );
    assert_eq!(shown(&lab, &api, later).await["attempt"], 0);
    assert!(shown_to_people(&lab, later).await.contains("none of 3"));

    lab.await_state(again, "completed").await;
    let job = shown(&lab, &api, again).await;
    assert_eq!(
        (&job["error"], &job["attempt"]),
        (&Value::Null, &json!(2)),
        "a completed job has no error"
    );
    let error = &job["errors"][0];
    assert_eq!(
        (&error["attempt"], &error["counted"], &error["message"]),
        (&json!(1), &json!(true), &json!("boom"))
    );
    let told = shown_to_people(&lab, again).await;
    assert!(
        told.contains("failed   try 1 on ") && told.contains(": retry: boom"),
        "{told}"
    );

    lab.await_state(limited, "completed").await;
    let job = shown(&lab, &api, limited).await;
    assert_eq!(
        (&job["error"], &job["attempt"]),
        (&Value::Null, &json!(1)),
        "a rate limit uses up no try"
    );
    let error = &job["errors"][0];
    assert_eq!(
        (&error["attempt"], &error["counted"], &error["class"]),
        (&json!(1), &json!(false), &json!("rate_limited"))
    );
    let told = shown_to_people(&lab, limited).await;
    assert!(
        told.contains("put off  try 1 on ") && told.contains(": rate_limited, not counted: slowly"),
        "{told}"
    );
    let listed = text(
        &run(&lab, &["jobs", "list", "--state", "completed"])
            .await
            .stdout,
    );
    assert!(
        !listed.contains("boom") && !listed.contains("slowly"),
        "{listed}"
    );
}

// What used up a try, for histories of every class: the one rule that all doors take their words from.
#[tokio::test]
async fn x13_histories_count_from_one_whatever_they_hold() {
    let lab = Lab::new().await;
    // Class, tries counted after it, then: the try it happened in, and whether it counted.
    let history = [
        ("rate_limited", 0, 1, false),
        ("crash", 0, 1, false),
        ("retry", 1, 1, true),
        ("unavailable", 1, 2, false),
        ("timeout", 2, 2, true),
        ("crash", 2, 3, false),
        ("unavailable", 3, 3, true),
        ("panic", 4, 4, true),
        // Redriven: tries begin anew.
        ("rate_limited", 0, 1, false),
        ("undecodable", 1, 1, true),
    ];
    for (epoch, (class, attempt, ..)) in (0..).zip(history) {
        let insert = sqlx::query(
            "INSERT INTO millstream.job_error (job_id, epoch, attempt, class, message) VALUES ($1, $2, $3, $4, 'm')",
        );
        insert
            .bind(Uuid::nil())
            .bind(epoch)
            .bind(attempt)
            .bind(class)
            .execute(&lab.pool)
            .await
            .unwrap();
    }
    let told: Vec<(String, i32, bool)> = sqlx::query_as(
        "SELECT class, attempt, counted FROM millstream.job_error_view ORDER BY epoch",
    )
    .fetch_all(&lab.pool)
    .await
    .unwrap();
    let right: Vec<_> = history
        .iter()
        .map(|(class, _, attempt, counted)| ((*class).to_owned(), *attempt, *counted))
        .collect();
    assert_eq!(told, right);
}

/// Logs 30 lines in each try; the first fails, the second stays until it is let go.
fn talker(go: Arc<Notify>) -> Handler {
    Handler::new("talker", move |context: Context, (): ()| {
        let go = go.clone();
        async move {
            for nth in 0..30 {
                context.log(format!("try {} line {nth}", context.attempt));
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            if context.attempt == 1 {
                return Err(Failure::retry("again"));
            }
            context.progress(0.5, "half of it");
            go.notified().await;
            Ok(Success::new())
        }
    })
}

#[tokio::test]
async fn x14_notes_and_log_lines_are_shown_with_their_time_and_try() {
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let go = Arc::new(Notify::new());
    let _worker = lab.worker_with(vec![talker(go.clone())]).await;
    let id = enqueued(&lab, "talker", Value::Null).await;
    let path = format!("/v1/jobs/{id}");
    let note = eventually("the note is shown", async || {
        api.json(&path).await.1["progress_note"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    assert_eq!(note, "half of it");
    assert!(shown_to_people(&lab, id).await.contains("half of it"));
    lab.await_number("SELECT count(*) FROM millstream.job_log", 60)
        .await;
    assert_eq!(
        lab.number("SELECT count(DISTINCT at) FROM millstream.job_log")
            .await,
        60,
        "each has its own time"
    );
    go.notify_one();
    lab.await_state(id, "completed").await;

    let wanted: Vec<_> = (1..=2)
        .flat_map(|attempt| (0..30).map(move |nth| (attempt, format!("try {attempt} line {nth}"))))
        .collect();
    assert_eq!(pages_by_http(&api, id).await, wanted);
    let told = pages_by_cli(&lab, id).await;
    assert_eq!(told.len(), wanted.len());
    for (line, (attempt, text)) in told.iter().zip(&wanted) {
        assert!(
            line.contains(&format!(" try {attempt}  ")) && line.ends_with(text),
            "{line}"
        );
    }
    let told = shown_to_people(&lab, id).await;
    assert!(
        told.contains("the newest 20 lines; older lines: millstream jobs log ")
            && told.ends_with("try 2 line 29"),
        "{told}"
    );
    assert_eq!(
        api.get(&format!("/v1/jobs/{}/log", Uuid::nil()))
            .await
            .status(),
        404
    );
}

/// Oldest first.
async fn pages_by_http(api: &Served, id: Uuid) -> Vec<(i64, String)> {
    let mut lines = Vec::new();
    let mut query = "limit=7".to_owned();
    loop {
        let (_, page) = api.json(&format!("/v1/jobs/{id}/log?{query}")).await;
        for line in page["items"].as_array().unwrap_or_else(|| panic!("{page}")) {
            lines.insert(
                0,
                (
                    line["attempt"].as_i64().unwrap(),
                    line["line"].as_str().unwrap().to_owned(),
                ),
            );
        }
        let Some(next) = page["next_cursor"].as_str() else {
            return lines;
        };
        query = format!("limit=7&cursor={next}");
    }
}

async fn pages_by_cli(lab: &Lab, id: Uuid) -> Vec<String> {
    let id = id.to_string();
    let mut lines: Vec<String> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut args = vec!["jobs", "log", &id, "--limit", "25"];
        args.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor]));
        let output = run(lab, &args).await;
        lines.splice(0..0, text(&output.stdout).lines().map(str::to_owned));
        let Some((_, next)) = text(&output.stderr)
            .rsplit_once("--cursor ")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
        else {
            return lines;
        };
        cursor = Some(next);
    }
}

const LEAK: &str = "\u{1b}[31mlogin with password=CANARY7c and Bearer CANARY7cCANARY7c failed: postgres://u:p@CANARY7c@db/x \u{9b}2J\0 sk-CANARY7cCANARY";

/// Fails, panics, or gives up with what it should not say, and has said it before.
async fn leak(context: Context, how: String) -> Outcome {
    context.log(LEAK);
    context.progress(0.5, LEAK);
    assert!(how != "panic", "{LEAK}");
    let long = format!("{}{LEAK}", "word ".repeat(2_000));
    Err(match how.as_str() {
        "retry" => Failure::retry(LEAK),
        "rate_limited" => Failure::RateLimited {
            after: None,
            message: LEAK.into(),
        },
        "unavailable" => Failure::Unavailable(LEAK.into()),
        "undecodable" => Failure::Undecodable(LEAK.into()),
        "long" => Failure::permanent(long),
        _ => Failure::permanent(LEAK),
    })
}

const CLASSES: [&str; 7] = [
    "retry",
    "rate_limited",
    "unavailable",
    "undecodable",
    "permanent",
    "long",
    "panic",
];

#[tokio::test]
async fn x67_no_output_holds_a_secret_of_an_error() {
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let _worker = lab.worker_with(vec![Handler::new("leak", leak)]).await;
    let producer = lab.producer();
    for class in CLASSES {
        producer
            .enqueue(NewJob {
                max_attempts: Some(1),
                ..NewJob::new("leak", serde_json::to_string(class).unwrap())
            })
            .await
            .unwrap();
    }
    lab.await_number(
        "SELECT count(*) FROM millstream.job_error",
        CLASSES.len() as i64,
    )
    .await;
    lab.await_number(
        "SELECT count(DISTINCT job_id) FROM millstream.job_log",
        CLASSES.len() as i64,
    )
    .await;
    let rows: Vec<String> = sqlx::query_scalar(
        "SELECT j::text FROM millstream.job j UNION ALL SELECT e::text FROM millstream.job_error e UNION ALL SELECT d::text FROM millstream.dead_letter d
         UNION ALL SELECT l::text FROM millstream.job_log l UNION ALL SELECT l::text FROM millstream.lease l",
    )
    .fetch_all(&lab.pool)
    .await
    .unwrap();
    let mut outputs = rows;
    let lengths: i32 =
        sqlx::query_scalar("SELECT max(octet_length(message)) FROM millstream.job_error")
            .fetch_one(&lab.pool)
            .await
            .unwrap();
    assert!(lengths <= 4 * 1024);
    outputs.extend(dead_notices(&lab).await);
    for (_, id) in ids(&lab).await {
        outputs.push(said(&run(&lab, &["jobs", "show", &id.to_string()]).await));
        outputs.push(said(
            &run(&lab, &["--json", "jobs", "log", &id.to_string()]).await,
        ));
        outputs.push(said(
            &run(&lab, &["jobs", "explain", &id.to_string()]).await,
        ));
        outputs.push(
            api.get(&format!("/v1/jobs/{id}"))
                .await
                .text()
                .await
                .unwrap(),
        );
        outputs.push(
            api.get(&format!("/v1/jobs/{id}/log"))
                .await
                .text()
                .await
                .unwrap(),
        );
    }
    outputs.push(said(&run(&lab, &["jobs", "list"]).await));
    outputs.push(said(&run(&lab, &["dead", "list"]).await));
    for output in &outputs {
        assert!(!output.contains("CANARY"), "{output}");
        assert!(!output.contains(['\u{1b}', '\u{9b}', '\0']), "{output:?}");
    }
    assert!(
        outputs
            .iter()
            .filter(|output| output.contains("password=[redacted]"))
            .count()
            > 20,
        "and yet it is told what happened"
    );
}

async fn ids(lab: &Lab) -> Vec<(String, Uuid)> {
    sqlx::query_as("SELECT state, id FROM millstream.job_view")
        .fetch_all(&lab.pool)
        .await
        .unwrap()
}

async fn dead_notices(lab: &Lab) -> Vec<String> {
    let mut conn = lab.redis().await;
    eventually("the dead are announced", async || {
        let notices: redis::Value = redis::cmd("XRANGE")
            .arg(lab.keys().dead("default"))
            .arg("-")
            .arg("+")
            .query_async(&mut conn)
            .await
            .unwrap();
        let redis::Value::Array(notices) = notices else {
            return None;
        };
        (notices.len() >= 4).then(|| notices.iter().map(text_of).collect())
    })
    .await
}

fn text_of(value: &redis::Value) -> String {
    match value {
        redis::Value::Array(parts) => parts.iter().map(text_of).collect::<Vec<_>>().join(" "),
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

// The log of a worker: a burial and a panic.
#[tokio::test]
async fn x67_the_log_of_a_worker_holds_no_secret() {
    let lab = Lab::new().await;
    let worker = Served::start(&lab, &["worker"]).await;
    let dead = enqueued(
        &lab,
        "fail",
        json!({"message": LEAK.replace('\0', ""), "class": "permanent"}),
    )
    .await;
    lab.await_state(dead, "dead").await;
    let log = eventually("the burial is logged", async || {
        Some(worker.log()).filter(|log| log.contains("a job is dead"))
    })
    .await;
    assert!(
        log.contains("password=[redacted]") && !log.contains("CANARY") && !log.contains('\u{1b}'),
        "{log}"
    );
}

#[tokio::test]
async fn x72_nothing_on_a_terminal_turns_or_hides_what_is_read() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let name = "invoice\u{202e}fdp.exe\u{2066}\u{200f}\u{feff}\u{9b}31m";
    let echoed = enqueued(&lab, "echo", json!({"name": name})).await;
    let dead = enqueued(&lab, "fail", json!({"message": name, "class": "permanent"})).await;
    lab.await_state(echoed, "completed").await;
    lab.await_state(dead, "dead").await;
    let (echoed, dead) = (echoed.to_string(), dead.to_string());
    let commands: [&[&str]; 7] = [
        &["jobs", "list"],
        &["--json", "jobs", "list"],
        &["jobs", "show", &echoed, &dead],
        &["--json", "jobs", "show", &echoed, &dead],
        &["dead", "list"],
        &["jobs", "explain", &dead],
        // What was typed comes back in the error.
        &["jobs", "list", "--queue", name],
    ];
    for command in commands {
        let told = said(&run(&lab, command).await);
        assert!(
            !told.contains(['\u{202e}', '\u{2066}', '\u{200f}', '\u{feff}', '\u{9b}']),
            "{command:?}: {told:?}"
        );
    }
    let shown: Value =
        serde_json::from_slice(&run(&lab, &["--json", "jobs", "show", &echoed]).await.stdout)
            .unwrap();
    assert_eq!(shown["result"]["name"], name, "as JSON it is what it was");
}
