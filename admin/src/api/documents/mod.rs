//! Endpoints of documents, one per file.

pub(super) mod add;
pub(super) mod list;
pub(super) mod show;
