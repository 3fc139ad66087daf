//! The pipeline as the settings and this machine say.

use std::{
    fs::DirBuilder,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::PathBuf,
};

use millstream_common::config::{Config, search_path, tessdata_dir};
use millstream_outbound::objects::Objects;
use millstream_worker::Handler;

use super::{DocumentSetup, SetupError, handlers, tools::sandbox::Launcher};

/// The handlers of the pipeline, set up by the settings alone, for a program whose `main` calls
/// [`tools::sandbox::helper`](super::tools::sandbox::helper) first thing.
pub fn configured(config: &Config) -> Result<Vec<Handler>, SetupError> {
    handlers(&DocumentSetup {
        config: config.clone(),
        objects: Objects::open(&config.objects.url)?,
        search_path: search_path(),
        tessdata_dir: tessdata_dir(),
        work_dir: private_work_dir()?,
        launcher: Launcher::ourselves(),
    })
}

/// A folder for temporary files that only this user can enter. Its fixed name lets a later start sweep what a crash left; where that
/// name belongs to somebody else, a new folder of our own does.
fn private_work_dir() -> std::io::Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let usual = std::env::temp_dir().join(format!("millstream-{uid}"));
    // An error here shows in the look below: the folder is there, and ours, or it is not.
    let _ = DirBuilder::new().mode(0o700).create(&usual);
    let ours = std::fs::symlink_metadata(&usual).is_ok_and(|m| {
        m.is_dir() && m.uid() == uid && m.permissions().mode().is_multiple_of(0o100)
    });
    if ours {
        return Ok(usual);
    }
    Ok(tempfile::Builder::new()
        .prefix("millstream-")
        .tempdir()?
        .keep())
}
