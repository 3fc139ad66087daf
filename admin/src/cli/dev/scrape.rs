//! What a Prometheus needs to scrape this installation: a configuration, and a file with the addresses of the workers, which it reads again
//! whenever that changes.
//!
//! It knows addresses, and nothing of who listens there.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use millstream_common::config::Secret;
use tempfile::NamedTempFile;

use super::{super::CommandError, files::failed};

/// The configuration, below the data directory.
const CONFIG: &str = "prometheus.yml";
/// The addresses of the workers, beside it.
const WORKERS: &str = "prometheus-workers.json";

/// Both files.
#[derive(Clone)]
pub(super) struct Scrape {
    dir: PathBuf,
}

impl Scrape {
    /// Writes the configuration for an API at this address.
    pub(super) fn write(dir: &Path, api: SocketAddr, token: &Secret) -> Result<Self, CommandError> {
        let scrape = Self {
            dir: dir.to_owned(),
        };
        replace(
            &scrape.config(),
            &configuration(api, token, &scrape.dir.join(WORKERS)),
        )?;
        Ok(scrape)
    }

    /// Where the configuration is.
    pub(super) fn config(&self) -> PathBuf {
        self.dir.join(CONFIG)
    }

    /// From now on the workers are at these addresses.
    pub(super) fn workers(&self, addresses: &[SocketAddr]) -> Result<(), CommandError> {
        let targets: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        replace(
            &self.dir.join(WORKERS),
            &serde_json::json!([{ "targets": targets }]).to_string(),
        )
    }
}

/// A text of JSON is one of YAML, so paths and tokens are quoted as JSON.
fn configuration(api: SocketAddr, token: &Secret, workers: &Path) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let authorization = match token.expose() {
        "" => String::new(),
        token => format!("    authorization:\n      credentials: {}\n", quoted(token)),
    };
    format!(
        "# Written by \"millstream dev\" at each start. Use it: prometheus --config.file=THIS FILE\nglobal:\n  scrape_interval: 5s\nscrape_configs:\n  \
         - job_name: millstream-api\n{authorization}    static_configs:\n      - targets: [{}]\n  \
         - job_name: millstream-worker\n    file_sd_configs:\n      - files: [{}]\n",
        quoted(&api.to_string()),
        quoted(&workers.display().to_string()),
    )
}

/// Whole or not at all: a Prometheus may be reading it. For the owner alone, as a temporary file is.
fn replace(path: &Path, text: &str) -> Result<(), CommandError> {
    let written = || {
        let dir = path.parent().unwrap_or(Path::new("."));
        let mut file = NamedTempFile::new_in(dir)?;
        file.write_all(text.as_bytes())?;
        fs::rename(file.into_temp_path().keep()?, path)
    };
    written().map_err(|e| failed("write", path, &e))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    // X31
    #[test]
    fn the_configuration_names_the_api_its_token_and_the_file_of_the_workers() {
        let folder = tempfile::tempdir().unwrap();
        let scrape = Scrape::write(
            folder.path(),
            "127.0.0.1:8080".parse().unwrap(),
            &Secret::new("a\"b"),
        )
        .unwrap();
        scrape
            .workers(&[
                "127.0.0.1:1".parse().unwrap(),
                "127.0.0.1:2".parse().unwrap(),
            ])
            .unwrap();
        let config = fs::read_to_string(scrape.config()).unwrap();
        for line in [
            "credentials: \"a\\\"b\"",
            "- targets: [\"127.0.0.1:8080\"]",
            &format!("files: [\"{}/{WORKERS}\"]", folder.path().display()),
        ] {
            assert!(config.contains(line), "{line}: {config}");
        }
        let workers = fs::read_to_string(folder.path().join(WORKERS)).unwrap();
        assert_eq!(workers, r#"[{"targets":["127.0.0.1:1","127.0.0.1:2"]}]"#);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
