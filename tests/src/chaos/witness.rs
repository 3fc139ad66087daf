//! What the tables say: a trigger that records every step into and out of a final state, and the rows at the end.
//!
//! The trigger is of the run, not of the product: it sees what the product does, also what the product does not know of.

use anyhow::{Context as _, Result};
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

use super::judge::{Document, Left, Row, Settled};

/// Tables and triggers of the witness.
const INSTALL: &str = r"
CREATE SCHEMA chaos;
CREATE TABLE chaos.settled (job uuid NOT NULL, epoch int NOT NULL, state smallint NOT NULL);
-- What moved although it was final. A redrive writes the audit log in its own statement, and the trigger sees it.
CREATE TABLE chaos.left_final (job uuid NOT NULL, was smallint NOT NULL, became smallint NOT NULL, audited boolean NOT NULL);
CREATE FUNCTION chaos.settle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.settled VALUES (NEW.id, NEW.epoch, NEW.state);
  RETURN NULL;
END $$;
CREATE FUNCTION chaos.leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.left_final VALUES (OLD.id, OLD.state, NEW.state, EXISTS (
    SELECT 1 FROM millstream.audit WHERE action = 'retry' AND detail -> 'jobs' ? OLD.id::text));
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_settle AFTER UPDATE ON millstream.job FOR EACH ROW
  WHEN (OLD.state <> NEW.state AND NEW.state IN (2, 7, 8)) EXECUTE FUNCTION chaos.settle();
-- Any change counts, also one that leaves the state: a final row is not touched.
CREATE TRIGGER chaos_leave AFTER UPDATE ON millstream.job FOR EACH ROW
  WHEN (OLD.state IN (2, 7, 8) AND (OLD.state, OLD.epoch, OLD.attempt, OLD.finished_at, OLD.result)
        IS DISTINCT FROM (NEW.state, NEW.epoch, NEW.attempt, NEW.finished_at, NEW.result))
  EXECUTE FUNCTION chaos.leave();
";

/// Jobs that are not final.
pub const OPEN: &str = "SELECT count(*) FROM millstream.job WHERE state NOT IN (2, 7, 8)";
/// Some of them, for people.
pub const OPEN_DETAIL: &str = r"
SELECT format('%s %s state %s epoch %s attempt %s crashes %s, enqueued %s, ready %s, lease %s, parcel %s', k.name, j.id, j.state, j.epoch, j.attempt,
              j.crash_count, j.enqueued_at, j.ready_at, l.leased_at, p)
FROM millstream.job j JOIN millstream.kind k ON k.id = j.kind_id
LEFT JOIN millstream.lease l ON l.job_id = j.id
LEFT JOIN millstream.parcel p ON j.id = ANY (p.ids)
WHERE j.state NOT IN (2, 7, 8) ORDER BY j.id LIMIT 5";
/// Documents that are not final.
pub const OPEN_DOCUMENTS: &str =
    "SELECT count(*) FROM millstream.document WHERE state NOT IN ('completed', 'failed')";

/// Puts the witness into a fresh database.
pub async fn install(url: &str) -> Result<()> {
    let mut conn = connect(url).await?;
    sqlx::raw_sql(INSTALL)
        .execute(&mut conn)
        .await
        .context("the witness cannot be installed")?;
    Ok(())
}

/// What the tables say in the end.
pub struct Tables {
    /// Every job.
    pub rows: Vec<Row>,
    /// Every step into a final state.
    pub settled: Vec<Settled>,
    /// Every change of a final row.
    pub left: Vec<Left>,
    /// Every document.
    pub documents: Vec<Document>,
}

/// Reads all of it.
pub async fn read(url: &str) -> Result<Tables> {
    let mut conn = connect(url).await?;
    Ok(Tables {
        rows: rows(&mut conn).await?,
        settled: settled(&mut conn).await?,
        left: left(&mut conn).await?,
        documents: documents(&mut conn).await?,
    })
}

async fn connect(url: &str) -> Result<PgConnection> {
    Ok(url
        .parse::<PgConnectOptions>()?
        .application_name("chaos")
        .connect()
        .await?)
}

type JobTuple = (Uuid, Option<i64>, String, i16, i32, i16, i16, i16);

async fn rows(conn: &mut PgConnection) -> Result<Vec<Row>> {
    let found: Vec<JobTuple> = sqlx::query_as(
        r#"SELECT j.id, CASE WHEN k.name LIKE 'chaos.%' THEN substring(j.payload FROM '"token": *(\d+)')::bigint END,
                  k.name::text, j.state, j.epoch, j.attempt, j.max_attempts, j.crash_count
           FROM millstream.job j JOIN millstream.kind k ON k.id = j.kind_id"#,
    )
    .fetch_all(conn)
    .await?;
    let row =
        |(job, token, kind, state, epoch, attempt, max_attempts, crash_count): JobTuple| Row {
            job,
            token: token.map(|token| token as u64),
            kind,
            state,
            epoch,
            attempt,
            max_attempts,
            crash_count,
        };
    Ok(found.into_iter().map(row).collect())
}

async fn settled(conn: &mut PgConnection) -> Result<Vec<Settled>> {
    let found: Vec<(Uuid, i32, i16)> =
        sqlx::query_as("SELECT job, epoch, state FROM chaos.settled")
            .fetch_all(conn)
            .await?;
    Ok(found
        .into_iter()
        .map(|(job, epoch, state)| Settled { job, epoch, state })
        .collect())
}

async fn left(conn: &mut PgConnection) -> Result<Vec<Left>> {
    let found: Vec<(Uuid, i16, i16, bool)> =
        sqlx::query_as("SELECT job, was, became, audited FROM chaos.left_final")
            .fetch_all(conn)
            .await?;
    Ok(found
        .into_iter()
        .map(|(job, was, became, audited)| Left {
            job,
            was,
            became,
            audited,
        })
        .collect())
}

async fn documents(conn: &mut PgConnection) -> Result<Vec<Document>> {
    let found: Vec<(String, String)> =
        sqlx::query_as("SELECT name, state FROM millstream.document")
            .fetch_all(conn)
            .await?;
    let document = |(name, state): (String, String)| Document {
        token: name.strip_suffix(".pdf").and_then(|t| t.parse().ok()),
        state,
    };
    Ok(found.into_iter().map(document).collect())
}
