//! A real HTTP server for tests, on 127.0.0.1: it answers each connection with fixed bytes.
//!
//! One answer per connection, in order, the last one again and again; requests are kept for the test
//! to look at. It parses no more of HTTP than the length of the request.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

use crate::{AllowList, OutboundClient, OutboundPolicy};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longer than any healthy answer on this machine; only a broken test waits for it.
const TEST_DEADLINE: Duration = Duration::from_secs(20);

/// How a connection is answered.
#[derive(Clone)]
pub enum Answer {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// These bytes, then more for as long as the client reads.
    Endless(Vec<u8>),
    /// These bytes, then silence with the connection open.
    Silent(Vec<u8>),
}

impl Answer {
    /// A whole answer with this body.
    pub fn json(status: &str, extra_headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(
            format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{extra_headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    }
}

/// The server; it ends with this value.
pub struct TestServer {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl TestServer {
    /// Starts it on a free port.
    pub async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, answers, Arc::clone(&requests)));
        Self {
            address,
            requests,
            _tasks: tasks,
        }
    }

    /// Of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request so far, head and body as text.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, answers: Vec<Answer>, requests: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    while let Ok((stream, _)) = listener.accept().await {
        let answer = answers[number.min(answers.len() - 1)].clone();
        number += 1;
        connections.spawn(answer_one(stream, answer, Arc::clone(&requests)));
    }
}

async fn answer_one(mut stream: TcpStream, answer: Answer, requests: Arc<Mutex<Vec<String>>>) {
    let request = read_request(&mut stream).await;
    requests.lock().unwrap().push(request);
    // The client may hang up at any point; that is what some tests are about.
    match answer {
        Answer::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Answer::Endless(bytes) => {
            let _ = stream.write_all(&bytes).await;
            while stream.write_all(&[b'x'; 4_096]).await.is_ok() {}
        }
        Answer::Silent(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let mut rest = [0; 64];
            while matches!(stream.read(&mut rest).await, Ok(read) if read > 0) {}
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if read == 0 || is_whole(&text) {
            return text;
        }
    }
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .to_ascii_lowercase()
        .lines()
        .find_map(|line| {
            line.strip_prefix("content-length:")?
                .trim()
                .parse::<usize>()
                .ok()
        })
        .unwrap_or(0);
    body.len() >= length
}

/// A client for tests that may reach what `allow` lists.
pub fn client(allow: &str) -> OutboundClient {
    client_with(&OutboundPolicy {
        allow: AllowList::parse(allow).unwrap(),
        deadline: TEST_DEADLINE,
        ..OutboundPolicy::default()
    })
}

/// A client for tests with this policy.
pub fn client_with(policy: &OutboundPolicy) -> OutboundClient {
    // Another test of the same process may have installed it first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    OutboundClient::new(policy).unwrap()
}
