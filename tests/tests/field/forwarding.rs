//! A payload reaches its end as it was sent, and two are the same job when they say the same.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc,
};

use millstream_common::id::new_job_id;
use millstream_producer::{Error, NewJob, Refusal};
use millstream_tests::{Lab, Served};
use reqwest::StatusCode;

/// Numbers beyond a double and a digit too many, keys out of order, one twice, and odd blanks.
const BODY: &str = r#"{"z":1, "id":123456789012345678901234567890,"price":1.10,"e":1e2,	"a":[ ],"a":-0.0,"text":"\u00e9\/\\u0000"}"#;

// X05: the kind that forwards its payload
#[tokio::test]
async fn x05_the_http_kind_sends_the_bytes_that_were_enqueued() {
    let mut lab = Lab::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    lab.config.http.allow = vec![address.to_string()];
    let (bodies, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut bytes) = (stream.unwrap(), vec![0; 16 * 1024]);
            let mut read = 0;
            // Head and body may come apart.
            let body = loop {
                read += stream.read(&mut bytes[read..]).unwrap();
                let text = String::from_utf8(bytes[..read].to_vec()).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
                let length = head
                    .to_lowercase()
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if length == Some(body.len()) {
                    break body.to_owned();
                }
            };
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
                .unwrap();
            bodies.send(body).unwrap();
        }
    });
    let _worker = lab.worker().await;
    let api = Served::start(&lab, &["api"]).await;
    let payload = |body: &str| format!(r#"{{"url":"http://{address}/x","body":{body}}}"#);
    let (status, answer) = api
        .post_text(
            "/v1/jobs",
            format!(r#"{{"kind":"http","payload":{}}}"#, payload(BODY)),
        )
        .await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    lab.await_count("completed", 1).await;
    assert_eq!(received.recv().unwrap(), BODY);
    lab.producer()
        .enqueue(NewJob::new("http", payload(r#""\u00e9 is a text""#)))
        .await
        .unwrap();
    lab.await_count("completed", 2).await;
    assert_eq!(received.recv().unwrap(), "é is a text");
    // Through SQL it is equal as jsonb.
    sqlx::query("SELECT millstream.enqueue('http', $1::text::jsonb)")
        .bind(payload(BODY))
        .execute(&lab.pool)
        .await
        .unwrap();
    lab.await_count("completed", 3).await;
    let same: bool = sqlx::query_scalar("SELECT $1::text::jsonb = $2::text::jsonb")
        .bind(received.recv().unwrap())
        .bind(BODY)
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert!(same);
}

// X05: payload and result as people and programs see them
#[tokio::test]
async fn x05_payloads_and_results_are_shown_byte_for_byte() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let api = Served::start(&lab, &["api"]).await;
    let id = lab
        .producer()
        .enqueue(NewJob::new("echo", BODY))
        .await
        .unwrap()
        .id;
    lab.await_state(id, "completed").await;
    for path in [
        format!("/v1/jobs/{id}"),
        "/v1/jobs?kind=echo".to_owned(),
        format!("/v1/jobs/{id}/wait"),
    ] {
        let text = api.get(&path).await.text().await.unwrap();
        assert!(
            text.contains(&format!(r#""payload":{BODY}"#))
                && text.contains(&format!(r#""result":{BODY}"#)),
            "{path}: {text}"
        );
    }
    let shown =
        millstream_tests::process::run(&lab, &["jobs", "show", &id.to_string(), "--json"]).await;
    let text = String::from_utf8(shown.stdout).unwrap();
    // On a terminal a tab between two parts becomes a blank.
    let body = BODY.replace('\t', " ");
    assert!(
        text.contains(&format!(r#""payload":{body}"#))
            && text.contains(&format!(r#""result":{body}"#)),
        "{text}"
    );
}

// X06: the same job is what says the same, by id and by key, at every door
#[tokio::test]
async fn x06_the_same_job_is_told_by_what_it_says_and_not_by_its_bytes() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let same = [
        r#"{"a":1,"b":[1e2,"é"]}"#,
        r#"{ "b":[100,"\u00e9"], "a":1 }"#,
        r#"{"b":0,"b":[100,"é"],"a":1}"#,
    ];
    let other = [
        r#"{"a":1,"b":[100,"e"]}"#,
        r#"{"a":"1","b":[100,"é"]}"#,
        r#"{"a":1,"b":["é",100]}"#,
        "null",
    ];
    let id = new_job_id();
    let by_id = |payload: &str| NewJob {
        id,
        ..NewJob::new("noop", payload)
    };
    let by_key = |payload: &str| NewJob {
        idempotency_key: Some("k".into()),
        ..NewJob::new("noop", payload)
    };
    for (nth, payload) in same.iter().enumerate() {
        for job in [by_id(payload), by_key(payload)] {
            assert_eq!(
                producer.enqueue(job).await.unwrap().duplicate,
                nth > 0,
                "{payload}"
            );
        }
        let sql = "SELECT millstream.enqueue('noop', $1::text::jsonb, idempotency_key => 'k') IS NOT NULL";
        assert!(
            sqlx::query_scalar::<_, bool>(sql)
                .bind(payload)
                .fetch_one(&lab.pool)
                .await
                .unwrap()
        );
    }
    for payload in other {
        for job in [by_id(payload), by_key(payload)] {
            let refused = producer.enqueue(job).await;
            assert!(
                matches!(refused, Err(Error::Refused(Refusal::Conflict(_)))),
                "{payload}: {refused:?}"
            );
        }
        let sql = "SELECT millstream.enqueue('noop', $1::text::jsonb, idempotency_key => 'k')";
        assert!(
            sqlx::query(sql)
                .bind(payload)
                .execute(&lab.pool)
                .await
                .is_err(),
            "{payload}"
        );
    }
    // Both in one batch.
    let id = new_job_id();
    let twice = same.iter().chain(&other[..1]).map(|payload| NewJob {
        id,
        ..NewJob::new("noop", *payload)
    });
    let answers = producer.enqueue_many(twice.collect()).await.unwrap();
    assert_eq!(
        answers.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, true, true, false]
    );
    assert_eq!(lab.number("SELECT count(*) FROM millstream.job").await, 3);
}
