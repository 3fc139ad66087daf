//! The real command as a process that answers over HTTP, for tests of its probes, its metrics and its log.

use std::path::PathBuf;

use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use crate::{Lab, Process, eventually};

/// A running `millstream api` or `millstream worker`; killed when dropped.
pub struct Served {
    /// For signals.
    pub process: Process,
    base: String,
    client: Client,
    log: PathBuf,
}

impl Served {
    /// Starts `millstream ARGS… --listen ADDRESS` and waits until it answers.
    pub async fn start(lab: &Lab, args: &[&str]) -> Self {
        // Bound and given up again: the command binds it a moment later.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .expect("a free port")
            .local_addr()
            .expect("its address")
            .port();
        let address = format!("127.0.0.1:{port}");
        let log = lab.folder().join(format!("{}-{port}.log", args[0]));
        let process = Process::start_logging(lab, &[args, &["--listen", &address]].concat(), &log);
        let served = Self {
            process,
            base: format!("http://{address}"),
            client: Client::new(),
            log,
        };
        eventually("the process answers", async || {
            served
                .client
                .get(served.url("/readyz"))
                .send()
                .await
                .ok()
                .filter(is_ok)
        })
        .await;
        served
    }

    /// Where it listens, as `HOST:PORT`.
    pub fn address(&self) -> &str {
        self.base
            .strip_prefix("http://")
            .expect("a base of our own")
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Asks.
    pub async fn get(&self, path: &str) -> Response {
        self.client
            .get(self.url(path))
            .send()
            .await
            .expect("an answer")
    }

    /// Asks for JSON, whatever the status.
    pub async fn json(&self, path: &str) -> (StatusCode, Value) {
        let reply = self.get(path).await;
        (reply.status(), reply.json().await.expect("JSON"))
    }

    /// Sends JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.client
            .post(self.url(path))
            .json(body)
            .send()
            .await
            .expect("an answer")
    }

    /// Sends JSON text as it is.
    pub async fn post_text(&self, path: &str, text: String) -> (StatusCode, Value) {
        let request = self
            .client
            .post(self.url(path))
            .header("content-type", "application/json")
            .body(text);
        let reply = request.send().await.expect("an answer");
        (reply.status(), reply.json().await.expect("JSON"))
    }

    /// Waits until `/readyz` is as wanted, and returns it.
    pub async fn await_ready(
        &self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> (StatusCode, Value) {
        eventually(what, async || {
            Some(self.json("/readyz").await).filter(|(_, body)| wanted(body))
        })
        .await
    }

    /// The value of the one sample whose line starts so; 0 if there is none.
    pub async fn sample(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.text().await.expect("metrics");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }
}

fn is_ok(reply: &Response) -> bool {
    reply.status().is_success()
}
