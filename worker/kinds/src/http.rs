//! `http`: posts the job to a URL and reads the outcome from the answer (F31).
//!
//! 2xx is done, 429 and 503 are rate limited (as long as the server says), other 4xx permanent, the rest is retried; a server that cannot be
//! reached at all costs no attempt. Private addresses
//! only where `MILLSTREAM_HTTP__ALLOW` lists them.

use std::{collections::BTreeMap, time::Duration};

use millstream_common::config::Http;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use millstream_outbound::{
    AllowList, OutboundClient, OutboundError, OutboundPolicy, OutboundReply, OutboundRequest,
    ReplyClass, parse_headers, parse_method,
};
use millstream_worker::{Context, Failure, Handler, Outcome, Success};

/// The kind's timeout is the request's deadline and this much for name look-up and settling down.
const MARGIN: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    url: String,
    #[serde(default = "post")]
    method: String,
    body: Option<Box<RawValue>>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

fn post() -> String {
    "POST".into()
}

/// The handler with a client of its own. Fails when the allow list is wrong or TLS cannot work on this machine.
pub(super) fn handler(config: &Http) -> Result<Handler, OutboundError> {
    let allow = AllowList::from_entries(&config.allow)
        .map_err(|e| OutboundError::Invalid(e.to_string()))?;
    let deadline = Duration::from_millis(config.timeout_ms);
    let policy = OutboundPolicy {
        allow,
        deadline,
        reply_bytes_max: config.response_bytes_max,
        ..OutboundPolicy::default()
    };
    let client = OutboundClient::new(&policy)?;
    let run = move |context: Context, request: Request| {
        let client = client.clone();
        async move { send(&client, &context, request).await }
    };
    Ok(Handler::new("http", run).timeout(deadline + MARGIN))
}

async fn send(client: &OutboundClient, context: &Context, request: Request) -> Outcome {
    let outbound = build(context, request).map_err(|e| failure(e.class()))?;
    match client.send(outbound).await {
        Ok(reply) if reply.class() == ReplyClass::Done => Success::with_result(&summary(&reply)),
        Ok(reply) => Err(failure(reply.class())),
        Err(error) => Err(failure(error.class())),
    }
}

fn build(context: &Context, request: Request) -> Result<OutboundRequest, OutboundError> {
    let mut headers = parse_headers(
        request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    )?;
    let body = request.body.as_deref().map(bytes).transpose()?;
    if body.is_some() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    add_job_headers(&mut headers, context);
    Ok(OutboundRequest {
        url: request.url,
        method: parse_method(&request.method)?,
        headers,
        body,
    })
}

/// A text is sent as it is, everything else as JSON in the very bytes in which it was enqueued: a number read and written again may not be
/// the same.
fn bytes(body: &RawValue) -> Result<Vec<u8>, OutboundError> {
    if !body.get().starts_with('"') {
        return Ok(body.get().as_bytes().to_vec());
    }
    let text = serde_json::from_str::<String>(body.get())
        .map_err(|e| OutboundError::Invalid(format!("the body is no text: {e}")))?;
    Ok(text.into_bytes())
}

/// The receiver deduplicates by the key and can fence by the epoch. A payload cannot override them.
fn add_job_headers(headers: &mut HeaderMap, context: &Context) {
    let values = [
        ("idempotency-key", context.idempotency_key()),
        ("millstream-job-id", context.job_id.to_string()),
        ("millstream-epoch", context.epoch.to_string()),
        ("millstream-attempt", context.attempt.to_string()),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

fn summary(reply: &OutboundReply) -> Value {
    json!({ "status": reply.status, "body": reply.stored_body() })
}

fn failure(class: ReplyClass) -> Failure {
    match class {
        ReplyClass::RateLimited { after } => Failure::RateLimited {
            after,
            message: "the server is rate limiting".into(),
        },
        ReplyClass::Permanent { message } => Failure::Permanent(message),
        ReplyClass::Unavailable { message } => Failure::Unavailable(message),
        ReplyClass::Retry { message } => Failure::Retry(message),
        ReplyClass::Done => Failure::Retry("the answer could not be used".into()),
    }
}
