//! The only place that opens a connection to somebody else's server.
//!
//! Invariants: no redirect, no proxy (also none from the environment), no automatic decompression (a
//! small answer cannot become a large one), no retry below the caller; the whole exchange, from name
//! look-up to last byte, ends at the deadline; reading stops at the byte cap.
//!
//! Two connectors stand behind it. The strict one vets every resolved address. The other, for hosts
//! that the operator listed by name, takes what the system resolves; a request is sent through it
//! only if its URL was listed, and the two share no connection.
//!
//! A TLS provider of `rustls` must be installed in the process before [`OutboundClient::new`].

use millstream_common::clock;

use super::allow::AllowList;
use super::error::OutboundError;
use super::guard::{CheckedUrl, SystemResolver, VettingResolver, check_url};
use super::request::{OutboundReply, OutboundRequest};
use super::retry_after::retry_after;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Ports on which public hosts serve HTTP. Others belong to mail, databases and shells (S24); the
/// operator opens them one by one as `host:port`.
pub const PUBLIC_PORTS: [u16; 4] = [80, 443, 8080, 8443];

/// Enough for a webhook receiver that does its work before it answers.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A server that cannot be reached in this time is down or filtered.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A job's result is a few kilobytes; a megabyte leaves room for chatty servers.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Response header lines, and their bytes over HTTP/2; common servers send fewer than 30.
const REPLY_HEADERS_MAX: usize = 100;
const REPLY_HEADERS_BYTES_MAX: u32 = 32 * 1024;

/// Idle connections kept for each host; a worker talks to a few hosts, each from some jobs at once.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Who we say we are, so that the owner of a server knows whom to ask.
const USER_AGENT: &str = concat!("millstream/", env!("CARGO_PKG_VERSION"));

/// What outbound requests may do.
#[derive(Debug, Clone)]
pub struct OutboundPolicy {
    /// What may be reached beside public addresses.
    pub allow: AllowList,
    /// Ports open on hosts that are not listed by name and addresses that are not listed.
    pub ports: Vec<u16>,
    /// For the whole exchange, with the answer's last byte.
    pub deadline: Duration,
    /// For the name look-up, and again for TCP and TLS.
    pub connect_timeout: Duration,
    /// Where reading an answer's body stops.
    pub reply_bytes_max: usize,
}

impl Default for OutboundPolicy {
    fn default() -> Self {
        Self {
            allow: AllowList::default(),
            ports: PUBLIC_PORTS.to_vec(),
            deadline: DEADLINE,
            connect_timeout: CONNECT_TIMEOUT,
            reply_bytes_max: REPLY_BYTES_MAX,
        }
    }
}

/// Sends requests under one policy. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct OutboundClient {
    policy: Arc<OutboundPolicy>,
    strict: Client,
    listed: Client,
}

impl OutboundClient {
    /// Builds both connectors. Fails where TLS cannot work: no root certificates on the machine.
    pub fn new(policy: &OutboundPolicy) -> Result<Self, OutboundError> {
        let system: Arc<dyn Resolve> = Arc::new(SystemResolver {
            deadline: policy.connect_timeout,
        });
        let vetting = VettingResolver {
            inner: Arc::clone(&system),
            allow: Arc::new(policy.allow.clone()),
        };
        Ok(Self {
            strict: connector(policy, Arc::new(vetting))?,
            listed: connector(policy, system)?,
            policy: Arc::new(policy.clone()),
        })
    }

    /// Sends one request, once. Every answer is a reply, whatever its status; see
    /// [`OutboundReply::class`] and [`OutboundError::class`] for what to do next.
    pub async fn send(&self, request: OutboundRequest) -> Result<OutboundReply, OutboundError> {
        let checked = check_url(&request.url, &self.policy.allow, &self.policy.ports)
            .map_err(OutboundError::Refused)?;
        let origin = checked.url.origin().ascii_serialization();
        let deadline = self.policy.deadline;
        match timeout(deadline, self.exchange(request, checked, &origin)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(OutboundError::timed_out(&origin, deadline)),
        }
    }

    async fn exchange(
        &self,
        request: OutboundRequest,
        checked: CheckedUrl,
        origin: &str,
    ) -> Result<OutboundReply, OutboundError> {
        let response = self
            .prepare(request, checked.url, checked.host_is_listed)
            .send()
            .await
            .map_err(|error| OutboundError::in_flight(origin, &error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = read_capped(response, self.policy.reply_bytes_max)
            .await
            .map_err(|error| OutboundError::in_flight(origin, &error))?;
        Ok(reply(origin, status, &headers, &body))
    }

    fn prepare(&self, request: OutboundRequest, url: Url, listed: bool) -> reqwest::RequestBuilder {
        let client = if listed { &self.listed } else { &self.strict };
        let builder = client.request(request.method, url).headers(request.headers);
        match request.body {
            Some(body) => builder.body(body),
            None => builder,
        }
    }
}

fn connector(policy: &OutboundPolicy, resolver: Arc<dyn Resolve>) -> Result<Client, OutboundError> {
    Client::builder()
        .dns_resolver(resolver)
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .connect_timeout(policy.connect_timeout)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http1_max_headers(REPLY_HEADERS_MAX)
        .http2_max_header_list_size(REPLY_HEADERS_BYTES_MAX)
        .user_agent(USER_AGENT)
        .build()
        .map_err(|error| OutboundError::setup(&error))
}

struct CappedBody {
    bytes: Vec<u8>,
    truncated: bool,
}

/// Dropping the response closes the connection, so the server cannot go on sending.
async fn read_capped(
    mut response: Response,
    bytes_max: usize,
) -> Result<CappedBody, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = bytes_max.saturating_sub(bytes.len());
        if chunk.len() > room {
            bytes.extend_from_slice(&chunk[..room]);
            return Ok(CappedBody {
                bytes,
                truncated: true,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(CappedBody {
        bytes,
        truncated: false,
    })
}

fn reply(origin: &str, status: u16, headers: &HeaderMap, body: &CappedBody) -> OutboundReply {
    let json = if body.truncated || !is_json(headers) {
        None
    } else {
        serde_json::from_slice(&body.bytes).ok()
    };
    OutboundReply {
        origin: origin.to_owned(),
        status,
        body: String::from_utf8_lossy(&body.bytes).replace('\0', "\u{fffd}"),
        truncated: body.truncated,
        retry_after: retry_after(status, headers, json.as_ref(), clock::now()),
        json,
    }
}

/// `application/json`, and relatives such as `application/problem+json; charset=utf-8`.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}

#[cfg(test)]
mod tests;
