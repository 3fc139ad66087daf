//! Tests of `openai`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use millstream_outbound::test_server::{Answer, TestServer, client};

use super::{OpenAiServer, OpenAiSettings};
use crate::{EmbeddingServer, ModelError, Secret};
use serde_json::{Value, json};
use std::time::Duration;

fn settings(base_url: String) -> OpenAiSettings {
    OpenAiSettings {
        base_url,
        api_key: Some(Secret::new("plain-canary-key")),
        embedding_model: "embed-model".to_owned(),
        chat_model: "chat-model".to_owned(),
        ..OpenAiSettings::default()
    }
}

fn asked(server: &TestServer) -> OpenAiServer {
    OpenAiServer::new(client("127.0.0.1"), settings(server.url("/v1/"))).unwrap()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

async fn answering(body: &Value) -> TestServer {
    TestServer::start(vec![Answer::json("200 OK", "", &body.to_string())]).await
}

fn body_of(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

// P3, E1: vectors in the order of the texts, tokens as the server counted them
#[tokio::test]
async fn vectors_come_back_in_the_order_of_the_texts() {
    let server = answering(&json!({
        "data": [{"index": 1, "embedding": [0.3, 0.4]}, {"index": 0, "embedding": [0.1, 0.2]}],
        "model": "embed-model-v2",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }))
    .await;
    let embedder = EmbeddingServer::OpenAi(asked(&server));
    let embeddings = embedder.embed(&texts(&["a", "b"])).await.unwrap();
    assert_eq!(embeddings.vectors, vec![vec![0.1, 0.2], vec![0.3, 0.4]]);
    assert_eq!((embeddings.dimension, embeddings.tokens), (2, Some(5)));
    assert_eq!(embeddings.model, "embed-model-v2");

    let request = server.requests().remove(0);
    assert!(
        request.starts_with("POST /v1/embeddings HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("authorization: Bearer plain-canary-key\r\n"),
        "{request}"
    );
    let sent = json!({"model": "embed-model", "input": ["a", "b"], "encoding_format": "float"});
    assert_eq!(body_of(&request), sent);
}

// P3
#[tokio::test]
async fn answers_that_do_not_fit_are_failures() {
    let item = |index: i32| json!({"index": index, "embedding": [0.5]});
    let table = [
        json!({"data": [item(0)]}),
        json!({"data": [item(0), item(0)]}),
        json!({"data": [item(0), item(2)]}),
        json!({"data": [item(0), item(1), item(2)]}),
        json!({"data": [item(0), {"index": 1, "embedding": [null]}]}),
        json!({"data": [item(0), {"index": 1, "embedding": [1e300]}]}),
        json!({"data": []}),
        json!({"other": 1}),
        json!("canary"),
    ];
    for body in table {
        let server = answering(&body).await;
        let error = asked(&server).embed(&texts(&["a", "b"])).await.unwrap_err();
        assert!(
            matches!(error, ModelError::Retry { .. }),
            "{body}: {error:?}"
        );
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

// C2
#[tokio::test]
async fn a_wrong_dimension_is_permanent_and_a_wanted_one_can_be_asked_for() {
    let server = answering(&json!({"data": [{"embedding": [0.5, 0.5]}]})).await;
    let mut settings = settings(server.url(""));
    settings.dimension = Some(3);
    settings.request_dimension = true;
    let asked = OpenAiServer::new(client("127.0.0.1"), settings).unwrap();
    let error = asked.embed(&texts(&["a"])).await.unwrap_err();
    assert!(
        matches!(&error, ModelError::Permanent { message } if message.contains("3 were expected")),
        "{error:?}"
    );
    assert_eq!(body_of(&server.requests()[0])["dimensions"], 3);
}

// F24, F64: every failure keeps its class, and the key is in no text
#[tokio::test]
async fn failures_are_sorted_and_never_show_the_key() {
    let wrong_key = r#"{"error":{"message":"Incorrect API key provided: plain-canary-key."}}"#;
    let broke = r#"{"error":{"code":"insufficient_quota","message":"You exceeded your quota"}}"#;
    let table = [
        ("401 Unauthorized", "", wrong_key, "permanent"),
        (
            "400 Bad Request",
            "",
            r#"{"error":"too many tokens"}"#,
            "permanent",
        ),
        ("413 Payload Too Large", "", "{}", "permanent"),
        (
            "302 Found",
            "location: http://127.0.0.1/\r\n",
            "{}",
            "permanent",
        ),
        ("429 Too Many Requests", "", broke, "permanent"),
        (
            "429 Too Many Requests",
            "retry-after-ms: 1500\r\n",
            "{}",
            "limited 1500",
        ),
        ("429 Too Many Requests", "", "{}", "limited"),
        (
            "503 Service Unavailable",
            "retry-after: 2\r\n",
            "{}",
            "limited 2000",
        ),
        (
            "500 Internal Server Error",
            "",
            r#"{"error":{"message":"plain-canary-key"}}"#,
            "retry",
        ),
        ("408 Request Timeout", "", "{}", "retry"),
    ];
    for (status, headers, body, expected) in table {
        let server = TestServer::start(vec![Answer::json(status, headers, body)]).await;
        let asked = asked(&server);
        let error = asked.embed(&texts(&["a"])).await.unwrap_err();
        let class = match &error {
            ModelError::Permanent { .. } => "permanent".to_owned(),
            ModelError::Retry { .. } => "retry".to_owned(),
            ModelError::Unavailable { .. } => "unavailable".to_owned(),
            ModelError::RateLimited { after: None } => "limited".to_owned(),
            ModelError::RateLimited { after: Some(after) } => {
                format!("limited {}", after.as_millis())
            }
        };
        assert_eq!(class, expected, "{status} {body}: {error}");
        let shown = format!("{error} {error:?} {asked:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }
    assert_eq!(
        ModelError::RateLimited {
            after: Some(Duration::ZERO)
        }
        .to_string(),
        "the model server is over its rate limit"
    );
}

// F64: configured or not, a private server must be allowed
#[tokio::test]
async fn a_model_server_on_a_private_address_must_be_listed() {
    let server = answering(&json!({})).await;
    let asked = OpenAiServer::new(client(""), settings(server.url(""))).unwrap();
    let error = asked.embed(&texts(&["a"])).await.unwrap_err();
    assert!(
        matches!(&error, ModelError::Permanent { message } if message.contains("allow-list")),
        "{error:?}"
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn bad_settings_and_empty_calls_are_refused_before_anything_is_sent() {
    for base_url in [
        "",
        "localhost:80/v1",
        "http://user:pw@host/",
        "http://host/?key=canary",
    ] {
        let error = OpenAiServer::new(client(""), settings(base_url.to_owned())).unwrap_err();
        assert!(error.to_string().contains("base URL"), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    let mut odd_key = settings("http://127.0.0.1".to_owned());
    odd_key.api_key = Some(Secret::new("can\nary"));
    assert!(OpenAiServer::new(client(""), odd_key).is_err());

    let server = answering(&json!({})).await;
    for call in [texts(&[]), texts(&["a", " \n"])] {
        let error = asked(&server).embed(&call).await.unwrap_err();
        assert!(matches!(error, ModelError::Permanent { .. }), "{error:?}");
    }
    assert!(server.requests().is_empty());
}

fn chat(content: &Value, finish_reason: &str) -> Value {
    json!({
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42},
    })
}

// P3
#[tokio::test]
async fn a_completion_is_a_json_object_with_its_tokens() {
    for content in [
        "{\"a\":1}",
        " {\"a\":1}\n",
        "```json\n{\"a\":1}\n```",
        "```\n{\"a\":1}```",
    ] {
        let server = answering(&chat(&json!(content), "stop")).await;
        let answer = asked(&server)
            .complete_json("be brief", "text", 100)
            .await
            .unwrap();
        assert_eq!(answer, (json!({"a": 1}), Some(42)));
        let request = server.requests().remove(0);
        assert!(
            request.starts_with("POST /v1/chat/completions "),
            "{request}"
        );
        let body = body_of(&request);
        assert_eq!(body["response_format"]["type"], "json_object");
        assert_eq!(
            body["messages"][0],
            json!({"role": "system", "content": "be brief"})
        );
        assert_eq!(
            (&body["max_tokens"], &body["temperature"]),
            (&json!(100), &json!(0))
        );
    }
}

// P3
#[tokio::test]
async fn a_completion_that_is_cut_off_refused_or_no_object_is_a_failure() {
    let table = [
        (chat(&json!("{\"a\":"), "length"), true),
        (chat(&json!(null), "content_filter"), true),
        (
            json!({"choices": [{"message": {"content": null, "refusal": "no"}}]}),
            true,
        ),
        (chat(&json!("no json"), "stop"), false),
        (chat(&json!("[1]"), "stop"), false),
        (chat(&json!(null), "stop"), false),
        (json!({"choices": []}), false),
    ];
    for (body, permanent) in table {
        let server = answering(&body).await;
        let error = asked(&server)
            .complete_json("s", "u", 10)
            .await
            .unwrap_err();
        assert_eq!(
            matches!(error, ModelError::Permanent { .. }),
            permanent,
            "{body}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_reasoning_model_is_asked_in_its_own_words() {
    let server = answering(&chat(&json!("{}"), "stop")).await;
    let mut settings = settings(server.url(""));
    settings.reasoning_model = true;
    let asked = OpenAiServer::new(client("127.0.0.1"), settings).unwrap();
    asked.complete_json("s", "u", 10).await.unwrap();
    let body = body_of(&server.requests()[0]);
    assert_eq!(body["max_completion_tokens"], 10);
    assert!(body.get("max_tokens").is_none() && body.get("temperature").is_none());
}
