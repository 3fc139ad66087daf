//! The port of a worker: `/metrics`, `/livez`, `/readyz`. None of them asks a server.

use std::{sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    Health,
    listen::{self, Body, Limits},
};

/// Clients at a time: an orchestrator, a scraper or two, and people.
const CLIENTS_MAX: usize = 64;
/// Of the descriptors of a worker so few are theirs: the rest is for jobs.
const DESCRIPTORS_SHARE: u64 = 8;
/// A probe is answered at once or not at all.
const DRAIN: Duration = Duration::from_secs(2);
/// How JSON is announced.
const JSON: &str = "application/json";

/// Serves until `end`.
pub(super) async fn serve(listener: TcpListener, health: Health, end: CancellationToken) {
    let limits = Limits {
        connections: CLIENTS_MAX,
        share: DESCRIPTORS_SHARE,
        drain: DRAIN,
    };
    let answer = Arc::new(move |request| {
        let answer = answer(&health, &request);
        Box::pin(std::future::ready(answer)) as futures::future::BoxFuture<'static, _>
    });
    listen::serve(listener, answer, limits, end).await;
}

fn answer(health: &Health, request: &Request<Incoming>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return say(StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new());
    }
    match request.uri().path() {
        "/metrics" => say(
            StatusCode::OK,
            millstream_common::metrics::CONTENT_TYPE,
            health.metrics(),
        ),
        "/livez" => livez(health),
        "/readyz" => readyz(health),
        _ => say(StatusCode::NOT_FOUND, "text/plain", String::new()),
    }
}

fn livez(health: &Health) -> Response<Body> {
    let stuck = health.stuck_loops();
    let answer = serde_json::json!({ "alive": stuck.is_empty(), "stuck_loops": stuck });
    say(good_if(stuck.is_empty()), JSON, answer.to_string())
}

fn readyz(health: &Health) -> Response<Body> {
    let readiness = health.readiness();
    let text = serde_json::to_string(&readiness).unwrap_or_default();
    say(good_if(readiness.ready), JSON, text)
}

fn good_if(well: bool) -> StatusCode {
    if well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn say(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(listen::body(Full::from(text)));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
