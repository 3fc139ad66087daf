//! Bodies and pages that are larger than anybody needs: bounded work and memory, and an answer.

use millstream_tests::{Lab, Process, Served, ask::send, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1024 * 1024;
/// Just below the limit of a bulk body.
const BULK_BYTES: usize = 16 * 1024 * 1024 - 1024;
/// Bodies in memory, what an allocator keeps of them, and buffers; far below one value per item.
const GROWTH_MAX: u64 = 160 * MIB;

/// The most memory that a process has had so far.
fn peak_bytes(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))
        .expect("the process runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("a peak");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse::<u64>()
        .expect("a number")
        * 1024
}

fn assert_flat(served: &Served, before: u64) {
    let growth = peak_bytes(&served.process).saturating_sub(before) / MIB;
    assert!(growth < GROWTH_MAX / MIB, "{growth} MiB more than before");
}

#[tokio::test]
async fn x65_a_bulk_body_of_millions_of_items_is_refused_in_flat_memory() {
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let before = peak_bytes(&api.process);
    let body = format!("[{}1]", "1,".repeat(BULK_BYTES / 2));
    let at_once = (0..4).map(|_| api.post_text("/v1/jobs/bulk", body.clone()));
    for (status, problem) in futures::future::join_all(at_once).await {
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("1 to 1000 jobs"),
            "{problem}"
        );
    }
    assert_flat(&api, before);
    assert_eq!(api.get("/livez").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn x66_a_form_without_its_boundary_is_refused_before_it_is_in_memory() {
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let before = peak_bytes(&api.process);
    let mut client = TcpStream::connect(api.address()).await.unwrap();
    let head = "POST /v1/documents HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x1_0000], b"\r\n"].concat();
    // Until the API answers and closes; without an answer this would go on for gigabytes.
    let mut sent = 0;
    while sent < 1024 * MIB && client.write_all(&chunk).await.is_ok() {
        sent += chunk.len() as u64;
    }
    assert!(sent < 1024 * MIB, "the API took everything");
    // The answer may be lost in the reset that follows what was sent after it.
    let mut answer = [0; 12];
    if client.read_exact(&mut answer).await.is_ok() {
        assert_eq!(&answer, b"HTTP/1.1 400");
    }
    assert_flat(&api, before);
}

#[tokio::test]
async fn x66_a_page_of_large_jobs_ends_at_its_bytes_and_the_next_one_goes_on() {
    const JOBS: usize = 200;
    let lab = Lab::new().await;
    let worker = lab.worker().await;
    let payload = serde_json::to_string(&"x".repeat(60_000)).unwrap();
    let sent = send(&lab.producer(), "echo", &payload, JOBS).await;
    lab.await_all_completed(JOBS as i64).await;
    worker.drain(CancellationToken::new()).await;
    let api = Served::start(&lab, &["api"]).await;
    let (mut seen, mut path, mut pages) =
        (Vec::<uuid::Uuid>::new(), "/v1/jobs?limit=500".to_owned(), 0);
    loop {
        let reply = api.get(&path).await;
        let text = reply.text().await.unwrap();
        assert!(
            text.len() < 10 * MIB as usize,
            "a page of {} bytes",
            text.len()
        );
        let page: Value = serde_json::from_str(&text).unwrap();
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|job| job["id"].as_str().unwrap().parse::<uuid::Uuid>().unwrap()),
        );
        pages += 1;
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/jobs?limit=500&cursor={cursor}");
    }
    // Payload and result: 24 MB.
    assert!(pages >= 3, "{pages} pages");
    let newest_first: Vec<uuid::Uuid> = sent.into_iter().rev().collect();
    assert_eq!(seen, newest_first, "every job once");
    let small = api.json("/v1/jobs?limit=1").await.1;
    assert_eq!(
        small["items"].as_array().map(Vec::len),
        Some(1),
        "{}",
        json!(small["next_cursor"])
    );
}

/// A client that has sent so much of a request, and sends no more.
async fn half_sent(api: &Served, request: String) -> TcpStream {
    let mut client = TcpStream::connect(api.address()).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

// X65: whoever has room for his body and does not send it gives the room back
#[tokio::test]
async fn x65_a_bulk_body_that_does_not_come_is_given_up() {
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let head = "POST /v1/jobs/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 16000000\r\n\r\n[";
    let mut client = half_sent(&api, head.to_owned()).await;
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

/// What the API answers to a small file, and whether it says when to come again.
async fn upload(api: &Served) -> (u16, bool) {
    let body = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.pdf\"\r\n\r\n%PDF-1.4\r\n--b--\r\n";
    let head = format!(
        "POST /v1/documents HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = half_sent(api, head + body).await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let status = answer
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_default();
    (
        status,
        answer.to_ascii_lowercase().contains("\r\nretry-after: "),
    )
}

// X66
#[tokio::test]
async fn x66_uploads_at_a_time_have_a_number_and_one_more_is_told_to_come_again() {
    const UPLOADS: usize = 32;
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let begun = "POST /v1/documents HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n\
                 --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.pdf\"\r\n\r\n%PDF";
    let mut uploads = Vec::new();
    for _ in 0..UPLOADS {
        uploads.push(half_sent(&api, begun.to_owned()).await);
    }
    eventually("there is no place for one more", async || {
        let is_full = upload(&api).await == (503, true);
        // This one may have had the place of one of those.
        uploads.push(half_sent(&api, begun.to_owned()).await);
        is_full.then_some(())
    })
    .await;
    eventually("one that has gone leaves its place", async || {
        uploads.pop();
        (upload(&api).await.0 == 202).then_some(())
    })
    .await;
}
