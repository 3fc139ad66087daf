//! What a role may do in the schema: known before the first statement needs it.
//!
//! Read from the catalogs of Postgres, which anybody may read, so that the answer is the same when nothing may be read but them. It knows which
//! rights a worker needs, of all tables and functions that are there, and nothing of what is done with them.

use sqlx::PgConnection;

use super::{migrate::connect, within};
use crate::error::Outage;

/// A right that the role of a connection lacks.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct MissingRight {
    /// What needs it.
    pub needed_for: String,
    /// The statement that gives it, for the owner of the schema.
    pub grant: String,
}

/// What the role of this URL lacks of the rights of a worker.
pub async fn missing_rights(url: &str) -> Result<Vec<MissingRight>, Outage> {
    missing(&mut connect(url, "connecting to read the rights of this role").await?).await
}

async fn missing(conn: &mut PgConnection) -> Result<Vec<MissingRight>, Outage> {
    within(
        "reading the rights of this role",
        sqlx::query_as(MISSING).fetch_all(conn),
    )
    .await
}

/// Partitions are reached through their table. The bookkeeping of migrations is only read.
const MISSING: &str = "WITH schema AS (
    SELECT oid FROM pg_namespace WHERE nspname = 'millstream'
  ), lacking AS (
    SELECT c.oid::regclass::text AS name, string_agg(p.privilege, ', ' ORDER BY p.nth) AS privileges
    FROM schema s JOIN pg_class c ON c.relnamespace = s.oid
    CROSS JOIN LATERAL unnest(CASE WHEN c.relkind = 'v' OR c.relname = '_migrations' THEN '{SELECT}'::text[] ELSE '{SELECT,INSERT,UPDATE,DELETE}' END)
      WITH ORDINALITY AS p(privilege, nth)
    WHERE c.relkind IN ('r', 'p', 'v') AND c.relname !~ '^job_\\d{8}$' AND NOT has_table_privilege(c.oid, p.privilege)
    GROUP BY c.oid
  ), functions AS (
    SELECT CASE WHEN f.proname = 'ensure_partitions' THEN 'duty partitions, which makes the days to come'
             WHEN f.proname IN ('seal_day', 'unseal_day', 'drop_day') THEN 'duty retention, which removes the days that are over'
             ELSE 'jobs' END AS needed_for, f.oid::regprocedure::text AS name
    FROM schema s JOIN pg_proc f ON f.pronamespace = s.oid WHERE NOT has_function_privilege(f.oid, 'EXECUTE')
  )
  SELECT 'everything' AS needed_for, format('GRANT USAGE ON SCHEMA millstream TO %I', current_user) AS grant
  FROM schema WHERE NOT has_schema_privilege(oid, 'USAGE')
  UNION ALL
  SELECT 'jobs and housekeeping', format('GRANT %s ON %s TO %I', privileges, string_agg(name, ', ' ORDER BY name), current_user)
  FROM lacking GROUP BY privileges
  UNION ALL
  SELECT needed_for, format('GRANT EXECUTE ON FUNCTION %s TO %I', string_agg(name, ', ' ORDER BY name), current_user)
  FROM functions GROUP BY needed_for";

/// Whether the day after today has a partition. Jobs of a day that has none go to the default partition, which is not dropped as a whole.
pub async fn tomorrow_is_there(url: &str) -> Result<bool, Outage> {
    tomorrow(&mut connect(url, "connecting to look for partitions").await?).await
}

async fn tomorrow(conn: &mut PgConnection) -> Result<bool, Outage> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'millstream' AND c.relname = 'job_' || to_char(now() AT TIME ZONE 'UTC' + interval '1 day', 'YYYYMMDD'))",
    );
    within("looking for partitions", query.fetch_one(conn)).await
}

/// Says in the log of a worker what its role may not do, before the first duty fails for it.
pub async fn tell_missing_rights(url: &str) -> Result<(), Outage> {
    let mut conn = connect(url, "connecting to read the rights of this role").await?;
    for missing in missing(&mut conn).await? {
        tracing::error!(
            needed_for = missing.needed_for,
            grant = missing.grant,
            "the role of DATABASE_URL lacks a right"
        );
    }
    if !tomorrow(&mut conn).await? {
        tracing::warn!(
            "tomorrow has no partition yet: the worker that keeps house makes it, if its role may"
        );
    }
    Ok(())
}
