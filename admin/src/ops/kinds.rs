//! Kinds: what jobs there can be.

use chrono::{DateTime, Utc};
use millstream_common::pg::Pg;
use serde::Serialize;
use sqlx::FromRow;

use super::{Error, Outage, Refusal, names, row, rows};

/// Whether a plain `millstream worker` runs that kind. Others need a program of somebody's own, and `crash` a worker with
/// diagnostics.
pub(super) fn in_the_box(kind: &str) -> bool {
    millstream_kinds::KINDS.contains(&kind) || millstream_documents::KINDS.contains(&kind)
}

/// One kind.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// Nothing of it is handed out.
    pub paused: bool,
    /// Counted tries of a job that does not say otherwise.
    pub max_attempts: i16,
    /// A person has set them; else they are those of the handlers.
    pub max_attempts_fixed: bool,
    /// What handlers of live workers say, where that is another number; each once.
    pub handlers_say: Vec<i16>,
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
        "SELECT k.name::text AS name, k.paused, k.max_attempts, k.max_attempts_fixed, k.chunk, k.created_at,
                ARRAY(SELECT DISTINCT d.worker_says FROM millstream.tries_differ d WHERE d.kind_id = k.id ORDER BY 1) AS handlers_say,
                (SELECT count(*) FROM millstream.worker w JOIN millstream.worker_beat b ON b.worker_id = w.id
                 WHERE w.ended_at IS NULL AND k.id = ANY(w.kinds) AND b.beat_at > now() - make_interval(secs => $1)) AS workers
         FROM millstream.kind k ORDER BY k.name",
    );
    rows(
        pg,
        "listing kinds",
        query.bind(super::workers::SILENT_AFTER.as_secs_f64()),
    )
    .await
}

/// Makes a kind known before a worker registers it. Returns whether it is new; an existing one is left as it is. Tries that are not given
/// here are those of the handler, once one is registered.
pub async fn add(
    pg: &Pg,
    name: &str,
    max_attempts: Option<i16>,
    actor: &str,
) -> Result<bool, Error> {
    max_attempts.map_or(Ok(()), check_tries)?;
    let new = names::add(pg, names::Thing::Kind, name, actor).await?;
    if let (true, Some(max)) = (new, max_attempts) {
        set_tries(pg, name, Some(max), actor).await?;
    }
    Ok(new)
}

/// Sets the tries of jobs that are enqueued from now on and do not say otherwise; `None`: what the handlers say, from the next start of a
/// worker on, or at once where one lives. Refuses unknown kinds. Returns the tries that hold now.
pub async fn set_tries(
    pg: &Pg,
    name: &str,
    max_attempts: Option<i16>,
    actor: &str,
) -> Result<i16, Error> {
    max_attempts.map_or(Ok(()), check_tries)?;
    let query = sqlx::query_as(
        "WITH changed AS (
           UPDATE millstream.kind k SET max_attempts_fixed = $2::smallint IS NOT NULL,
             max_attempts = COALESCE($2, (SELECT d.worker_says FROM millstream.tries_differ d WHERE d.kind_id = k.id ORDER BY d.worker_id DESC LIMIT 1), max_attempts)
           WHERE name = $1 RETURNING name::text, max_attempts
         ), audited AS (
           INSERT INTO millstream.audit (actor, action, detail)
           SELECT $3, 'set', jsonb_build_object('kind', name, 'max_attempts', $2::smallint) FROM changed
         )
         SELECT max_attempts FROM changed",
    );
    let set: Option<(i16,)> = row(
        pg,
        "setting max_attempts",
        query.bind(name).bind(max_attempts).bind(actor),
    )
    .await?;
    set.map(|(tries,)| tries)
        .ok_or_else(|| names::not_found(names::Thing::Kind, name).into())
}

fn check_tries(max: i16) -> Result<(), Refusal> {
    if (1..=1000).contains(&max) {
        return Ok(());
    }
    Err(Refusal::Invalid(format!(
        "max_attempts must be between 1 and 1000, not {max}"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use millstream_common::config::Config;
    use millstream_kinds::built_in;

    use super::in_the_box;

    // X33
    #[test]
    fn the_list_of_kinds_in_the_box_is_what_is_in_it() {
        // A second call only says that there is a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Config::load(None).unwrap();
        assert!(
            built_in(&config)
                .unwrap()
                .iter()
                .all(|handler| in_the_box(handler.kind()))
        );
        assert!(!in_the_box("crash") && !in_the_box("document") && in_the_box("document.extract"));
    }
}
