//! OpenAI-compatible servers: embeddings, and chat completions that answer in JSON.
//!
//! Spoken by `OpenAI`, Azure's v1 route, vLLM, llama.cpp, Ollama, LM Studio and most gateways. Only the
//! fields that all of them take are sent. It does not know what the prompts ask (see
//! [`prompts`](super::prompts)) nor what the answers mean.

use millstream_outbound::{OutboundClient, classify};

use super::embeddings::{Embeddings, check_texts};
use super::error::ModelError;
use super::exchange::Endpoint;
use millstream_common::config::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

/// `OpenAI` takes 2,048 inputs in one call; larger calls are refused whole.
pub const TEXTS_MAX: usize = 2_048;

/// One OpenAI-compatible server and the models to ask there.
#[derive(Debug, Clone, Default)]
pub struct OpenAiSettings {
    /// For example `https://api.openai.com`; a trailing `/v1` is understood.
    pub base_url: String,
    /// Sent as a bearer token; local servers mostly need none.
    pub api_key: Option<Secret>,
    /// Model for [`OpenAiServer::embed`].
    pub embedding_model: String,
    /// Model for [`OpenAiServer::complete_json`].
    pub chat_model: String,
    /// Numbers per vector; any other answer is a failure. `None` takes what comes.
    pub dimension: Option<usize>,
    /// Ask for `dimension` (models that can shorten their vectors); other servers refuse the field.
    pub request_dimension: bool,
    /// The chat model reasons: it takes `max_completion_tokens` and no `temperature`.
    pub reasoning_model: bool,
}

/// A server that can be asked. Clones share connections.
#[derive(Debug, Clone)]
pub struct OpenAiServer {
    endpoint: Endpoint,
    settings: OpenAiSettings,
}

#[derive(Deserialize)]
struct EmbeddingAnswer {
    data: Vec<EmbeddingItem>,
    model: Option<String>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct EmbeddingItem {
    /// Some imitators leave it out; then the order of the answer is the order of the texts.
    index: Option<usize>,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct ChatAnswer {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: Option<u64>,
    prompt_tokens: Option<u64>,
}

impl Usage {
    fn tokens(&self) -> Option<u64> {
        self.total_tokens.or(self.prompt_tokens)
    }
}

impl OpenAiServer {
    /// Fails permanently on a base URL or key that cannot be used; connects to nothing yet.
    pub fn new(client: OutboundClient, settings: OpenAiSettings) -> Result<Self, ModelError> {
        let endpoint = Endpoint::new(client, &settings.base_url, settings.api_key.clone())?;
        Ok(Self {
            endpoint: endpoint.without_suffix("/v1"),
            settings,
        })
    }

    /// One vector per text, in their order, and the tokens that the server counted.
    pub async fn embed(&self, texts: &[String]) -> Result<Embeddings, ModelError> {
        check_texts(texts)?;
        if texts.len() > TEXTS_MAX {
            return Err(ModelError::permanent(format!(
                "more than {TEXTS_MAX} texts in one call"
            )));
        }
        let body = self.embedding_body(texts);
        let answer: EmbeddingAnswer = self
            .endpoint
            .post("/v1/embeddings", &body, classify)
            .await?;
        let tokens = answer.usage.as_ref().and_then(Usage::tokens);
        let model = answer
            .model
            .unwrap_or_else(|| self.settings.embedding_model.clone());
        let vectors = in_order(answer.data)?;
        Embeddings::checked(model, vectors, texts.len(), self.settings.dimension, tokens)
    }

    /// Asks for one JSON object. Returns it with the tokens that the server counted for question and
    /// answer.
    pub async fn complete_json(
        &self,
        system: &str,
        user: &str,
        max_tokens: u32,
    ) -> Result<(Value, Option<u64>), ModelError> {
        let body = self.chat_body(system, user, max_tokens);
        let answer: ChatAnswer = self
            .endpoint
            .post("/v1/chat/completions", &body, classify)
            .await?;
        let tokens = answer.usage.as_ref().and_then(Usage::tokens);
        let choice = answer.choices.into_iter().next();
        let choice = choice.ok_or_else(|| ModelError::retry("the model gave no answer"))?;
        Ok((json_object(&choice)?, tokens))
    }

    fn embedding_body(&self, texts: &[String]) -> Value {
        let mut body = json!({
            "model": self.settings.embedding_model,
            "input": texts,
            "encoding_format": "float",
        });
        if let (true, Some(dimension)) = (self.settings.request_dimension, self.settings.dimension)
        {
            body["dimensions"] = dimension.into();
        }
        body
    }

    fn chat_body(&self, system: &str, user: &str, max_tokens: u32) -> Value {
        let mut body = json!({
            "model": self.settings.chat_model,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": user},
            ],
            "response_format": {"type": "json_object"},
        });
        if self.settings.reasoning_model {
            body["max_completion_tokens"] = max_tokens.into();
        } else {
            body["max_tokens"] = max_tokens.into();
            // The same chunk should give the same answer when its job is tried again.
            body["temperature"] = 0.into();
        }
        body
    }
}

/// Puts the vectors into the order of the texts; every index must occur exactly once.
fn in_order(items: Vec<EmbeddingItem>) -> Result<Vec<Vec<f32>>, ModelError> {
    let mut slots: Vec<Option<Vec<f32>>> = Vec::new();
    slots.resize_with(items.len(), || None);
    for (position, item) in items.into_iter().enumerate() {
        match slots.get_mut(item.index.unwrap_or(position)) {
            Some(slot @ None) => *slot = Some(item.embedding),
            _ => {
                return Err(ModelError::retry(
                    "the model server numbered its vectors wrongly",
                ));
            }
        }
    }
    Ok(slots.into_iter().flatten().collect())
}

fn json_object(choice: &Choice) -> Result<Value, ModelError> {
    if choice.message.refusal.is_some() || choice.finish_reason.as_deref() == Some("content_filter")
    {
        return Err(ModelError::permanent("the model refused to answer"));
    }
    if choice.finish_reason.as_deref() == Some("length") {
        return Err(ModelError::permanent(
            "the model's answer was cut off at its token limit",
        ));
    }
    let content = choice.message.content.as_deref().unwrap_or_default();
    match serde_json::from_str(without_fence(content)) {
        Ok(object @ Value::Object(_)) => Ok(object),
        _ => Err(ModelError::retry("the model's answer is not a JSON object")),
    }
}

/// Small local models wrap JSON into a Markdown fence although they were asked for JSON only.
fn without_fence(content: &str) -> &str {
    let content = content.trim();
    let Some(inner) = content
        .strip_prefix("```")
        .and_then(|rest| rest.strip_suffix("```"))
    else {
        return content;
    };
    inner.strip_prefix("json").unwrap_or(inner).trim()
}

#[cfg(test)]
mod tests;
