//! `document.embed`: the vector of one chunk, made here or by a server (P2, P3, stage 4).

use std::sync::Arc;

use futures::FutureExt;
use millstream_models::{EmbeddingServer, ModelError};
use millstream_worker::{Context, Outcome, Success};

use super::{
    Pipeline,
    failure::{blocking, gone, of_model},
    payload::OfChunk,
    servers::Embedder,
    store::{self, Vector},
    tools::embed_local::{self, TEXT_MODEL},
};

pub(super) async fn run(pipeline: Arc<Pipeline>, context: Context, at: OfChunk) -> Outcome {
    pipeline
        .announcer
        .begin(&context, || format!("chunk {}: vector", at.ordinal))
        .await;
    let chunk = store::chunk(context.pg(), &at)
        .await?
        .ok_or_else(|| gone("the chunk"))?;
    let (model, numbers, tokens) = match &pipeline.servers.embedder {
        Embedder::Local => (
            TEXT_MODEL.to_owned(),
            blocking(move || embed_local::embed(&chunk.text)).await?,
            None,
        ),
        Embedder::Server(server) => by_server(server, chunk.text).await.map_err(of_model)?,
    };
    let vector = Vector {
        source: "chunk",
        ordinal: at.ordinal,
        model,
        content_hash: chunk.sha256,
        numbers,
    };
    let effect = store::effect(move |conn| {
        async move { store::embedding(conn, at.document_id, &vector).await }.boxed()
    });
    Ok(Success::new().and_tokens(tokens).and_write(effect))
}

/// The model by its own name, the vector, and the tokens that the server counted.
async fn by_server(
    server: &EmbeddingServer,
    text: String,
) -> Result<(String, Vec<f32>, Option<u64>), ModelError> {
    let answer = server.embed(&[text]).await?;
    let vector = answer.vectors.into_iter().next();
    let vector = vector.ok_or_else(|| ModelError::Retry {
        message: "the model server returned no vector".to_owned(),
    })?;
    Ok((answer.model, vector, answer.tokens))
}
