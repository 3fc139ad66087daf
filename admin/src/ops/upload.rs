//! From a file or a stream of bytes to a document in the pipeline: first the object store, then the row with its first job.
//!
//! A crash in between leaves an object that no document names; it is swept by what was written down before ([`pending`]). A repeated
//! upload is a new document. This folder is the only one here that knows the object store.

mod pending;

use std::{io, os::unix::fs::OpenOptionsExt, path::Path, sync::OnceLock};

pub use self::pending::{keep_swept, sweep};
use axum::body::Bytes;
use futures::{Stream, StreamExt};
use millstream_common::{
    catalog::Catalog,
    documents::{NewDocument, submit},
    error::Error,
    id::new_job_id,
    limits::bounded,
    pg::Pg,
};
pub use millstream_outbound::objects::Objects;
use millstream_outbound::objects::{ObjectsError, Stored};
use millstream_worker::program::CommandError;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

/// Longest kept file name in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Bytes read from a file at a time.
const READ_BYTES: usize = 256 * 1024;

/// Why a file did not become a document.
#[derive(Debug)]
pub enum UploadError {
    /// More bytes than allowed; the limit.
    TooLarge(u64),
    /// The file or stream could not be read.
    Source(String),
    /// The object store is not configured as it should be.
    Config(String),
    /// The object store did not take it.
    Store(String),
    /// The row could not be written.
    Door(Error),
    /// It took so long that it was given up; nothing is kept.
    GivenUp,
}

impl<E: Into<Error>> From<E> for UploadError {
    fn from(error: E) -> Self {
        Self::Door(error.into())
    }
}

impl From<UploadError> for CommandError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge(max) => Self::usage(format!(
                "the file has more than {max} bytes: raise MILLSTREAM_API__UPLOAD_BYTES_MAX, or split it"
            )),
            UploadError::Source(text) => Self::failed(format!("the file cannot be read: {text}")),
            UploadError::Config(text) => {
                Self::usage(format!("{text}: set MILLSTREAM_OBJECTS__URL"))
            }
            UploadError::Store(text) => Self::failed(text),
            UploadError::GivenUp => {
                Self::failed("the upload stood still for an hour and was given up")
            }
            UploadError::Door(error) => error.into(),
        }
    }
}

/// What a new document is called and whose it is.
#[derive(Debug, Clone)]
pub struct Upload<'a> {
    /// File name, for people.
    pub name: &'a str,
    /// Name of the tenant.
    pub tenant: &'a str,
    /// Bytes accepted at most.
    pub bytes_max: u64,
}

/// Opens the store of a `file:///folder` or `s3://bucket/prefix` URL.
pub fn open_store(url: &str) -> Result<Objects, UploadError> {
    Objects::open(url).map_err(|e| refused(&e))
}

/// Adds a file of this machine.
pub async fn add_file(
    pg: &Pg,
    catalog: &Catalog,
    objects: &Objects,
    path: &Path,
    upload: &Upload<'_>,
) -> Result<Uuid, UploadError> {
    let file = open_regular(path)
        .await
        .map_err(|e| UploadError::Source(format!("{}: {e}", path.display())))?;
    add_stream(
        pg,
        catalog,
        objects,
        ReaderStream::with_capacity(file, READ_BYTES),
        upload,
    )
    .await
}

/// Only regular files have an end. Opened without waiting: a pipe has perhaps no writer.
async fn open_regular(path: &Path) -> io::Result<tokio::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = tokio::fs::OpenOptions::from(options).open(path).await?;
    if file.metadata().await?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

/// Adds a stream of bytes.
pub async fn add_stream<S, E>(
    pg: &Pg,
    catalog: &Catalog,
    objects: &Objects,
    bytes: S,
    upload: &Upload<'_>,
) -> Result<Uuid, UploadError>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: std::fmt::Display,
{
    // The tenant first: an upload that will be refused must not be stored.
    let tenant_id = catalog.tenant(upload.tenant).await?;
    let id = new_job_id();
    let folder = format!("documents/{id}");
    let object_key = format!("{folder}/original");
    pending::begin(pg, objects, id, &folder).await?;
    let stored =
        match pending::while_touching(pg, id, store(objects, &object_key, bytes, upload.bytes_max))
            .await
        {
            Ok(stored) => stored,
            Err(error) => {
                pending::discard(pg, objects, id, &folder).await;
                return Err(error);
            }
        };
    let document = NewDocument {
        id,
        tenant_id,
        name: clean(upload.name),
        object_key,
        bytes: stored.bytes,
        sha256: stored.sha256,
    };
    // Twice is harmless: the id is the same. After a failure it is not known whether the document is there: then the sweep decides, by
    // what the transaction has left.
    let submitted = pg.repeat("submitting a document").one(submit(&document));
    if submitted.await? {
        return Ok(id);
    }
    pending::discard(pg, objects, id, &folder).await;
    Err(UploadError::GivenUp)
}

/// The store tells its own faults and those of the stream in one word; whose fault it was decides what the caller is told.
async fn store<S, E>(
    objects: &Objects,
    key: &str,
    bytes: S,
    bytes_max: u64,
) -> Result<Stored, UploadError>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: std::fmt::Display,
{
    let broken = OnceLock::new();
    let watched = bytes.inspect(|piece| {
        if let Err(e) = piece {
            broken.get_or_init(|| e.to_string());
        }
    });
    let stored = objects.put_stream(key, watched, bytes_max).await;
    stored.map_err(|error| {
        broken
            .into_inner()
            .map_or_else(|| refused(&error), UploadError::Source)
    })
}

fn refused(error: &ObjectsError) -> UploadError {
    match error {
        ObjectsError::TooLarge(max) => UploadError::TooLarge(*max),
        ObjectsError::Config(_) => UploadError::Config(error.to_string()),
        ObjectsError::NotFound(_) | ObjectsError::Failed(_) | ObjectsError::Local(_) => {
            UploadError::Store(error.to_string())
        }
    }
}

/// The last part of a path of any system, without control characters.
fn clean(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let text: String = last.chars().filter(|c| !c.is_control()).collect();
    if text.is_empty() {
        "document".into()
    } else {
        bounded(&text, NAME_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn a_file_name_keeps_no_path_and_no_control_characters() {
        // S07
        assert_eq!(clean("../../etc/passwd"), "passwd");
        assert_eq!(clean("C:\\x\\a.pdf"), "a.pdf");
        assert_eq!(clean("a\r\nb\u{1b}[31m.pdf"), "ab[31m.pdf");
        assert_eq!(clean("/"), "document");
    }
}
