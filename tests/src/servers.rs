//! The servers that all tests share: those of `DATABASE_URL` and `REDIS_URL`, else a private pair that the first test starts.

use std::{path::PathBuf, sync::OnceLock};

use millstream_local::shared::{SharedServices, join};

/// Where the servers are.
pub struct Servers {
    /// An administrator's connection to Postgres.
    pub database_url: String,
    /// Redis.
    pub redis_url: String,
    /// Keeps the private servers alive.
    _shared: Option<SharedServices>,
}

static SERVERS: OnceLock<Servers> = OnceLock::new();

/// Starts or joins them on first use. Blocks; call it from a blocking context.
pub fn servers() -> &'static Servers {
    SERVERS.get_or_init(|| {
        let given = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
        if let (Some(database_url), Some(redis_url)) = (given("DATABASE_URL"), given("REDIS_URL")) {
            return Servers {
                database_url,
                redis_url,
                _shared: None,
            };
        }
        let shared = join(&target_dir().join("test-services"), &built("keeper"))
            .expect("the private test servers start");
        Servers {
            database_url: shared.database_url.clone(),
            redis_url: shared.redis_url.clone(),
            _shared: Some(shared),
        }
    })
}

/// A program that this workspace has built, beside the test or program that runs now.
pub fn built(name: &str) -> PathBuf {
    let path = profile_dir().join(name);
    assert!(
        path.exists(),
        "{} is missing: build with --workspace",
        path.display()
    );
    path
}

fn profile_dir() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own path");
    // target/<profile>/deps/<test>, or target/<profile>/<program>
    let folder = own.parent().expect("a program lies in a folder");
    if folder.ends_with("deps") {
        folder
            .parent()
            .expect("deps lies in the profile's folder")
            .to_path_buf()
    } else {
        folder.to_path_buf()
    }
}

/// Cargo's `target`, whatever it is called here.
pub(crate) fn target_dir() -> PathBuf {
    profile_dir()
        .parent()
        .expect("profiles are folders of target")
        .to_path_buf()
}
