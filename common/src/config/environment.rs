//! The environment as a layer of settings. The only place that reads it.
//!
//! What a variable holds is read as its default is: where that is text, the value is text, whatever it looks like. A token of digits is no
//! number, and a password may be `true`, `[x]` or `1e5`.

use figment::{
    Error, Figment, Metadata, Profile, Provider,
    providers::Env,
    util::nest,
    value::{Dict, Map, Value},
};

/// Settings without a section.
const PLAIN: [&str; 3] = ["log", "log_format", "diagnostics"];

/// One variable that sets something.
pub(super) struct Variable {
    name: String,
    path: String,
    value: Value,
}

impl Variable {
    /// What a variable sets, if it is one of ours. `defaults` tell what is text.
    pub(super) fn of(name: &str, value: &str, defaults: &Figment) -> Option<Self> {
        let path = path(name)?;
        let is_text = defaults
            .find_value(&path)
            .is_ok_and(|default| default.as_str().is_some());
        let value = value.trim();
        let value = if is_text {
            Value::from(value)
        } else {
            value.parse().unwrap_or_else(|never| match never {})
        };
        Some(Self {
            name: name.to_ascii_uppercase(),
            path,
            value,
        })
    }

    fn is_conventional(&self) -> bool {
        !self.name.starts_with("MILLSTREAM_")
    }
}

impl Provider for Variable {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("the environment variable {}", self.name))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let nested = nest(&self.path, self.value.clone())
            .into_dict()
            .unwrap_or_default();
        Ok(std::iter::once((Profile::Default, nested)).collect())
    }
}

/// `MILLSTREAM_<SECTION>__<KEY>`, the settings without a section, and the two conventional URLs.
fn path(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "database_url" => return Some("database.url".into()),
        "redis_url" => return Some("redis.url".into()),
        _ => {}
    }
    let ours = name.strip_prefix("millstream_")?;
    let parts: Vec<_> = ours.split("__").collect();
    let is_path = parts.len() > 1 && parts.iter().all(|part| !part.is_empty());
    (is_path || PLAIN.contains(&ours)).then(|| parts.join("."))
}

/// All of them, those that win last.
pub(super) fn variables(defaults: &Figment) -> Vec<Variable> {
    let mut ours: Vec<_> = Env::raw()
        .iter()
        .filter_map(|(name, value)| Variable::of(name.as_str(), &value, defaults))
        .collect();
    // Our own name of a setting says more than the conventional one.
    ours.sort_by_key(|variable| !variable.is_conventional());
    ours
}
