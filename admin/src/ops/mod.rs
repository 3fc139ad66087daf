//! What people and programs ask of a running installation: the statements that the command line and the HTTP API share.
//!
//! Invariants: every statement has a deadline; no statement counts the job table; every change of state goes through a
//! function of the schema that guards and audits it, or writes its audit row in the same statement.
//!
//! Knows nothing of terminals, HTTP or exit codes: answers are values, faults are [`Refusal`] and [`Outage`].
//!
//! Reading order: [`request`] and [`upload`] (in), [`jobs`] with [`logs`], [`documents`], [`report`] (what is there), [`wait`], [`explain`] (what will
//! be), [`moves`], [`dead`], [`batches`] (changes), [`names`] with [`queues`], [`kinds`], [`tenants`], then [`retention`], [`workers`], [`stats`].

pub mod request;
pub mod upload;

pub mod documents;
pub mod jobs;
pub mod logs;
pub mod report;

pub mod explain;
pub mod wait;

pub mod batches;
pub mod dead;
pub mod moves;

pub mod kinds;
pub mod names;
pub mod page;
pub mod queues;
pub mod retention;
pub mod stats;
pub mod tenants;
pub mod times;
pub mod workers;

pub use millstream_common::error::{Error, Outage, Refusal};

use millstream_common::pg::Pg;
use sqlx::{
    FromRow, Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};

pub use self::page::{PAGE_ROWS, PAGE_ROWS_MAX};

/// Runs a statement and decodes its rows. It may run twice, if the connection breaks: it reads, or its writes are guarded.
pub(crate) async fn rows<T>(
    pg: &Pg,
    op: &'static str,
    query: QueryAs<'_, Postgres, T, PgArguments>,
) -> Result<Vec<T>, Outage>
where
    T: Send + Unpin + for<'r> FromRow<'r, PgRow>,
{
    // Not persistent: the plan is made for the very filters at hand, which is what "… IS NULL OR …" conditions need.
    pg.repeat(op).all(query.persistent(false)).await
}

/// Runs a statement whose answer is at most one row. It may run twice, as in [`rows`].
pub(crate) async fn row<T>(
    pg: &Pg,
    op: &'static str,
    query: QueryAs<'_, Postgres, T, PgArguments>,
) -> Result<Option<T>, Outage>
where
    T: Send + Unpin + for<'r> FromRow<'r, PgRow>,
{
    pg.repeat(op).optional(query).await
}
