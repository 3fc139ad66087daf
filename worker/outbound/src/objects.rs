//! The object store: a local folder by default, S3-compatible by configuration (P1).
//!
//! Keys are made by the program, never from file names. Knows nothing of documents.

use std::{
    fs::Permissions,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path as FsPath, PathBuf},
    sync::Arc,
};

use futures::{Stream, StreamExt, TryStreamExt};
use millstream_common::{id::new_job_id, shortage::shortage};
use object_store::{
    ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart, local::LocalFileSystem, path::Path,
};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

/// Bytes per part of a multipart upload; S3 wants at least 5 MiB.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Bytes read from a file at a time.
const READ_BYTES: usize = 256 * 1024;

/// In a folder of objects: its identity. No key has this name.
const MARK: &str = ".millstream-store";

/// What can go wrong with objects, by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The configuration is wrong.
    #[error("objects.url is wrong: {0}")]
    Config(String),
    /// There is no such object.
    #[error("the object {0} does not exist")]
    NotFound(String),
    /// The input is larger than allowed; nothing was kept.
    #[error("the file is larger than {0} bytes")]
    TooLarge(u64),
    /// The store failed; repeating is safe.
    #[error("the object store failed: {0}")]
    Failed(String),
    /// A file on this machine could not be read or written; repeating is safe.
    #[error("{0}")]
    Local(String),
}

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Size.
    pub bytes: u64,
    /// Hash in hexadecimal.
    pub sha256: String,
}

/// An open store. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    /// As in the configuration, with the identity of a local store.
    place: String,
    /// Of a local store.
    folder: Option<PathBuf>,
}

impl Objects {
    /// Opens `file:///folder` (created if missing) or `s3://bucket/prefix` (credentials from the `AWS_*` variables).
    pub fn open(url: &str) -> Result<Self, ObjectsError> {
        if let Some(folder) = url.strip_prefix("file://") {
            std::fs::create_dir_all(folder).map_err(|e| {
                ObjectsError::Config(format!("the folder {folder} cannot be made: {e}"))
            })?;
            let store = LocalFileSystem::new_with_prefix(folder)
                .map_err(|e| ObjectsError::Config(e.to_string()))?
                .with_automatic_cleanup(true);
            return Ok(Self {
                store: Arc::new(store),
                prefix: String::new(),
                place: place(url, folder.as_ref()),
                folder: Some(folder.into()),
            });
        }
        let Some(rest) = url.strip_prefix("s3://") else {
            return Err(ObjectsError::Config(format!(
                "{url}: use file:///folder or s3://bucket/prefix"
            )));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let store = object_store::aws::AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .build()
            .map_err(|e| ObjectsError::Config(e.to_string()))?;
        Ok(Self {
            store: Arc::new(store),
            prefix: prefix.trim_matches('/').to_owned(),
            place: url.to_owned(),
            folder: None,
        })
    }

    /// Which store it is: as the configuration says, without credentials. Two folders of one path, on two machines, are two stores.
    pub fn place(&self) -> &str {
        &self.place
    }

    fn path(&self, key: &str) -> Path {
        if self.prefix.is_empty() {
            Path::from(key)
        } else {
            Path::from(format!("{}/{key}", self.prefix))
        }
    }

    /// Stores a small object.
    pub async fn put_bytes(&self, key: &str, bytes: Vec<u8>) -> Result<Stored, ObjectsError> {
        let stored = Stored {
            bytes: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(&bytes)),
        };
        self.store
            .put(&self.path(key), PutPayload::from(bytes))
            .await
            .map_err(|e| failed(key, &e))?;
        Ok(stored)
    }

    /// Stores a file without holding it in memory.
    pub async fn put_file(&self, key: &str, path: &FsPath) -> Result<Stored, ObjectsError> {
        let file = tokio::fs::File::open(path)
            .await
            .map_err(|e| local("read", &e))?;
        let reader = tokio_util::io::ReaderStream::with_capacity(file, READ_BYTES);
        self.put_stream(key, reader, u64::MAX).await
    }

    /// Stores what a stream brings, at most `bytes_max`. Nothing is kept when it fails.
    pub async fn put_stream<B: AsRef<[u8]>, E: std::fmt::Display>(
        &self,
        key: &str,
        stream: impl Stream<Item = Result<B, E>>,
        bytes_max: u64,
    ) -> Result<Stored, ObjectsError> {
        let upload = self
            .store
            .put_multipart(&self.path(key))
            .await
            .map_err(|e| failed(key, &e))?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        match copy(&mut writer, stream, bytes_max).await {
            Ok(stored) => {
                writer.finish().await.map_err(|e| failed(key, &e))?;
                Ok(stored)
            }
            Err(error) => {
                // The parts of a failed upload must not stay behind; if even that fails, the first error is the one to tell.
                drop(writer.abort().await);
                Err(error)
            }
        }
    }

    /// Copies an object into a local file, for tools that want one.
    pub async fn fetch(&self, key: &str, to: &FsPath) -> Result<(), ObjectsError> {
        let mut body = self
            .store
            .get(&self.path(key))
            .await
            .map_err(|e| failed(key, &e))?
            .into_stream();
        let mut file = tokio::fs::File::create(to)
            .await
            .map_err(|e| local("written", &e))?;
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|e| failed(key, &e))?;
            file.write_all(&bytes)
                .await
                .map_err(|e| local("written", &e))?;
        }
        file.flush().await.map_err(|e| local("written", &e))
    }

    /// Removes an object; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(failed(key, &e)),
        }
    }

    /// Removes everything below a key, also what an interrupted write left there; nothing there is no error. In S3 the parts
    /// of an interrupted upload are seen by nobody but the bucket's own rule for them.
    pub async fn discard(&self, key: &str) -> Result<(), ObjectsError> {
        if let Some(folder) = &self.folder {
            // A store of files lists no file that is still being written.
            return match tokio::fs::remove_dir_all(folder.join(key)).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(ObjectsError::Failed(error.to_string()))
                }
                _ => Ok(()),
            };
        }
        let path = self.path(key);
        let mut found = self.store.list(Some(&path));
        while let Some(object) = found.try_next().await.map_err(|e| failed(key, &e))? {
            self.store
                .delete(&object.location)
                .await
                .map_err(|e| failed(key, &e))?;
        }
        Ok(())
    }
}

/// Without its mark, which only a folder that is full or closed to us lacks, a store is known by its path alone.
fn place(url: &str, folder: &FsPath) -> String {
    mark(folder).map_or_else(|_| url.to_owned(), |mark| format!("{url}#{mark}"))
}

/// What is written in the folder, by whoever opened it first.
fn mark(folder: &FsPath) -> std::io::Result<String> {
    let path = folder.join(MARK);
    if !path.exists() {
        // Readable for those who may read the folder.
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        file.write_all(new_job_id().to_string().as_bytes())?;
        // If somebody was quicker, theirs counts.
        drop(file.persist_noclobber(&path));
    }
    std::fs::read_to_string(path)
}

async fn copy<B: AsRef<[u8]>, E: std::fmt::Display>(
    writer: &mut WriteMultipart,
    stream: impl Stream<Item = Result<B, E>>,
    bytes_max: u64,
) -> Result<Stored, ObjectsError> {
    let mut hash = Sha256::new();
    let mut total = 0u64;
    futures::pin_mut!(stream);
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|e| ObjectsError::Failed(e.to_string()))?;
        let piece = piece.as_ref();
        total += piece.len() as u64;
        if total > bytes_max {
            return Err(ObjectsError::TooLarge(bytes_max));
        }
        hash.update(piece);
        writer
            .wait_for_capacity(2)
            .await
            .map_err(|e| failed("", &e))?;
        writer.write(piece);
    }
    Ok(Stored {
        bytes: total,
        sha256: hex::encode(hash.finalize()),
    })
}

fn failed(key: &str, error: &object_store::Error) -> ObjectsError {
    match error {
        object_store::Error::NotFound { .. } => ObjectsError::NotFound(key.to_owned()),
        // The store's own text can name hosts and buckets, never credentials.
        other => ObjectsError::Failed(with_shortage(other)),
    }
}

fn local(what: &str, error: &std::io::Error) -> ObjectsError {
    ObjectsError::Local(format!(
        "a temporary file could not be {what}: {}",
        with_shortage(error)
    ))
}

/// The error, and what this machine is short of if that is its reason.
fn with_shortage(error: &(dyn std::error::Error + 'static)) -> String {
    shortage(error).map_or_else(|| error.to_string(), |short| format!("{error}: {short}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    // X50
    #[tokio::test]
    async fn what_is_below_a_key_goes_with_what_was_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(&format!("file://{}", folder.path().display())).unwrap();
        for key in [
            "documents/1/original",
            "documents/1/images/a",
            "documents/2/original",
        ] {
            objects.put_bytes(key, b"x".to_vec()).await.unwrap();
        }
        // As the store names a file that is being written.
        std::fs::write(folder.path().join("documents/1/original#1"), b"half").unwrap();
        objects.discard("documents/1").await.unwrap();
        objects.discard("documents/3").await.unwrap();
        let left = std::fs::read_dir(folder.path().join("documents"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["2"]);
    }

    // X50
    #[test]
    fn two_folders_of_one_path_are_two_stores_and_one_folder_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let (here, away) = (folder.path().join("objects"), folder.path().join("away"));
        let place = || {
            Objects::open(&format!("file://{}", here.display()))
                .unwrap()
                .place()
                .to_owned()
        };
        let one = place();
        assert_eq!(place(), one);
        std::fs::rename(&here, &away).unwrap();
        assert_ne!(place(), one);
        std::fs::remove_dir_all(&here).unwrap();
        std::fs::rename(&away, &here).unwrap();
        assert_eq!(place(), one);
    }
}
