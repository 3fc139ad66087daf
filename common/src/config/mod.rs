//! Settings: an embedded default file, then a configuration file, then the environment; later ones win.
//!
//! The only place that reads the environment. Everything is validated before anything is opened or bound, and all faults
//! are reported at once. Unknown keys are faults, because a mistyped setting that is silently ignored is worse than a
//! refusal to start.

mod environment;
mod fault;
mod list;
mod secret;
#[cfg(test)]
mod tests;
pub mod url;

pub use self::secret::Secret;

use std::{path::Path, time::Duration};

use figment::{
    Figment,
    providers::{Format, Toml},
};
use serde::Deserialize;

/// The documented defaults.
pub const DEFAULTS: &str = include_str!("default.toml");

/// All settings. One struct per concern.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Log filter, as in `RUST_LOG`. `MILLSTREAM_LOG`.
    pub log: String,
    /// `pretty` or `json`. `MILLSTREAM_LOG_FORMAT`.
    pub log_format: String,
    /// Enables the `crash` kind. `MILLSTREAM_DIAGNOSTICS=1`.
    #[serde(deserialize_with = "list::flag")]
    pub diagnostics: bool,
    /// Postgres.
    pub database: Database,
    /// Redis.
    pub redis: Redis,
    /// Worker processes.
    pub worker: Worker,
    /// How long finished jobs are kept.
    pub retention: Retention,
    /// The HTTP API.
    pub api: Api,
    /// The object store.
    pub objects: Objects,
    /// Outbound requests of the `http` kind and of AI clients.
    pub http: Http,
    /// The document pipeline.
    pub documents: Documents,
    /// Text embeddings.
    pub embedding: Model,
    /// Chunk analysis.
    pub analysis: Model,
}

/// Where the truth lives.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host:port/name`; also `DATABASE_URL`.
    pub url: Secret,
    /// Connections per process beside the few of the hot path.
    pub connections_max: u32,
}

/// Where hints travel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// `redis://user:password@host:port/db` or `rediss://…`; also `REDIS_URL`.
    pub url: Secret,
    /// First part of every key.
    pub prefix: String,
}

/// One worker process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// Shown in lists; not an identity.
    pub name: String,
    /// Queues to read; empty: all known at the start.
    #[serde(deserialize_with = "list::list")]
    pub queues: Vec<String>,
    /// Kinds to run; empty: all that the binary knows.
    #[serde(deserialize_with = "list::list")]
    pub kinds: Vec<String>,
    /// Jobs at a time; 0: four per core, at least eight.
    pub concurrency: usize,
    /// A dead worker's jobs run again within this time.
    pub lease_ms: u64,
    /// What runs at SIGTERM may go on this long.
    pub grace_ms: u64,
    /// Address of `/metrics`, `/livez`, `/readyz`; empty: none.
    pub listen: String,
    /// Child processes for isolated jobs at a time, at least one.
    pub children_max: usize,
    /// Memory that a child process may have for data; 0: no limit.
    pub child_memory_bytes: u64,
}

/// How long finished jobs are kept, unless their tenant has a rule of its own.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Days after the one on which a job was enqueued; 0: for ever.
    pub keep_days: u32,
}

impl Retention {
    /// The same; none: for ever.
    pub fn days(self) -> Option<u32> {
        (self.keep_days > 0).then_some(self.keep_days)
    }
}

impl Worker {
    /// The lease as a duration.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// The grace period as a duration.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

/// The HTTP API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Address to listen on.
    pub listen: String,
    /// Bearer token that requests must carry; needed when listening beyond this machine.
    pub token: Secret,
    /// Largest upload in bytes.
    pub upload_bytes_max: u64,
}

/// The object store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// `file:///folder` or `s3://bucket/prefix`.
    pub url: String,
}

/// Outbound HTTP.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Private addresses, hosts, `host:port` or networks that may be reached all the same.
    #[serde(deserialize_with = "list::list")]
    pub allow: Vec<String>,
    /// Whole request, in milliseconds.
    pub timeout_ms: u64,
    /// Response bytes read at most.
    pub response_bytes_max: usize,
}

/// The document pipeline.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Documents {
    /// Tesseract language codes joined by `+`.
    pub ocr_languages: String,
    /// Characters per chunk at most.
    pub chunk_chars_max: usize,
    /// Characters that neighbouring chunks share.
    pub chunk_overlap_chars: usize,
}

/// A model server, or the local stand-in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// `local`, `openai` (any compatible server) or, for embeddings, `tei` (Text Embeddings Inference).
    pub provider: String,
    /// Base address of the server.
    pub url: String,
    /// Model name sent to the server.
    pub model: String,
    /// Bearer key, if the server wants one.
    pub api_key: Secret,
}

impl Config {
    /// Reads the defaults, `file` if given, and the environment. The error lists every fault.
    pub fn load(file: Option<&Path>) -> Result<Self, String> {
        let mut figment = defaults();
        if let Some(path) = file {
            if !path.is_file() {
                return Err(format!(
                    "the configuration file {} does not exist",
                    path.display()
                ));
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        for variable in environment::variables(&defaults()) {
            figment = figment.merge(variable);
        }
        Self::from_figment(&figment)
    }

    fn from_figment(figment: &Figment) -> Result<Self, String> {
        let wrong = |faults| {
            format!(
                "the configuration is wrong: {}",
                fault::told(faults, &defaults())
            )
        };
        let config: Self = figment.extract().map_err(wrong)?;
        let faults = config.faults();
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(format!("the configuration is wrong: {}", faults.join("; ")))
        }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, text: &str| {
            if !ok {
                faults.push(text.to_owned());
            }
        };
        check(
            (2_000..=3_600_000).contains(&self.worker.lease_ms),
            "worker.lease_ms must be between 2000 and 3600000",
        );
        check(
            self.retention.keep_days <= 36_500,
            "retention.keep_days must be at most 36500; 0 keeps jobs for ever",
        );
        check(
            self.worker.grace_ms <= 3_600_000,
            "worker.grace_ms must be at most 3600000",
        );
        check(
            self.worker.concurrency <= 10_000,
            "worker.concurrency must be at most 10000",
        );
        check(
            (1..=1000).contains(&self.database.connections_max),
            "database.connections_max must be between 1 and 1000",
        );
        check(
            matches!(self.log_format.as_str(), "pretty" | "json"),
            "log_format must be pretty or json",
        );
        check(
            is_key_prefix(&self.redis.prefix),
            "redis.prefix must be 1 to 64 of a-z 0-9 _ . - :",
        );
        check(
            matches!(self.embedding.provider.as_str(), "local" | "openai" | "tei"),
            "embedding.provider must be local, openai or tei",
        );
        check(
            matches!(self.analysis.provider.as_str(), "local" | "openai"),
            "analysis.provider must be local or openai",
        );
        check(
            self.embedding.provider == "local" || !self.embedding.url.is_empty(),
            "embedding.url is needed for a remote provider",
        );
        check(
            self.analysis.provider == "local" || !self.analysis.url.is_empty(),
            "analysis.url is needed for a remote provider",
        );
        check(
            (200..=20_000).contains(&self.documents.chunk_chars_max),
            "documents.chunk_chars_max must be between 200 and 20000",
        );
        check(
            self.documents.chunk_overlap_chars * 2 <= self.documents.chunk_chars_max,
            "documents.chunk_overlap_chars must be at most half of chunk_chars_max",
        );
        faults
    }
}

/// Where programs are found, in the form of `PATH`: poppler and Tesseract for documents.
#[expect(
    clippy::disallowed_methods,
    reason = "only config reads the environment"
)]
pub fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// Where Tesseract's language data are, if not where it was installed: `TESSDATA_PREFIX`, as Tesseract itself reads it.
#[expect(
    clippy::disallowed_methods,
    reason = "only config reads the environment"
)]
pub fn tessdata_dir() -> Option<std::path::PathBuf> {
    std::env::var_os("TESSDATA_PREFIX")
        .filter(|dir| !dir.is_empty())
        .map(Into::into)
}

fn is_key_prefix(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-:".contains(&b))
}

fn defaults() -> Figment {
    Figment::from(Toml::string(DEFAULTS))
}
