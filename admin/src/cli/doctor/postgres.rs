//! Postgres: reachable, the right version, safe settings, the right schema.

use millstream_common::pg::{Pg, schema_status};

use super::Check;
use crate::{
    cli::{Context, Failure},
    ops::row,
};

/// The oldest major version that the project is tested with.
const VERSION_MIN: i32 = 14;

pub(super) async fn check(context: &Context) -> Vec<Check> {
    match asked(context).await {
        Ok(checks) => checks,
        Err(failure) => vec![Check::down("postgres", &failure, context)],
    }
}

#[derive(sqlx::FromRow)]
struct Settings {
    version: i32,
    version_text: String,
    fsync: String,
    synchronous_commit: String,
    full_page_writes: String,
    in_recovery: bool,
    read_only: bool,
    connections_max: i32,
    connections: i64,
    vector: bool,
}

async fn asked(context: &Context) -> Result<Vec<Check>, Failure> {
    let url = context.database_url()?;
    // First on a connection of its own, which fails at once where the pool would try again for seconds.
    let status = schema_status(url).await?;
    let query = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int / 10000 AS version, current_setting('server_version') AS version_text,
                current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
                current_setting('full_page_writes') AS full_page_writes, pg_is_in_recovery() AS in_recovery,
                current_setting('transaction_read_only')::boolean AS read_only,
                current_setting('max_connections')::int AS connections_max, (SELECT count(*) FROM pg_stat_activity) AS connections,
                EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector') AS vector",
    );
    let settings: Option<Settings> = row(&Pg::new(url, 1)?, "reading the settings of Postgres", query).await?;
    let mut checks = settings.map(|s| judge(&s, context.places().postgres())).unwrap_or_default();
    let versions = format!("version {} of {}", status.applied, status.wanted);
    checks.push(if status.applied >= status.wanted {
        Check::ok("schema", versions)
    } else {
        Check::fail("schema", versions, "run \"millstream migrate up\"")
    });
    Ok(checks)
}

fn role(s: &Settings) -> Check {
    if s.in_recovery {
        return Check::fail("postgres role", "in recovery", "DATABASE_URL must name the primary, which takes writes");
    }
    if s.read_only {
        let advice = "nothing is accepted, claimed or settled: see why default_transaction_read_only is on (a full disk?), and turn it off";
        return Check::fail("postgres role", "takes no writes", advice);
    }
    Check::ok("postgres role", "primary")
}

fn judge(s: &Settings, place: &str) -> Vec<Check> {
    let version = format!("{} at {place}", s.version_text);
    vec![
        if s.version >= VERSION_MIN {
            Check::ok("postgres", version)
        } else {
            Check::fail("postgres", version, format!("Postgres {VERSION_MIN} or newer is needed"))
        },
        role(s),
        Check::warn_unless(
            s.fsync == "on",
            "fsync",
            &s.fsync,
            "a crash of the machine can lose committed jobs: set fsync = on, except for tests",
        ),
        Check::warn_unless(
            s.full_page_writes == "on",
            "full_page_writes",
            &s.full_page_writes,
            "a crash of the machine can damage tables: set full_page_writes = on, except for tests",
        ),
        Check::warn_unless(
            s.synchronous_commit != "off",
            "synchronous_commit",
            &s.synchronous_commit,
            "a crash can lose jobs that were answered as accepted: set synchronous_commit = on",
        ),
        Check::warn_unless(
            s.connections * 10 < i64::from(s.connections_max) * 8,
            "connections",
            format!("{} of {}", s.connections, s.connections_max),
            "few are left: raise max_connections, or put PgBouncer in between",
        ),
        if s.vector { Check::ok("pgvector", "available") } else { Check::ok("pgvector", "absent: vectors are stored as real[]") },
    ]
}
