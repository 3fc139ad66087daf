//! Clients of our own servers that say nothing, half of something, or take no answer.

use std::io;

use millstream_tests::{Lab, Served, eventually, faults::machine::limit_descriptors};
use reqwest::StatusCode;
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// More than the descriptors of the process that is asked.
const SILENT: usize = 150;
const DESCRIPTORS: u64 = 128;
/// Answers of some kilobytes each: more than the buffers between two processes of a machine take.
const UNREAD_ANSWERS: usize = 4_000;

async fn connect(served: &Served) -> TcpStream {
    TcpStream::connect(served.address())
        .await
        .expect("somebody listens")
}

/// Whether the other side has closed it.
fn is_closed(client: &TcpStream) -> bool {
    let mut bytes = [0; 512];
    match client.try_read(&mut bytes) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Half a head, a client that takes no answer, and one that has been answered and keeps its connection.
async fn rude_clients(served: &Served) -> Vec<TcpStream> {
    let mut half = connect(served).await;
    half.write_all(b"GET /metrics HTTP/1.1\r\nHost: loc")
        .await
        .unwrap();
    let deaf = connect(served).await;
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Until the other side reads no more, since nobody takes its answers.
    let mut sent = 0;
    while sent < UNREAD_ANSWERS {
        match deaf.try_write(request) {
            Ok(_) => sent += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    let mut kept = connect(served).await;
    kept.write_all(request).await.unwrap();
    assert!(kept.read(&mut [0; 64]).await.unwrap() > 0, "it is answered");
    vec![half, deaf, kept]
}

#[tokio::test]
async fn x23_rude_clients_do_not_keep_an_api_or_a_worker_from_ending() {
    let lab = Lab::new().await;
    for args in [["api"], ["worker"]] {
        let mut served = Served::start(&lab, &args).await;
        let _clients = rude_clients(&served).await;
        served.process.signal(Signal::TERM);
        assert_eq!(served.process.exit_code().await, Some(0), "{args:?}");
        assert!(
            !served.log().contains("cut off"),
            "nothing was in progress: {}",
            served.log()
        );
    }
}

/// A crowd of silent clients, more than there are descriptors; the port goes on answering, and says one line.
async fn survives_a_silent_crowd(lab: &Lab, args: &[&str]) {
    let served = Served::start(lab, args).await;
    limit_descriptors(&served.process, DESCRIPTORS);
    let mut crowd = Vec::new();
    for nth in 0..SILENT {
        crowd.push(connect(&served).await);
        if nth % 50 == 49 {
            assert_eq!(
                served.get("/livez").await.status(),
                StatusCode::OK,
                "after {nth} silent clients"
            );
        }
    }
    eventually("every silent client is closed", async || {
        crowd.iter().all(is_closed).then_some(())
    })
    .await;
    assert_eq!(served.get("/readyz").await.status(), StatusCode::OK);
    let log = served.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("connections of a port") || line.contains("let in"))
        .collect();
    assert_eq!(lines.len(), 1, "the crowd is told of once: {lines:?}");
}

#[tokio::test]
async fn x24_silent_clients_do_not_close_the_port_of_an_api() {
    survives_a_silent_crowd(&Lab::new().await, &["api"]).await;
}

#[tokio::test]
async fn x24_silent_clients_do_not_close_the_port_of_a_worker() {
    survives_a_silent_crowd(&Lab::new().await, &["worker"]).await;
}

/// The status line of the answer to raw bytes.
async fn answer(served: &Served, request: &str) -> String {
    let mut client = connect(served).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 4096];
    let read = client.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..read])
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn x72_a_request_that_names_its_host_or_its_token_twice_is_refused() {
    let mut lab = Lab::new().await;
    lab.config.api.token = millstream_common::config::Secret::new("s3cret");
    let api = Served::start(&lab, &["api"]).await;
    let (host, token) = ("Host: localhost\r\n", "Authorization: Bearer s3cret\r\n");
    let cases = [
        (format!("{host}{token}"), "200 OK"),
        (format!("{host}{host}{token}"), "400 Bad Request"),
        (
            format!("{host}Host: evil.example\r\n{token}"),
            "400 Bad Request",
        ),
        (format!("{host}{token}{token}"), "400 Bad Request"),
        (
            format!("{host}{token}Authorization: Bearer wrong\r\n"),
            "400 Bad Request",
        ),
        (
            format!("{host}Authorization: Bearer wrong\r\n{token}"),
            "400 Bad Request",
        ),
        (
            format!("{host}{token}Content-Type: a/b\r\nContent-Type: a/c\r\n"),
            "400 Bad Request",
        ),
        (host.to_owned(), "401 Unauthorized"),
    ];
    for (headers, expected) in cases {
        let seen = answer(&api, &format!("GET /v1/queues HTTP/1.1\r\n{headers}\r\n")).await;
        assert_eq!(seen, format!("HTTP/1.1 {expected}"), "{headers}");
    }
}
