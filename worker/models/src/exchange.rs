//! One JSON call to a model server: send, sort failures, read the typed answer.
//!
//! Invariants: the key is in the `authorization` header and nowhere else; an answer that is cut off or
//! no JSON is an error, never a partial result; what the server says about a failure is shown bounded,
//! redacted and without the key. It knows no protocol.

use millstream_common::redact::error_line;
use millstream_outbound::{OutboundClient, OutboundReply, OutboundRequest, ReplyClass};

use super::error::ModelError;
use millstream_common::config::Secret;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Enough for "the input has 600 tokens, the limit is 512"; more would carry the text back.
const DETAIL_BYTES_MAX: usize = 300;

/// How to reach one server. Clones share connections.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    client: OutboundClient,
    base: String,
    key: Option<Secret>,
}

impl Endpoint {
    /// `base_url` with or without the trailing slash. Whether its host may be reached is the client's
    /// policy, checked with each request.
    pub(super) fn new(
        client: OutboundClient,
        base_url: &str,
        key: Option<Secret>,
    ) -> Result<Self, ModelError> {
        let invalid =
            |why: &str| ModelError::permanent(format!("the model server's base URL {why}"));
        let url = Url::parse(base_url).map_err(|_| invalid("is not an absolute URL"))?;
        // `localhost:8080` without `http://` parses, as a URL of the scheme `localhost`.
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("does not begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(invalid(
                "carries a user name, password or query; put the key into its own setting",
            ));
        }
        let base = url.as_str().split('#').next().unwrap_or_default();
        let base = base.trim_end_matches('/').to_owned();
        if let Some(key) = &key {
            bearer(key)?;
        }
        Ok(Self { client, base, key })
    }

    /// The same server under a base that ends before `suffix`, for bases given as `…/v1`.
    pub(super) fn without_suffix(mut self, suffix: &str) -> Self {
        if let Some(short) = self.base.strip_suffix(suffix) {
            self.base = short.to_owned();
        }
        self
    }

    /// Posts `body` as JSON. The error is sorted already; `reclass` may overrule a status that means
    /// something else in this protocol.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        reclass: fn(&OutboundReply) -> ReplyClass,
    ) -> Result<T, ModelError> {
        let reply = self
            .send(Method::POST, path, Some(body.to_string()))
            .await?;
        self.read(&reply, reclass(&reply))
    }

    /// Gets a JSON document.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ModelError> {
        let reply = self.send(Method::GET, path, None).await?;
        self.read(&reply, reply.class())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<OutboundReply, ModelError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = &self.key {
            headers.insert(AUTHORIZATION, bearer(key)?);
        }
        let request = OutboundRequest {
            url: format!("{}{path}", self.base),
            method,
            headers,
            body: body.map(String::into_bytes),
        };
        Ok(self.client.send(request).await?)
    }

    fn read<T: DeserializeOwned>(
        &self,
        reply: &OutboundReply,
        class: ReplyClass,
    ) -> Result<T, ModelError> {
        if let Some(error) = ModelError::from_class(class, self.detail(reply).as_deref()) {
            return Err(error);
        }
        if reply.truncated {
            return Err(ModelError::permanent(format!(
                "{} answered with more than {} bytes; ask for less at once or raise the limit",
                reply.origin,
                reply.body.len()
            )));
        }
        // The parser's own message can quote the answer, so it is reduced to where and what kind.
        serde_json::from_str(&reply.body).map_err(|error| {
            let kind = error.classify();
            ModelError::retry(format!(
                "{} answered in a form that is not understood ({kind:?} error, line {})",
                reply.origin,
                error.line()
            ))
        })
    }

    /// What the server says: `{"error": {"message": …}}` (`OpenAI`), `{"error": …}` (TEI), or
    /// `{"message": …}`, `{"detail": …}` (their imitators).
    fn detail(&self, reply: &OutboundReply) -> Option<String> {
        let json = reply.json.as_ref()?;
        let said = ["/error/message", "/error", "/message", "/detail"]
            .iter()
            .find_map(|pointer| json.pointer(pointer)?.as_str())?;
        let said = match &self.key {
            Some(key) => key.hide_in(said),
            None => said.to_owned(),
        };
        Some(error_line(&said, DETAIL_BYTES_MAX)).filter(|line| !line.is_empty())
    }
}

fn bearer(key: &Secret) -> Result<HeaderValue, ModelError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| {
        ModelError::permanent("the model server's key holds characters that no header may hold")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
