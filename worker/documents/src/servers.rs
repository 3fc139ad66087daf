//! Who embeds and who analyses: the local stand-ins, or the servers that the configuration names (P3).
//!
//! A server that the operator configured may be reached although its address is private; nothing else may.

use std::time::Duration;

use millstream_common::config::{Config, Model};
use reqwest::Url;

use millstream_models::{
    EmbeddingServer, ModelError, OpenAiServer, OpenAiSettings, Secret, TeiServer, TeiSettings,
};
use millstream_outbound::{
    AllowList, AllowListError, OutboundClient, OutboundError, OutboundPolicy, objects::ObjectsError,
};

/// A request ends before the job that waits for it does, so that the job fails with the request's own reason.
const REQUEST_MAX: Duration = Duration::from_secs(110);

/// Why the handlers of the pipeline could not be set up. The configuration must be changed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `http.allow` holds entries that are none.
    #[error("http.allow is wrong")]
    Allow(#[from] AllowListError),
    /// The HTTP client could not be made.
    #[error("the client of the model servers could not be set up")]
    Client(#[from] OutboundError),
    /// A model server cannot be used as it is configured.
    #[error("{section} is wrong")]
    Server {
        /// `embedding` or `analysis`.
        section: &'static str,
        /// What is wrong with it.
        #[source]
        source: ModelError,
    },
    /// The object store cannot be opened.
    #[error("{0}: set MILLSTREAM_OBJECTS__URL")]
    Objects(ObjectsError),
    /// This user has no folder for temporary files.
    #[error("a folder for temporary files could not be made")]
    Folder(#[from] std::io::Error),
}

impl From<ObjectsError> for SetupError {
    fn from(error: ObjectsError) -> Self {
        Self::Objects(error)
    }
}

/// Where vectors of text come from.
pub(super) enum Embedder {
    /// Hashed n-grams, here.
    Local,
    /// A server.
    Server(Box<EmbeddingServer>),
}

/// Where analyses come from.
pub(super) enum Analyser {
    /// Rules, here.
    Local,
    /// A language model.
    Server {
        server: Box<OpenAiServer>,
        /// Stored with every result.
        model: String,
    },
}

/// Both, as configured.
pub(super) struct Servers {
    pub(super) embedder: Embedder,
    pub(super) analyser: Analyser,
}

impl Servers {
    /// Connects to nothing yet.
    pub(super) fn new(config: &Config) -> Result<Self, SetupError> {
        Ok(Self {
            embedder: embedder(config)?,
            analyser: analyser(config)?,
        })
    }
}

fn embedder(config: &Config) -> Result<Embedder, SetupError> {
    let wrong = |source| SetupError::Server {
        section: "embedding",
        source,
    };
    let model = &config.embedding;
    let server = match model.provider.as_str() {
        "openai" => EmbeddingServer::OpenAi(
            OpenAiServer::new(client(config, model)?, openai(model)).map_err(wrong)?,
        ),
        "tei" => {
            // Such a server has one model and tells its name: nobody has to repeat it in the configuration.
            let settings = TeiSettings {
                base_url: model.url.clone(),
                api_key: key(model),
                ..TeiSettings::default()
            };
            EmbeddingServer::Tei(TeiServer::new(client(config, model)?, settings).map_err(wrong)?)
        }
        _ => return Ok(Embedder::Local),
    };
    Ok(Embedder::Server(Box::new(server)))
}

fn analyser(config: &Config) -> Result<Analyser, SetupError> {
    let model = &config.analysis;
    if model.provider != "openai" {
        return Ok(Analyser::Local);
    }
    let server = OpenAiServer::new(client(config, model)?, openai(model));
    let server = server.map_err(|source| SetupError::Server {
        section: "analysis",
        source,
    })?;
    Ok(Analyser::Server {
        server: Box::new(server),
        model: model.model.clone(),
    })
}

fn openai(model: &Model) -> OpenAiSettings {
    OpenAiSettings {
        base_url: model.url.clone(),
        api_key: key(model),
        embedding_model: model.model.clone(),
        chat_model: model.model.clone(),
        ..OpenAiSettings::default()
    }
}

fn key(model: &Model) -> Option<Secret> {
    Some(&model.api_key)
        .filter(|key| !key.is_empty())
        // A file or a variable may have added the end of a line.
        .map(|key| Secret::new(key.expose().trim()))
}

fn client(config: &Config, model: &Model) -> Result<OutboundClient, SetupError> {
    let allow = config
        .http
        .allow
        .iter()
        .cloned()
        .chain(host_and_port(&model.url));
    let policy = OutboundPolicy {
        allow: AllowList::from_entries(allow)?,
        deadline: Duration::from_millis(config.http.timeout_ms).min(REQUEST_MAX),
        ..OutboundPolicy::default()
    };
    Ok(OutboundClient::new(&policy)?)
}

/// `host:port` of a server's address, as an entry of the allow-list. What is no address is refused later, by its server.
fn host_and_port(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    Some(format!(
        "{}:{}",
        url.host_str()?,
        url.port_or_known_default()?
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    // P3
    #[test]
    fn a_configured_server_may_be_reached_on_its_port_only() {
        assert_eq!(
            host_and_port("http://127.0.0.1:8080/v1").as_deref(),
            Some("127.0.0.1:8080")
        );
        assert_eq!(
            host_and_port("https://models.internal").as_deref(),
            Some("models.internal:443")
        );
        assert_eq!(host_and_port("http://[::1]:9/").as_deref(), Some("[::1]:9"));
        assert_eq!(host_and_port("no url"), None);
        for url in [
            "http://127.0.0.1:8080/v1",
            "https://models.internal",
            "http://[::1]:9/",
        ] {
            AllowList::from_entries(host_and_port(url)).unwrap();
        }
    }
}
