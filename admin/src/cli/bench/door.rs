//! The HTTP API in this process, behind a socket, and a client of it.

use std::sync::Arc;

use millstream_common::{id::JobId, tasks::Tasks};
use tokio_util::sync::CancellationToken;

use super::{
    super::{CommandError, api},
    enqueue::{PAYLOAD, QUEUE},
    site::Site,
};

/// An API that serves until the last clone is dropped.
#[derive(Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    url: Arc<str>,
    token: Arc<str>,
    body: Arc<str>,
    _serving: Arc<Serving>,
}

struct Serving {
    stop: CancellationToken,
    _tasks: Tasks,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Http {
    pub(super) async fn open(site: &Site) -> Result<Self, CommandError> {
        let listener = api::listen(site.context(), "127.0.0.1:0").await?;
        let url = format!("http://{}/v1/jobs", listener.local_addr()?).into();
        let stop = CancellationToken::new();
        let served = api::open(site.context(), stop.clone()).await?;
        let tasks = Tasks::new();
        tasks.spawn(crate::api::serve(served, listener));
        let payload: serde_json::Value =
            serde_json::from_str(PAYLOAD).map_err(|e| CommandError::failed(e.to_string()))?;
        let body =
            serde_json::json!({ "kind": "noop", "queue": QUEUE, "payload": payload }).to_string();
        Ok(Self {
            client: reqwest::Client::new(),
            url,
            token: site.context().config.api.token.expose().into(),
            body: body.into(),
            _serving: Arc::new(Serving {
                stop,
                _tasks: tasks,
            }),
        })
    }

    /// One `POST /v1/jobs`.
    pub(super) async fn enqueue(&self) -> Result<JobId, CommandError> {
        let request = self
            .client
            .post(&*self.url)
            .header("content-type", "application/json")
            .bearer_auth(&self.token);
        let failed = |error: reqwest::Error| CommandError::failed(error.without_url().to_string());
        let answer = request
            .body(self.body.to_string())
            .send()
            .await
            .map_err(failed)?
            .error_for_status()
            .map_err(failed)?;
        let text = answer.text().await.map_err(failed)?;
        let id = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|job| job["id"].as_str()?.parse().ok());
        id.ok_or_else(|| CommandError::failed(format!("the API answered without an id: {text}")))
    }
}
