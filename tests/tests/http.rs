//! The HTTP door, against the real command (F3, F8, P1).

use millstream_tests::{Lab, Process, eventually};
use reqwest::{Client, StatusCode, multipart};
use serde_json::{Value, json};

struct Api {
    client: Client,
    base: String,
    _process: Process,
}

impl Api {
    async fn start(lab: &Lab) -> Self {
        // Bound and given up again: the command binds it a moment later.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let process = Process::start(lab, &["api", "--listen", &address]);
        let api = Self {
            client: Client::new(),
            base: format!("http://{address}"),
            _process: process,
        };
        eventually("the API is ready", async || {
            api.client
                .get(format!("{}/readyz", api.base))
                .send()
                .await
                .ok()
                .filter(|r| r.status().is_success())
        })
        .await;
        api
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let reply = self
            .client
            .post(format!("{}{path}", self.base))
            .json(body)
            .send()
            .await
            .unwrap();
        (reply.status(), reply.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let reply = self
            .client
            .get(format!("{}{path}", self.base))
            .send()
            .await
            .unwrap();
        (reply.status(), reply.json().await.unwrap())
    }
}

// F3, F7
#[tokio::test]
async fn a_job_posted_is_run_and_awaited() {
    let lab = Lab::new().await;
    let api = Api::start(&lab).await;
    let _worker = lab.worker().await;
    let (status, enqueued) = api
        .post(
            "/v1/jobs",
            &json!({"kind": "echo", "payload": {"a": 1}, "priority": "high"}),
        )
        .await;
    assert_eq!(
        (status, &enqueued["duplicate"]),
        (StatusCode::ACCEPTED, &json!(false)),
        "{enqueued}"
    );
    let (status, job) = api
        .get(&format!(
            "/v1/jobs/{}/wait?timeout_s=30",
            enqueued["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(
        (status, &job["state"], &job["result"]),
        (StatusCode::OK, &json!("completed"), &json!({"a": 1}))
    );
    assert!(job["errors"].as_array().unwrap().is_empty());
}

// F8, S11, S13: problem+json, nothing written
#[tokio::test]
async fn bad_requests_are_problems_and_write_nothing() {
    let lab = Lab::new().await;
    let api = Api::start(&lab).await;
    let cases = [
        (
            json!({"kind": "nonesuch"}),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            json!({"kind": "echo", "queue": "nowhere"}),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            json!({"kind": "echo", "priority": "urgent"}),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            json!({"kind": "echo", "payload": "x".repeat(70_000)}),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ];
    for (body, expected) in cases {
        let (status, problem) = api.post("/v1/jobs", &body).await;
        assert_eq!(status, expected, "{problem}");
        assert!(
            problem["detail"].is_string() && problem["status"] == expected.as_u16(),
            "{problem}"
        );
    }
    let reply = api
        .client
        .post(format!("{}/v1/jobs", api.base))
        .header("content-type", "application/json")
        .body("{")
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
    assert_eq!(reply.headers()["content-type"], "application/problem+json");
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM millstream.job")
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(jobs, 0);
    let (_, first) = api
        .post(
            "/v1/jobs",
            &json!({"kind": "echo", "payload": 1, "idempotency_key": "k"}),
        )
        .await;
    let (status, _) = api
        .post(
            "/v1/jobs",
            &json!({"kind": "echo", "payload": 2, "idempotency_key": "k"}),
        )
        .await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (_, again) = api
        .post(
            "/v1/jobs",
            &json!({"kind": "echo", "payload": 1, "idempotency_key": "k"}),
        )
        .await;
    assert_eq!(
        (&again["id"], &again["duplicate"]),
        (&first["id"], &json!(true))
    );
}

// F40
#[tokio::test]
async fn a_batch_is_opened_filled_sealed_and_shown() {
    let lab = Lab::new().await;
    let api = Api::start(&lab).await;
    let _worker = lab.worker().await;
    let asked = json!({"name": "July", "next": {"kind": "echo", "payload": {"month": 7}}});
    let (status, opened) = api.post("/v1/batches", &asked).await;
    assert_eq!(status, StatusCode::CREATED, "{opened}");
    let path = format!("/v1/batches/{}", opened["id"].as_str().unwrap());
    let job = json!({"kind": "noop", "batch_id": opened["id"]});
    for _ in 0..3 {
        assert_eq!(api.post("/v1/jobs", &job).await.0, StatusCode::ACCEPTED);
    }
    let (status, sealed) = api.post(&format!("{path}/seal"), &json!({})).await;
    assert_eq!((status, &sealed["total"]), (StatusCode::OK, &json!(3)));
    let shown = eventually("the batch has completed", async || {
        let shown = api.get(&path).await.1;
        (shown["state"] == "completed").then_some(shown)
    })
    .await;
    assert_eq!(
        (&shown["succeeded"], &shown["failures"]),
        (&json!(3), &json!([]))
    );
    let (_, next) = api
        .get(&format!(
            "/v1/jobs/{}",
            shown["next_job_id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(
        (
            &next["payload"]["month"],
            &next["payload"]["batch"]["succeeded"]
        ),
        (&json!(7), &json!(3))
    );
    assert_eq!(api.post("/v1/jobs", &job).await.0, StatusCode::CONFLICT);
    assert_eq!(
        api.post(&format!("{path}/cancel"), &json!({})).await.0,
        StatusCode::CONFLICT
    );
    assert_eq!(api.get("/v1/batches").await.1["items"][0]["name"], "July");
}

// P1, P2: upload, stages, progress
#[tokio::test]
async fn an_uploaded_document_goes_through_all_stages() {
    let lab = Lab::new().await;
    let api = Api::start(&lab).await;
    let _worker = Process::start(&lab, &["worker"]);
    let samples = millstream_admin::samples::write_to(lab.folder()).unwrap();
    let letter = samples.iter().find(|p| p.ends_with("letter.pdf")).unwrap();
    let form = multipart::Form::new().part(
        "file",
        multipart::Part::bytes(std::fs::read(letter).unwrap()).file_name("letter.pdf"),
    );
    let reply = api
        .client
        .post(format!("{}/v1/documents", api.base))
        .multipart(form)
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), StatusCode::ACCEPTED);
    let id = reply.json::<Value>().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let done = eventually("the document is completed", async || {
        let (_, document) = api.get(&format!("/v1/documents/{id}")).await;
        (document["state"] == "completed").then_some(document)
    })
    .await;
    assert_eq!(done["progress"], 100.0, "{done}");
    let stages: Vec<_> = done["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["stage"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        stages,
        ["extraction", "images", "chunking", "analysis", "products"]
    );
    assert!(
        done["stages"]
            .as_array()
            .unwrap()
            .iter()
            .all(|s| s["completed_items"] == s["total_items"] && s["failed_items"] == 0),
        "{done}"
    );
}

// F52: probes and metrics
#[tokio::test]
async fn probes_and_metrics_answer() {
    let lab = Lab::new().await;
    let api = Api::start(&lab).await;
    for path in [
        "/livez",
        "/readyz",
        "/v1/queues",
        "/v1/workers",
        "/v1/stats",
        "/v1/health",
        "/openapi.json",
    ] {
        let reply = api
            .client
            .get(format!("{}{path}", api.base))
            .send()
            .await
            .unwrap();
        assert_eq!(reply.status(), StatusCode::OK, "{path}");
    }
    api.post("/v1/jobs", &json!({"kind": "echo"})).await;
    let metrics = api
        .client
        .get(format!("{}/metrics", api.base))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains(
            "millstream_jobs_enqueued_total{kind=\"echo\",queue=\"default\",source=\"http\"} 1"
        ),
        "{metrics}"
    );
}

// S01: beyond this machine only with a token; S02: with a token, none without
#[tokio::test]
async fn the_api_is_not_open_to_others_without_a_token() {
    let lab = Lab::new().await;
    let refused = millstream_tests::process::run(&lab, &["api", "--listen", "0.0.0.0:0"]).await;
    assert_eq!(
        refused.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&refused.stderr)
    );
}
