//! Kinds: what jobs there can be.

use chrono::{DateTime, Utc};
use millstream_common::pg::Pg;
use serde::Serialize;
use sqlx::FromRow;

use super::{Error, Outage, Refusal, execute, names, rows};

/// One kind.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// Nothing of it is handed out.
    pub paused: bool,
    /// Counted tries of a job that does not say otherwise.
    pub max_attempts: i16,
    /// Jobs that one stream entry carries; learned from the mean run time.
    pub chunk: i16,
    /// Live workers that run it.
    pub workers: i64,
    /// When it became known.
    pub created_at: DateTime<Utc>,
}

/// All kinds, in the order of their names.
pub async fn list(pg: &Pg) -> Result<Vec<Kind>, Outage> {
    let query = sqlx::query_as(
        "SELECT k.name::text AS name, k.paused, k.max_attempts, k.chunk, k.created_at,
                (SELECT count(*) FROM millstream.worker w JOIN millstream.worker_beat b ON b.worker_id = w.id
                 WHERE w.ended_at IS NULL AND k.id = ANY(w.kinds) AND b.beat_at > now() - make_interval(secs => $1)) AS workers
         FROM millstream.kind k ORDER BY k.name",
    );
    rows(pg, "listing kinds", query.bind(super::workers::SILENT_AFTER.as_secs_f64())).await
}

/// Makes a kind known before a worker registers it. Returns whether it is new; an existing one is left as it is.
pub async fn add(pg: &Pg, name: &str, max_attempts: Option<i16>, actor: &str) -> Result<bool, Error> {
    if let Some(max) = max_attempts.filter(|max| !(1..=1000).contains(max)) {
        return Err(Refusal::Invalid(format!("max_attempts must be between 1 and 1000, not {max}")).into());
    }
    let new = names::add(pg, names::Thing::Kind, name, actor).await?;
    if let (true, Some(max)) = (new, max_attempts) {
        let query = sqlx::query("UPDATE millstream.kind SET max_attempts = $2 WHERE name = $1");
        execute(pg, "setting max_attempts", query.bind(name).bind(max)).await?;
    }
    Ok(new)
}
