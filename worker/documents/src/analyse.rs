//! `document.analyse`: one question about one chunk, answered by rules or by a language model (P2, P3, stage 4).
//!
//! The answers of both have the same form, so that whoever reads them need not know who gave them:
//! classification `{category, confidence, …}`, metadata `{language, dates, …}`, products `{products: [line, …]}`.

use std::sync::Arc;

use futures::FutureExt;
use millstream_models::{
    ModelError, OpenAiServer,
    answers::{Classification, Metadata, Product, Products},
    prompts,
};
use millstream_worker::{Context, Failure, Outcome, Success};
use serde_json::{Value, json};

use super::{
    Pipeline,
    failure::{blocking, gone, of_model},
    payload::{Analysis, OfAnalysis, OfChunk},
    servers::Analyser,
    store,
    tools::analyse_local::{self, ProductLine, RULES_MODEL},
};

/// What is stored of one analysis.
struct Answer {
    model: String,
    result: Value,
    tokens: Option<u64>,
}

pub(super) async fn run(pipeline: Arc<Pipeline>, context: Context, at: OfAnalysis) -> Outcome {
    pipeline
        .announcer
        .begin(&context, || {
            format!("chunk {}: {}", at.ordinal, at.analysis.name())
        })
        .await;
    let chunk = store::chunk(
        context.pg(),
        &OfChunk {
            document_id: at.document_id,
            ordinal: at.ordinal,
        },
    )
    .await?;
    let text = chunk.ok_or_else(|| gone("the chunk"))?.text;
    let answer = match &pipeline.servers.analyser {
        Analyser::Local => by_rules(at.analysis, text).await?,
        Analyser::Server { server, model } => {
            let (result, tokens) = by_model(server, at.analysis, &text)
                .await
                .map_err(of_model)?;
            Answer {
                model: model.clone(),
                result,
                tokens,
            }
        }
    };
    let result = answer.result.to_string();
    let effect = store::effect(move |conn| {
        async move { store::chunk_analysis(conn, &at, &answer.model, &result).await }.boxed()
    });
    Ok(Success::new().and_tokens(answer.tokens).and_write(effect))
}

async fn by_rules(analysis: Analysis, text: String) -> Result<Answer, Failure> {
    let result = blocking(move || match analysis {
        Analysis::Classification => {
            let found = analyse_local::classify(&text);
            Ok(
                json!({"category": found.label, "confidence": found.confidence, "language": found.language}),
            )
        }
        Analysis::Metadata => serde_json::to_value(analyse_local::metadata(&text)),
        Analysis::Products => Ok(json!({"products": analyse_local::products(&text)})),
    });
    let result = result
        .await?
        .map_err(|e| Failure::permanent(format!("the analysis does not serialise: {e}")))?;
    Ok(Answer {
        model: RULES_MODEL.to_owned(),
        result,
        tokens: None,
    })
}

async fn by_model(
    server: &OpenAiServer,
    analysis: Analysis,
    text: &str,
) -> Result<(Value, Option<u64>), ModelError> {
    let prompt = match analysis {
        Analysis::Classification => prompts::classification(text),
        Analysis::Metadata => prompts::metadata(text),
        Analysis::Products => prompts::products(text),
    };
    let (answer, tokens) = server
        .complete_json(&prompt.system, &prompt.user, prompt.max_tokens)
        .await?;
    Ok((checked(analysis, &answer)?, tokens))
}

/// What a model said, in our form.
fn checked(analysis: Analysis, answer: &Value) -> Result<Value, ModelError> {
    Ok(match analysis {
        Analysis::Classification => json!(Classification::from_answer(answer)?),
        Analysis::Metadata => json!(Metadata::from_answer(answer)?),
        Analysis::Products => {
            let listed = Products::from_answer(answer)?.products;
            let lines = listed
                .into_iter()
                .enumerate()
                .map(|(place, product)| line(place, product))
                .collect::<Vec<_>>();
            json!({"products": lines})
        }
    })
}

/// A model names no line of the text; what it says about the product stands for it.
fn line(place: usize, product: Product) -> ProductLine {
    let price = product.price.map(|price| format!("{price:.2}"));
    ProductLine {
        evidence_line: product.description.unwrap_or_else(|| product.name.clone()),
        line_number: place as u32,
        name: product.name,
        sku: product.sku,
        currency: product.currency.filter(|_| price.is_some()),
        price,
        ..ProductLine::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    // P2, P3
    #[tokio::test]
    async fn rules_and_models_answer_in_the_same_form() {
        let said = json!({"products": [{"name": "Bolt M8", "sku": "AB-100", "price": 12.5, "currency": "eur"}], "category": "price_list"});
        let text = "Bolt M8 AB-100 12.50 EUR\nNut M8 AB-200 3.10 EUR";
        for analysis in Analysis::ALL {
            let (rules, model) = (
                by_rules(analysis, text.to_owned()).await.unwrap().result,
                checked(analysis, &said).unwrap(),
            );
            let key = match analysis {
                Analysis::Classification => "category",
                Analysis::Metadata => "language",
                Analysis::Products => "products",
            };
            assert!(
                rules.get(key).is_some() && model.get(key).is_some(),
                "{rules} {model}"
            );
        }
        let [rules, model] = [
            by_rules(Analysis::Products, text.to_owned())
                .await
                .unwrap()
                .result,
            checked(Analysis::Products, &said).unwrap(),
        ];
        for answer in [rules, model] {
            let first: ProductLine = serde_json::from_value(answer["products"][0].clone()).unwrap();
            assert_eq!(
                (
                    first.sku.as_deref(),
                    first.price.as_deref(),
                    first.currency.as_deref()
                ),
                (Some("AB-100"), Some("12.50"), Some("EUR"))
            );
        }
    }

    // P3
    #[test]
    fn an_answer_without_its_main_field_is_tried_again() {
        assert!(matches!(
            checked(Analysis::Products, &json!({})).map_err(of_model),
            Err(Failure::Retry(_))
        ));
    }
}
