//! `GET /openapi.json`: kept by hand beside this file; a test holds it to the routes.

use axum::http::header;

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> ([(header::HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::DOCUMENT;
    use crate::api::routes::routes;

    #[test]
    fn the_document_lists_exactly_the_routes() {
        // F51
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let told: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, item)| {
                item.as_object()
                    .unwrap()
                    .keys()
                    .map(move |method| format!("{method} {path}"))
            })
            .collect();
        let real: BTreeSet<_> = routes()
            .iter()
            .map(|route| format!("{} {}", route.method, route.path))
            .collect();
        assert_eq!(told, real);
    }

    #[test]
    fn every_operation_has_a_name_a_tag_and_its_errors() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                assert!(
                    names.insert(operation["operationId"].as_str().unwrap().to_owned()),
                    "{path}: the name is used twice"
                );
                assert!(
                    operation["tags"][0].is_string() && operation["summary"].is_string(),
                    "{path}"
                );
                assert!(
                    path == "/livez"
                        || path == "/readyz"
                        || operation["responses"]["401"].is_object(),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        for part in DOCUMENT.split("\"$ref\": \"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
