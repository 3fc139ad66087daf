//! `/v1/batches`: groups of jobs (F40). The statements are those of `ops::batches`.

pub(super) mod list;
mod moves;
pub(super) mod open;
pub(super) mod show;

pub(super) use self::moves::{cancel, retry, seal};
