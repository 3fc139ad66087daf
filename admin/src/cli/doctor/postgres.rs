//! Postgres: reachable, the right version, safe settings, the right schema.

use millstream_common::pg::{
    LOCK_TIMEOUT_MS, Pg, STATEMENT_TIMEOUT_MS, check_encoding, missing_rights, schema_status,
    tomorrow_is_there,
};

use super::Check;
use crate::{
    cli::{CommandError, Invocation},
    ops::row,
};

/// The oldest major version that the project is tested with.
const VERSION_MIN: i32 = 14;

pub(super) async fn check(context: &Invocation) -> Vec<Check> {
    let mut checks = match asked(context).await {
        Ok(checks) => checks,
        Err(failure) => vec![Check::down("postgres", &failure, context)],
    };
    // Also where the schema may not be read: then this says why. Without a schema there are no rights in it.
    let is_empty = checks
        .iter()
        .any(|check| check.name == "schema" && check.detail.starts_with("version 0 "));
    if let (false, Ok(url)) = (is_empty, context.database_url()) {
        checks.extend(rights(url).await.unwrap_or_default());
    }
    checks
}

#[derive(sqlx::FromRow)]
struct Settings {
    version: i32,
    version_text: String,
    encoding: String,
    fsync: String,
    synchronous_commit: String,
    full_page_writes: String,
    in_recovery: bool,
    read_only: bool,
    connections_max: i32,
    connections: i64,
    vector: bool,
    statement_timeout_ms: i64,
    lock_timeout_ms: i64,
}

async fn asked(context: &Invocation) -> Result<Vec<Check>, CommandError> {
    let url = context.database_url()?;
    // First on a connection of its own, which fails at once where the pool would try again for seconds.
    let status = schema_status(url).await?;
    let query = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int / 10000 AS version, current_setting('server_version') AS version_text,
                current_setting('server_encoding') AS encoding,
                current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
                current_setting('full_page_writes') AS full_page_writes, pg_is_in_recovery() AS in_recovery,
                current_setting('transaction_read_only')::boolean AS read_only,
                current_setting('max_connections')::int AS connections_max, (SELECT count(*) FROM pg_stat_activity) AS connections,
                EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector') AS vector,
                (SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout') AS statement_timeout_ms,
                (SELECT setting::bigint FROM pg_settings WHERE name = 'lock_timeout') AS lock_timeout_ms",
    );
    let settings: Option<Settings> =
        row(&Pg::new(url, 1)?, "reading the settings of Postgres", query).await?;
    let mut checks = settings
        .map(|s| judge(&s, context.places().postgres()))
        .unwrap_or_default();
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
        return Check::fail(
            "postgres role",
            "in recovery",
            "DATABASE_URL must name the primary, which takes writes",
        );
    }
    if s.read_only {
        let advice = "nothing is accepted, claimed or settled: see why default_transaction_read_only is on (a full disk?), and turn it off";
        return Check::fail("postgres role", "takes no writes", advice);
    }
    Check::ok("postgres role", "primary")
}

/// What a worker under this role could not do, each with what grants it.
async fn rights(url: &str) -> Result<Vec<Check>, CommandError> {
    let missing = missing_rights(url).await?;
    let mut checks: Vec<_> = missing
        .into_iter()
        .map(|right| {
            Check::warn(
                "worker rights",
                format!(
                    "a worker with this role lacks one, for {}",
                    right.needed_for
                ),
                right.grant,
            )
        })
        .collect();
    if checks.is_empty() {
        checks.push(Check::ok(
            "worker rights",
            "this role may do what a worker does",
        ));
    }
    checks.push(Check::warn_unless(
        tomorrow_is_there(url).await?,
        "partitions",
        "the one of tomorrow",
        "it is not there: jobs of that day go to the default partition and are removed one by one; a worker that lives and has the rights makes it",
    ));
    Ok(checks)
}

/// What every session asks for at its start. A pooler may be told to ignore it.
fn session_limits(s: &Settings) -> Check {
    let kept = |found: i64, wanted: u64| found > 0 && found as u64 <= wanted;
    let (statement, lock) = (STATEMENT_TIMEOUT_MS as u64, LOCK_TIMEOUT_MS);
    Check::warn_unless(
        kept(s.statement_timeout_ms, statement) && kept(s.lock_timeout_ms, lock),
        "session limits",
        format!(
            "statement_timeout {} ms, lock_timeout {} ms",
            s.statement_timeout_ms, s.lock_timeout_ms
        ),
        &format!(
            "sessions ask for {statement} and {lock} and do not get them, so a pooler ignores it and a stuck statement is never given up: ALTER ROLE … SET statement_timeout = {statement}, and SET lock_timeout = {lock}"
        ),
    )
}

fn judge(s: &Settings, place: &str) -> Vec<Check> {
    let version = format!("{} at {place}", s.version_text);
    vec![
        if s.version >= VERSION_MIN {
            Check::ok("postgres", version)
        } else {
            Check::fail(
                "postgres",
                version,
                format!("Postgres {VERSION_MIN} or newer is needed"),
            )
        },
        role(s),
        match check_encoding(&s.encoding) {
            Ok(()) => Check::ok("encoding", &s.encoding),
            Err(why) => Check::fail("encoding", &s.encoding, why),
        },
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
        session_limits(s),
        if s.vector {
            Check::ok("pgvector", "available")
        } else {
            Check::ok("pgvector", "absent: vectors are stored as real[]")
        },
    ]
}
