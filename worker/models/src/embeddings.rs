//! What an embedding answer is, and the checks before anybody stores it.
//!
//! Invariant: an [`Embeddings`] has one vector per text, in the order of the texts, all of one
//! dimension (the configured one, if there is one), every number finite. A server that returns
//! anything else has failed, whatever its status was: a vector stored under the wrong text is never
//! found out.

use super::error::ModelError;
use super::openai::OpenAiServer;
use super::tei::TeiServer;

/// pgvector stores up to 16,000 numbers per vector; no model in use gives more.
pub const DIMENSION_MAX: usize = 16_000;

/// Vectors for the texts of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// The model that made them, as the server names it, else as configured.
    pub model: String,
    /// Numbers per vector.
    pub dimension: usize,
    /// One vector per text, in the order of the texts.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens the server counted for the whole call; `None` where it does not say.
    pub tokens: Option<u64>,
}

impl Embeddings {
    /// Checks a server's answer against what was asked.
    pub(super) fn checked(
        model: String,
        vectors: Vec<Vec<f32>>,
        texts: usize,
        expected_dimension: Option<usize>,
        tokens: Option<u64>,
    ) -> Result<Self, ModelError> {
        if vectors.len() != texts {
            return Err(ModelError::retry(format!(
                "the model server returned {} vectors for {texts} texts",
                vectors.len()
            )));
        }
        let first = vectors.first().map_or(0, Vec::len);
        let dimension = expected_dimension.unwrap_or(first);
        if dimension == 0 || dimension > DIMENSION_MAX {
            return Err(ModelError::permanent(format!(
                "the model server returned vectors of {dimension} numbers; 1 to {DIMENSION_MAX} are possible"
            )));
        }
        if let Some(odd) = vectors.iter().find(|vector| vector.len() != dimension) {
            return Err(ModelError::permanent(format!(
                "the model server returned a vector of {} numbers where {dimension} were expected; check the model's name and dimension",
                odd.len()
            )));
        }
        if !vectors.iter().flatten().all(|number| number.is_finite()) {
            return Err(ModelError::retry(
                "the model server returned a number that is not finite",
            ));
        }
        Ok(Self {
            model,
            dimension,
            vectors,
            tokens,
        })
    }
}

/// A configured embedding server of either protocol.
#[derive(Debug)]
pub enum EmbeddingServer {
    /// `POST {base}/v1/embeddings`.
    OpenAi(OpenAiServer),
    /// `POST {base}/embed`.
    Tei(TeiServer),
}

impl EmbeddingServer {
    /// One vector per text, in their order. No text is an error, as is a blank one: servers disagree
    /// on what those mean.
    pub async fn embed(&self, texts: &[String]) -> Result<Embeddings, ModelError> {
        match self {
            Self::OpenAi(server) => server.embed(texts).await,
            Self::Tei(server) => server.embed(texts).await,
        }
    }
}

/// What every protocol refuses before it sends anything.
pub(super) fn check_texts(texts: &[String]) -> Result<(), ModelError> {
    if texts.is_empty() {
        return Err(ModelError::permanent("there is no text to embed"));
    }
    match texts.iter().position(|text| text.trim().is_empty()) {
        Some(position) => Err(ModelError::permanent(format!(
            "text {position} of the call is blank"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Embeddings, ModelError};

    fn checked(vectors: Vec<Vec<f32>>, expected: Option<usize>) -> Result<Embeddings, ModelError> {
        Embeddings::checked("m".to_owned(), vectors, 2, expected, None)
    }

    // P3, C2
    #[test]
    fn an_answer_that_does_not_fit_the_question_is_a_failure() {
        let good = vec![vec![0.1, 0.2], vec![0.3, 0.4]];
        assert!(checked(good.clone(), None).is_ok_and(|e| e.dimension == 2));
        assert!(checked(good.clone(), Some(2)).is_ok());
        let permanent = [
            checked(good.clone(), Some(3)),
            checked(vec![vec![0.1, 0.2], vec![0.3]], None),
            checked(vec![vec![], vec![]], None),
            checked(vec![vec![0.0; 16_001], vec![0.0; 16_001]], None),
        ];
        for answer in permanent {
            assert!(
                matches!(answer, Err(ModelError::Permanent { .. })),
                "{answer:?}"
            );
        }
        let retry = [
            checked(vec![vec![0.1, 0.2]], None),
            checked(vec![], None),
            checked(vec![vec![0.1, f32::INFINITY], vec![0.3, 0.4]], None),
        ];
        for answer in retry {
            assert!(
                matches!(answer, Err(ModelError::Retry { .. })),
                "{answer:?}"
            );
        }
    }
}
