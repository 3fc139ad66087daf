//! Tests of `tei`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use millstream_outbound::test_server::{Answer, TestServer, client};

use super::{TeiServer, TeiSettings};
use crate::{EmbeddingServer, ModelError};
use serde_json::json;

const INFO: &str = r#"{"model_id":"org/model","model_dtype":"float32","max_input_length":512,"max_client_batch_size":2,"version":"1.8"}"#;

fn ok(body: &str) -> Answer {
    Answer::json("200 OK", "", body)
}

fn asked(server: &TestServer, model: Option<&str>) -> TeiServer {
    let settings = TeiSettings {
        base_url: server.url("/"),
        model: model.map(str::to_owned),
        ..TeiSettings::default()
    };
    TeiServer::new(client("127.0.0.1"), settings).unwrap()
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("text {number}")).collect()
}

// P3
#[tokio::test]
async fn texts_are_sent_to_embed_with_truncation_on() {
    let server = TestServer::start(vec![ok("[[0.1,0.2],[0.3,0.4]]")]).await;
    let embedder = EmbeddingServer::Tei(asked(&server, Some("configured")));
    let embeddings = embedder.embed(&texts(2)).await.unwrap();
    assert_eq!(embeddings.vectors, vec![vec![0.1, 0.2], vec![0.3, 0.4]]);
    assert_eq!(
        (
            embeddings.model.as_str(),
            embeddings.dimension,
            embeddings.tokens
        ),
        ("configured", 2, None)
    );
    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /embed HTTP/1.1\r\n"), "{request}");
    let body: serde_json::Value =
        serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        body,
        json!({"inputs": ["text 0", "text 1"], "truncate": true})
    );
}

// P3: the server's own limit on a batch is kept, and it is asked for its name once
#[tokio::test]
async fn a_long_call_is_split_by_the_servers_batch_size() {
    let answers = vec![ok(INFO), ok("[[1.0],[2.0]]"), ok("[[3.0]]"), ok("[[4.0]]")];
    let server = TestServer::start(answers).await;
    let asked = asked(&server, None);
    let embeddings = asked.embed(&texts(3)).await.unwrap();
    assert_eq!(embeddings.vectors, vec![vec![1.0], vec![2.0], vec![3.0]]);
    assert_eq!(embeddings.model, "org/model");
    assert_eq!(
        asked.embed(&texts(1)).await.unwrap().vectors,
        vec![vec![4.0]]
    );
    assert_eq!(server.requests().len(), 4);
}

// C2
#[tokio::test]
async fn info_tells_model_limits_and_the_dimension_of_a_first_vector() {
    let server = TestServer::start(vec![ok(INFO), ok("[[0.1,0.2,0.3]]")]).await;
    let info = asked(&server, None).info().await.unwrap();
    assert_eq!(
        (info.model_id.as_str(), info.dimension),
        ("org/model", Some(3))
    );
    assert_eq!(
        (info.max_input_length, info.max_client_batch_size),
        (Some(512), Some(2))
    );
    assert!(server.requests()[0].starts_with("GET /info HTTP/1.1\r\n"));
}

// P3, F24
#[tokio::test]
async fn failures_are_sorted_by_what_tei_means_with_them() {
    let table = [
        (
            "429 Too Many Requests",
            "Model is overloaded",
            "overloaded",
            "limited",
        ),
        (
            "413 Payload Too Large",
            "batch size 64 > maximum allowed batch size 32",
            "validation",
            "permanent",
        ),
        (
            "422 Unprocessable Entity",
            "Tokenization error",
            "tokenizer",
            "permanent",
        ),
        (
            "424 Failed Dependency",
            "Inference failed",
            "backend",
            "retry",
        ),
        ("500 Internal Server Error", "x", "x", "retry"),
    ];
    for (status, said, kind, expected) in table {
        let body = json!({"error": said, "error_type": kind}).to_string();
        let server = TestServer::start(vec![Answer::json(status, "", &body)]).await;
        let error = asked(&server, Some("m"))
            .embed(&texts(1))
            .await
            .unwrap_err();
        let class = match &error {
            ModelError::RateLimited { after: None } => "limited",
            ModelError::RateLimited { .. } => "limited with a wait",
            ModelError::Permanent { message } | ModelError::Retry { message }
                if !message.ends_with(said) =>
            {
                "without its reason"
            }
            ModelError::Permanent { .. } => "permanent",
            ModelError::Retry { .. } => "retry",
            ModelError::Unavailable { .. } => "unavailable",
        };
        assert_eq!(class, expected, "{status}: {error:?}");
    }
}

// P3: counted per batch
#[tokio::test]
async fn a_wrong_number_of_vectors_is_a_failure() {
    for body in ["[[0.1]]", "[]", "[[0.1],[0.2],[0.3]]", "[0.1,0.2]", "{}"] {
        let server = TestServer::start(vec![ok(body)]).await;
        let error = asked(&server, Some("m"))
            .embed(&texts(2))
            .await
            .unwrap_err();
        assert!(
            matches!(error, ModelError::Retry { .. }),
            "{body}: {error:?}"
        );
    }
}
