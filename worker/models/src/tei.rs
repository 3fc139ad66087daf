//! Text Embeddings Inference servers (Hugging Face): one model per server, no key by default.
//!
//! Facts relied on: 429 with `error_type: overloaded` means its queue is full, without a hint how
//! long; 413 means a batch or text beyond its limits; 422 a text it cannot tokenise; 424 that the
//! inference itself failed. `/info` names the model and its limits but not its dimension, which is
//! learnt from a first vector.

use millstream_outbound::{OutboundClient, OutboundReply, ReplyClass, classify};

use super::embeddings::{Embeddings, check_texts};
use super::error::ModelError;
use super::exchange::Endpoint;
use millstream_common::config::Secret;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OnceCell;

/// The server's default for texts in one request (`--max-client-batch-size`); a longer call is split.
const BATCH_TEXTS: usize = 32;

/// Any short text serves to learn the dimension.
const PROBE: &str = "dimension";

/// One TEI server.
#[derive(Debug, Clone, Default)]
pub struct TeiSettings {
    /// For example `http://127.0.0.1:8080`.
    pub base_url: String,
    /// Bearer token, for servers started with `--api-key`.
    pub api_key: Option<Secret>,
    /// Name stored with the vectors; `None` asks the server once.
    pub model: Option<String>,
    /// Numbers per vector; any other answer is a failure. `None` takes what comes.
    pub dimension: Option<usize>,
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TeiInfo {
    /// Name of its model, for example `intfloat/multilingual-e5-small`.
    pub model_id: String,
    /// Tokens of one text that it reads; it truncates after them.
    pub max_input_length: Option<usize>,
    /// Texts that it takes in one request.
    pub max_client_batch_size: Option<usize>,
    /// Numbers per vector, as learnt from a vector; the server does not tell.
    #[serde(skip)]
    pub dimension: Option<usize>,
}

/// A server that can be asked.
#[derive(Debug)]
pub struct TeiServer {
    endpoint: Endpoint,
    settings: TeiSettings,
    /// The server's own word, asked for once in the life of this value: a TEI process never changes
    /// its model, and one that came back with another model fails the dimension check or is restarted
    /// with us.
    told: OnceCell<TeiInfo>,
}

impl TeiServer {
    /// Fails permanently on a base URL or key that cannot be used; connects to nothing yet.
    pub fn new(client: OutboundClient, settings: TeiSettings) -> Result<Self, ModelError> {
        Ok(Self {
            endpoint: Endpoint::new(client, &settings.base_url, settings.api_key.clone())?,
            settings,
            told: OnceCell::new(),
        })
    }

    /// Model, limits and dimension: one request to `/info` and one to `/embed`.
    pub async fn info(&self) -> Result<TeiInfo, ModelError> {
        let mut info = self.told().await?.clone();
        let probe = self.embed_batch(&[PROBE.to_owned()]).await?;
        info.dimension = probe.first().map(Vec::len);
        Ok(info)
    }

    /// One vector per text, in their order; texts beyond the model's length are cut by the server.
    /// The server counts no tokens. A failure of one batch fails the call.
    pub async fn embed(&self, texts: &[String]) -> Result<Embeddings, ModelError> {
        check_texts(texts)?;
        let model = match &self.settings.model {
            Some(model) => model.clone(),
            None => self.told().await?.model_id.clone(),
        };
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(self.batch_texts()) {
            vectors.extend(self.embed_batch(batch).await?);
        }
        Embeddings::checked(model, vectors, texts.len(), self.settings.dimension, None)
    }

    async fn told(&self) -> Result<&TeiInfo, ModelError> {
        self.told
            .get_or_try_init(|| self.endpoint.get("/info"))
            .await
    }

    fn batch_texts(&self) -> usize {
        let told = self.told.get().and_then(|info| info.max_client_batch_size);
        told.unwrap_or(BATCH_TEXTS).max(1)
    }

    /// Counted per batch, since two wrong batches could add up to the right number.
    async fn embed_batch(&self, batch: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        let body = json!({"inputs": batch, "truncate": true});
        let vectors: Vec<Vec<f32>> = self.endpoint.post("/embed", &body, classify_tei).await?;
        if vectors.len() == batch.len() {
            return Ok(vectors);
        }
        Err(ModelError::retry(format!(
            "the model server returned {} vectors for {} texts",
            vectors.len(),
            batch.len()
        )))
    }
}

/// 424 is a 5xx in disguise: the backend failed, for example out of memory, not the request.
fn classify_tei(reply: &OutboundReply) -> ReplyClass {
    match (reply.status, classify(reply)) {
        (424, ReplyClass::Permanent { message }) => ReplyClass::Retry { message },
        (_, class) => class,
    }
}

#[cfg(test)]
mod tests;
