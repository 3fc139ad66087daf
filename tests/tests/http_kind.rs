//! The kind `http`: what it sends, and what it makes of the answer (F31, F24, F64).

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use millstream_producer::NewJob;
use millstream_tests::Lab;

/// A server that gives these answers in turn, then the last one again, and keeps what it was sent.
fn server(answers: Vec<&'static str>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = heard.clone();
    std::thread::spawn(move || {
        for (nth, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut bytes = vec![0; 16 * 1024];
            let read = stream.read(&mut bytes).unwrap();
            log.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&bytes[..read]).to_lowercase());
            stream
                .write_all(answers[nth.min(answers.len() - 1)].as_bytes())
                .unwrap();
        }
    });
    (address, heard)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
const LIMITED: &str = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const GONE: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn job(address: SocketAddr) -> NewJob {
    NewJob::new(
        "http",
        format!("{{\"url\": \"http://{address}/hook\", \"body\": {{\"a\": 1}}}}"),
    )
}

// F31, F24
#[tokio::test]
async fn a_rate_limited_call_waits_as_asked_and_uses_up_no_attempt() {
    let mut lab = Lab::new().await;
    let (address, heard) = server(vec![LIMITED, OK]);
    lab.config.http.allow = vec![address.to_string()];
    let (producer, _worker) = (lab.producer(), lab.worker().await);
    let id = producer.enqueue(job(address)).await.unwrap().id;
    lab.await_count("completed", 1).await;
    let (attempt, result): (i32, String) =
        sqlx::query_as("SELECT attempt, result::text FROM millstream.job_view WHERE id = $1")
            .bind(id)
            .fetch_one(&lab.pool)
            .await
            .unwrap();
    assert_eq!(attempt, 1);
    assert!(result.contains("\"status\":200"), "{result}");
    let requests = heard.lock().unwrap().clone();
    assert_eq!(requests.len(), 2);
    for header in [
        format!("idempotency-key: {id}"),
        format!("millstream-job-id: {id}"),
        "millstream-attempt: 1".into(),
    ] {
        assert!(
            requests.iter().all(|r| r.contains(&header)),
            "{header} is missing: {requests:?}"
        );
    }
    assert!(
        requests[0].contains("millstream-epoch: 0") && requests[1].contains("millstream-epoch: 1")
    );
}

// S24: private addresses only where they are listed; a 404 is permanent
#[tokio::test]
async fn private_addresses_are_refused_and_a_404_is_permanent() {
    let mut lab = Lab::new().await;
    let (listed, _) = server(vec![GONE]);
    let (unlisted, heard) = server(vec![OK]);
    lab.config.http.allow = vec![listed.to_string()];
    let (producer, _worker) = (lab.producer(), lab.worker().await);
    producer.enqueue(job(listed)).await.unwrap();
    producer.enqueue(job(unlisted)).await.unwrap();
    lab.await_count("dead", 2).await;
    let attempts: Vec<i32> = sqlx::query_scalar("SELECT attempt FROM millstream.job_view")
        .fetch_all(&lab.pool)
        .await
        .unwrap();
    assert_eq!(attempts, [1, 1]);
    assert!(
        heard.lock().unwrap().is_empty(),
        "nothing may be sent to an address that is not listed"
    );
}

// C2: a server that is down buries nothing and costs no attempt
#[tokio::test]
async fn jobs_outlive_a_server_that_is_down() {
    let mut lab = Lab::new().await;
    // A port that was ours a moment ago: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    lab.config.http.allow = vec![address.to_string()];
    let (producer, _worker) = (lab.producer(), lab.worker().await);
    let jobs = (0..5).map(|_| job(address)).collect();
    producer.enqueue_many(jobs).await.unwrap();
    // More tries than the attempts that a job has.
    lab.await_number("SELECT min(epoch)::bigint FROM millstream.job", 4)
        .await;
    assert_eq!(
        (
            lab.count("dead").await,
            lab.number("SELECT max(attempt)::bigint FROM millstream.job")
                .await
        ),
        (0, 0)
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job_error WHERE class <> 'unavailable'")
            .await,
        0
    );
    // Back on the same port.
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 16 * 1024]).unwrap();
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    lab.await_count("completed", 5).await;
}
