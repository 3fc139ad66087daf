//! Values that an environment variable can carry: comma lists and flags.

use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Flag(bool),
    Int(i64),
    Float(f64),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Flag(flag) => flag.to_string(),
            Self::Int(int) => int.to_string(),
            Self::Float(float) => float.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ListOrScalar {
    List(Vec<Scalar>),
    One(Scalar),
}

/// `["a", "b"]` or `"a, b"`.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let items = match ListOrScalar::deserialize(deserializer)? {
        ListOrScalar::List(items) => items
            .into_iter()
            .map(Scalar::into_text)
            .collect::<Vec<_>>()
            .join(","),
        ListOrScalar::One(item) => item.into_text(),
    };
    Ok(items
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect())
}

/// `true`, `1`, `yes`, `on`; everything else is false.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = Scalar::deserialize(deserializer)?.into_text();
    Ok(matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "1" | "yes" | "on"
    ))
}
