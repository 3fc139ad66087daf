//! The schema: embedded migrations, up and down, and the check that program and database agree.

use sqlx::{
    Connection, PgConnection,
    migrate::{Migration, Migrator},
};

use super::{Reverted, connect_options};
use crate::error::Outage;

static EMBEDDED: Migrator = sqlx::migrate!("../migrations");

/// The bookkeeping lives beside our tables, not in the user's `public` schema.
const TABLE: &str = "millstream._migrations";

/// What a connection is for, as errors say it.
const MIGRATING: &str = "connecting for a migration";
const CHECKING: &str = "connecting to check the schema";

/// How far a database is.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SchemaStatus {
    /// Newest migration applied; 0: none.
    pub applied: i64,
    /// Newest migration this program has.
    pub wanted: i64,
    /// Number and name of every migration this program has, and whether it is applied.
    pub migrations: Vec<(i64, String, bool)>,
}

fn migrator() -> Migrator {
    let mut migrator = Migrator {
        migrations: EMBEDDED.migrations.clone(),
        ..Migrator::DEFAULT
    };
    migrator.dangerous_set_table_name(TABLE);
    migrator.create_schema("millstream");
    // A newer program may have migrated already; the old one must still start beside it.
    migrator.set_ignore_missing(true);
    migrator
}

pub(super) async fn connect(url: &str, op: &'static str) -> Result<PgConnection, Outage> {
    let options = connect_options(url)?;
    tokio::time::timeout(
        crate::limits::ACQUIRE_DEADLINE,
        PgConnection::connect_with(&options),
    )
    .await
    .map_err(|_| Outage::PostgresTimeout { op })?
    .map_err(|source| Outage::Postgres { op, source })
}

fn failed(error: &sqlx::migrate::MigrateError) -> Outage {
    Outage::Schema(format!(
        "migration failed: {}",
        crate::error::in_full(error)
    ))
}

/// Applies every missing migration. Safe when several processes call it at once (advisory lock).
///
/// Refuses a database that cannot hold every text: a job that it cannot store would fail the statement that it shares with others.
/// Refuses also a database of the old numbering, before anything is changed.
pub async fn migrate_up(url: &str) -> Result<SchemaStatus, Outage> {
    let mut conn = connect(url, MIGRATING).await?;
    let query = sqlx::query_scalar::<_, String>("SHOW server_encoding").fetch_one(&mut conn);
    if let Err(why) =
        check_encoding(&super::within("asking for the encoding of the database", query).await?)
    {
        return Err(Outage::Schema(why));
    }
    status_on(&mut conn).await?;
    migrator()
        .run_direct(None, &mut conn, false)
        .await
        .map_err(|e| failed(&e))?;
    status_on(&mut conn).await
}

/// Why a database of this encoding (`server_encoding`) is of no use.
pub fn check_encoding(encoding: &str) -> Result<(), String> {
    let why = match encoding {
        "UTF8" => return Ok(()),
        "SQL_ASCII" => "which does not know what a character is",
        _ => "which has not every character",
    };
    Err(format!(
        "the database is encoded in {encoding}, {why}: make one with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0 and name it in DATABASE_URL"
    ))
}

/// Reverts down to `target` (0: everything). Destroys data.
pub async fn migrate_down(url: &str, target: i64) -> Result<SchemaStatus, Outage> {
    let mut conn = connect(url, MIGRATING).await?;
    status_on(&mut conn).await?;
    migrator()
        .undo(&mut conn, target)
        .await
        .map_err(|e| failed(&e))?;
    status_on(&mut conn).await
}

/// What each step down to `target` takes with it, in the order in which they are taken back.
pub fn would_revert(status: &SchemaStatus, target: i64) -> Vec<Reverted> {
    let is_applied = |version| {
        status
            .migrations
            .iter()
            .any(|(known, _, applied)| *known == version && *applied)
    };
    let downs = EMBEDDED.iter().filter(|m| {
        m.migration_type.is_down_migration() && m.version > target && is_applied(m.version)
    });
    let mut steps: Vec<_> = downs
        .map(|m| Reverted::read(m.version, &m.description, m.sql.as_str()))
        .collect();
    steps.sort_by_key(|step| std::cmp::Reverse(step.version));
    steps
}

/// Reads how far the database is; changes nothing. Fails on a database of the old numbering, whose versions mean other migrations.
pub async fn schema_status(url: &str) -> Result<SchemaStatus, Outage> {
    status_on(&mut connect(url, CHECKING).await?).await
}

async fn status_on(conn: &mut PgConnection) -> Result<SchemaStatus, Outage> {
    let op = "reading the schema version";
    let query = async {
        let known: bool =
            sqlx::query_scalar("SELECT to_regclass('millstream._migrations') IS NOT NULL")
                .fetch_one(&mut *conn)
                .await?;
        if !known {
            return Ok(Vec::new());
        }
        sqlx::query_as::<_, (i64, Vec<u8>)>(
            "SELECT version, checksum FROM millstream._migrations WHERE success ORDER BY 1",
        )
        .fetch_all(&mut *conn)
        .await
    };
    let applied = super::within(op, query).await?;
    check_numbering(&applied)?;
    let applied: Vec<i64> = applied.into_iter().map(|(version, _)| version).collect();
    let migrations: Vec<_> = ups()
        .map(|m| {
            (
                m.version,
                m.description.to_string(),
                applied.contains(&m.version),
            )
        })
        .collect();
    Ok(SchemaStatus {
        applied: applied.into_iter().max().unwrap_or(0),
        wanted: migrations.iter().map(|m| m.0).max().unwrap_or(0),
        migrations,
    })
}

fn ups() -> impl Iterator<Item = &'static Migration> {
    EMBEDDED
        .iter()
        .filter(|m| m.migration_type.is_up_migration())
}

/// Refuses a database in which a version that this program knows is another migration. Before the first release the migrations were
/// written anew under lower numbers: by its number alone such a database looks newer than the program.
fn check_numbering(applied: &[(i64, Vec<u8>)]) -> Result<(), Outage> {
    let is_other = |version: i64, checksum: &[u8]| {
        ups().any(|known| known.version == version && known.checksum.as_ref() != checksum)
    };
    match applied
        .iter()
        .find(|(version, checksum)| is_other(*version, checksum))
    {
        None => Ok(()),
        Some((version, _)) => Err(Outage::Schema(format!(
            "migration {version} of this database is not the one of this program: a database from before the first release cannot be migrated \
             and must be made anew. Nothing was changed. Drop the database with its jobs and create it again (of \"millstream dev\": remove its \
             --data-dir), then run \"millstream migrate up\""
        ))),
    }
}

/// Refuses to go on with a schema that lacks what this program needs. A newer schema is fine: migrations only add
/// until the next release, so that old and new programs run side by side.
///
/// Refuses also a server in recovery: what is read there may never have been true, and nothing can be written.
pub async fn require_schema(url: &str) -> Result<(), Outage> {
    let mut conn = connect(url, CHECKING).await?;
    require_primary(&mut conn).await?;
    let status = status_on(&mut conn).await?;
    if status.applied >= status.wanted {
        return Ok(());
    }
    Err(Outage::Schema(format!(
        "the database schema is at version {}, this program needs {}: run \"millstream migrate up\"",
        status.applied, status.wanted
    )))
}

async fn require_primary(conn: &mut PgConnection) -> Result<(), Outage> {
    let query = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(conn);
    let in_recovery: bool = super::within("asking Postgres for its role", query).await?;
    if in_recovery {
        return Err(Outage::Schema(
            "Postgres is in recovery: DATABASE_URL must name the primary, which takes writes"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Says in the log of a service if this server may lose accepted jobs in a crash. That is told and borne with, since tests
/// and demonstrations have their reasons.
pub async fn tell_risks(url: &str) -> Result<(), Outage> {
    let mut conn = connect(url, "connecting to read the settings of Postgres").await?;
    let query =
        sqlx::query_as("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
            .fetch_one(&mut conn);
    let (fsync, synchronous_commit): (String, String) =
        super::within("reading the settings of Postgres", query).await?;
    if fsync != "on" || synchronous_commit == "off" {
        tracing::warn!(
            fsync,
            synchronous_commit,
            "a crash of Postgres can lose accepted jobs: both should be on"
        );
    }
    Ok(())
}
