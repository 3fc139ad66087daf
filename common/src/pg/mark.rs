//! The mark of a database: what sets its keys in Redis apart from those of any other database that was given the same prefix.
//!
//! Knows no Redis.

use super::Pg;
use crate::error::Outage;

/// Reads it. The schema must be there.
pub async fn mark(pg: &Pg) -> Result<String, Outage> {
    let mark: Option<String> = pg
        .main("reading the mark of the database")
        .one(sqlx::query_scalar("SELECT millstream.mark()"))
        .await?;
    mark.ok_or_else(|| {
        Outage::Schema(
            "millstream.installation is empty: insert its one row again, or restore it".to_owned(),
        )
    })
}
