//! A value that is never printed.

use std::fmt;

use serde::{Deserialize, Deserializer, de::Visitor};

/// The settings that are secret, or hold a secret. Faults name them without what stands there.
pub(super) const SECRETS: [&str; 5] = [
    "database.url",
    "redis.url",
    "api.token",
    "embedding.api_key",
    "analysis.api_key",
];

/// Text that shows as `***` in logs and errors; read it with [`Secret::expose`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text with every occurrence of this value replaced: some servers echo the key that they refuse.
    pub fn hide_in(&self, text: &str) -> String {
        if self.0.is_empty() {
            text.to_owned()
        } else {
            text.replace(&self.0, "[redacted]")
        }
    }

    /// Nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "***" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text)
    }
}

/// Text, or in a file digits without quotes: they are the text that they are written as.
struct Text;

impl Visitor<'_> for Text {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text in quotes")
    }

    fn visit_str<E>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_i64<E>(self, digits: i64) -> Result<Secret, E> {
        Ok(Secret(digits.to_string()))
    }

    fn visit_u64<E>(self, digits: u64) -> Result<Secret, E> {
        Ok(Secret(digits.to_string()))
    }
}
