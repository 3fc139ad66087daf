//! The door for documents: a row with its five stages and the first job, in one transaction (P1, P2).
//!
//! The bytes are in the object store before this is called. Knows nothing of PDF.

use uuid::Uuid;

use crate::pg::Scalar;

/// A stored file that is to go through the pipeline.
#[derive(Debug, Clone)]
pub struct NewDocument {
    /// Made by the client; submitting the same id twice is harmless.
    pub id: Uuid,
    /// Number of the tenant.
    pub tenant_id: i32,
    /// File name, for people.
    pub name: String,
    /// Where the bytes are in the object store.
    pub object_key: String,
    /// Size of the file.
    pub bytes: u64,
    /// Hash of the file, in hexadecimal.
    pub sha256: String,
}

/// Makes a document of an upload that was begun (a row of `millstream.upload`): inserts the document, its stages and the
/// extraction job. False: the upload was given up, and its bytes are being removed.
pub fn submit(document: &NewDocument) -> Scalar<'_, bool> {
    sqlx::query_scalar("SELECT millstream.submit_upload($1, $2, $3, $4, $5, $6)")
        .bind(document.id)
        .bind(document.tenant_id)
        .bind(&document.name)
        .bind(&document.object_key)
        .bind(document.bytes as i64)
        .bind(&document.sha256)
}
