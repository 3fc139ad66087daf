//! Embedding and analysis by servers somewhere else, as typed calls.
//!
//! Two protocols: OpenAI-compatible (embeddings and chat completions) and Text Embeddings Inference
//! (embeddings). Both send through [`millstream_outbound`], so its address checks, deadline and byte cap
//! hold here too, and failures keep the classes that [`millstream_outbound::classify()`] gives them.
//!
//! In reading order: what an embedding is and how an answer is checked ([`embeddings`]), the two
//! protocols ([`openai`], [`tei`]), what we ask a language model ([`prompts`]) and what it may answer
//! ([`answers`]), failures ([`error`]), keys (`secret`) and the exchange they share (`exchange`).
//!
//! It knows nothing of jobs, databases or quotas; it returns the tokens the server counted, for the
//! caller to settle. Local models live elsewhere.

pub mod embeddings;

pub mod openai;
pub mod tei;

pub mod answers;
pub mod prompts;

pub mod error;
mod exchange;

pub use embeddings::{EmbeddingServer, Embeddings};
pub use error::ModelError;
pub use millstream_common::config::Secret;
pub use openai::{OpenAiServer, OpenAiSettings};
pub use tei::{TeiInfo, TeiServer, TeiSettings};
