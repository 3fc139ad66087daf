//! A key that cannot be printed by accident.

use std::fmt;

/// A credential. `Debug` hides it, and there is no `Display`, no `Serialize` and no comparison.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes the credential, without the line end that a file or variable may have added.
    pub fn new(value: &str) -> Self {
        Self(value.trim().to_owned())
    }

    /// The credential itself, to put it into a header and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text with every occurrence of this credential replaced: some servers echo the key they
    /// refuse.
    pub fn hide_in(&self, text: &str) -> String {
        if self.0.is_empty() {
            text.to_owned()
        } else {
            text.replace(&self.0, "[redacted]")
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    // F64
    #[test]
    fn a_secret_is_not_printed_and_is_hidden_in_texts() {
        let secret = Secret::new(" canary\n");
        assert_eq!(secret.expose(), "canary");
        assert!(!format!("{:?} {secret:#?}", Some(&secret)).contains("canary"));
        assert_eq!(
            secret.hide_in("key canary is wrong"),
            "key [redacted] is wrong"
        );
        assert_eq!(Secret::new("").hide_in("abc"), "abc");
    }
}
