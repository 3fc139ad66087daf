//! `millstream documents add`: every file becomes a document; a folder stands for the PDF files in it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use millstream_common::{catalog::Catalog, pg::Pg};
use uuid::Uuid;

use super::{
    files::{Found, files_of},
    print_summaries,
    watch::watch,
};
use crate::{
    cli::{CommandError, CommandResult, Exit, Invocation, table},
    ops::upload::{Objects, Upload, UploadError, add_file, open_store},
};

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Files, or folders with PDF files
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Name of the tenant
    #[arg(long, default_value = "default")]
    tenant: String,
    /// Watch them until they are done; exit 1 if any failed
    #[arg(long)]
    wait: bool,
    /// Give up watching after so many seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 86_400,
        requires = "wait"
    )]
    timeout: u64,
}

/// Puts files into the object store and the pipeline.
pub struct Adder<'a> {
    pg: &'a Pg,
    catalog: &'a Catalog,
    objects: Objects,
    bytes_max: u64,
}

impl<'a> Adder<'a> {
    /// Opens the object store of the configuration.
    pub async fn new(context: &'a Invocation) -> Result<Self, CommandError> {
        let objects = open_store(&context.config.objects.url)?;
        Ok(Self {
            pg: context.pg().await?,
            catalog: context.catalog().await?,
            objects,
            bytes_max: context.config.api.upload_bytes_max,
        })
    }

    /// Adds one file and returns the document's id.
    pub async fn add(&self, path: &Path, tenant: &str) -> Result<Uuid, CommandError> {
        Ok(self.try_add(path, tenant).await?)
    }

    async fn try_add(&self, path: &Path, tenant: &str) -> Result<Uuid, UploadError> {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy())
            .unwrap_or_default();
        let upload = Upload {
            name: &name,
            tenant,
            bytes_max: self.bytes_max,
        };
        add_file(self.pg, self.catalog, &self.objects, path, &upload).await
    }
}

/// One bad file costs a line and exit code 1, not the others; what concerns all of them (a server that is away) ends the command.
pub(super) async fn run(args: AddArgs, context: &Invocation) -> CommandResult {
    let found = files_of(&args.paths);
    found.passed_over.iter().for_each(|line| context.warn(line));
    if found.files.is_empty() {
        return Err(CommandError::not_found("there is no file to add"));
    }
    let adder = Adder::new(context).await?;
    let (ids, mut all_well) = add_all(&adder, &args, &found, context).await?;
    if args.wait {
        all_well &= watch(context, &ids, Duration::from_secs(args.timeout)).await?;
        print_summaries(context, &ids).await?;
    }
    Ok(if all_well { Exit::Done } else { Exit::Failed })
}

/// The documents that were made, and whether there is one for each path.
async fn add_all(
    adder: &Adder<'_>,
    args: &AddArgs,
    found: &Found,
    context: &Invocation,
) -> Result<(Vec<Uuid>, bool), CommandError> {
    let (mut ids, mut all_well) = (Vec::with_capacity(found.files.len()), !found.is_incomplete);
    for file in &found.files {
        let id = match adder.try_add(file, &args.tenant).await {
            Ok(id) => id,
            Err(
                error @ (UploadError::Source(_) | UploadError::TooLarge(_) | UploadError::GivenUp),
            ) => {
                let (_, line) = CommandError::from(error).tell(&context.places());
                context.warn(&format!(
                    "{} is passed over: {}",
                    file.display(),
                    line.unwrap_or_default()
                ));
                all_well = false;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        ids.push(id);
        if !args.wait {
            print(context, id, file)?;
        }
    }
    Ok((ids, all_well))
}

fn print(context: &Invocation, id: Uuid, file: &Path) -> Result<(), CommandError> {
    if context.json {
        return table::json(&serde_json::json!({"id": id, "file": file}));
    }
    table::line(&format!(
        "{id} {}",
        table::printable(&file.to_string_lossy())
    ))
}
