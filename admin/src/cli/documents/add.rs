//! `millstream documents add`: every file becomes a document; a folder stands for the PDF files in it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use millstream_common::{catalog::Catalog, pg::Pg};
use uuid::Uuid;

use super::{print_summaries, watch::watch};
use crate::{
    cli::{Context, Exit, Failure, Outcome, table},
    ops::upload::{Objects, Upload, add_file, open_store},
};

/// Folders in folders are read this deep: a link that leads back must not be followed for ever.
const FOLDER_DEPTH_MAX: usize = 16;

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
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, requires = "wait")]
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
    pub async fn new(context: &'a Context) -> Result<Self, Failure> {
        let objects = open_store(&context.config.objects.url)?;
        Ok(Self { pg: context.pg().await?, catalog: context.catalog().await?, objects, bytes_max: context.config.api.upload_bytes_max })
    }

    /// Adds one file and returns the document's id.
    pub async fn add(&self, path: &Path, tenant: &str) -> Result<Uuid, Failure> {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let upload = Upload { name: &name, tenant, bytes_max: self.bytes_max };
        Ok(add_file(self.pg, self.catalog, &self.objects, path, &upload).await?)
    }
}

pub(super) async fn run(args: AddArgs, context: &Context) -> Outcome {
    let files = files_of(&args.paths)?;
    let adder = Adder::new(context).await?;
    let mut ids = Vec::with_capacity(files.len());
    for file in &files {
        let id = adder.add(file, &args.tenant).await?;
        ids.push(id);
        if !args.wait {
            print(context, id, file)?;
        }
    }
    if !args.wait {
        return Ok(Exit::Done);
    }
    let all_well = watch(context, &ids, Duration::from_secs(args.timeout)).await?;
    print_summaries(context, &ids).await?;
    Ok(if all_well { Exit::Done } else { Exit::Failed })
}

fn print(context: &Context, id: Uuid, file: &Path) -> Result<(), Failure> {
    if context.json {
        return table::json(&serde_json::json!({"id": id, "file": file}));
    }
    table::line(&format!("{id} {}", table::printable(&file.to_string_lossy())))
}

/// The files that these paths stand for: a file itself, a folder its PDF files, in the order of their names.
pub fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let about = std::fs::metadata(path).map_err(|e| Failure::not_found(format!("{} cannot be read: {e}", path.display())))?;
        let before = files.len();
        if about.is_dir() {
            pdf_files(path, FOLDER_DEPTH_MAX, &mut files)?;
        } else {
            files.push(path.clone());
        }
        if files.len() == before {
            return Err(Failure::not_found(format!("there is no PDF file in {}", path.display())));
        }
    }
    Ok(files)
}

fn pdf_files(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |e| Failure::failed(format!("the folder {} cannot be read: {e}", folder.display()));
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let mut paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth > 0 {
                pdf_files(&path, depth - 1, files)?;
            }
        } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("pdf")) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_pdf_files_in_order() {
        // P1
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["z.pdf", "a.PDF", "b/c.pdf", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let files = files_of(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = files.iter().map(|f| f.strip_prefix(folder.path()).unwrap().display().to_string()).collect();
        assert_eq!(names, ["a.PDF", "b/c.pdf", "z.pdf"]);
        assert_eq!(files_of(&[folder.path().join("notes.txt")]).unwrap().len(), 1);
        assert!(files_of(&[folder.path().join("none.pdf")]).is_err());
    }
}
