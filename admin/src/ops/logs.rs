//! What a job's handler has logged, page by page, newest first.

use chrono::{DateTime, Utc};
use millstream_common::{id::JobId, pg::Pg};
use serde::Serialize;
use sqlx::FromRow;

use super::{Outage, PAGE_ROWS_MAX, rows};

/// One line.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct LogLine {
    /// Rises with every line that is written; the cursor of the next page.
    #[serde(skip)]
    pub id: i64,
    /// When it was said, by the clock of the worker.
    pub at: DateTime<Utc>,
    /// In which try, counted from 1; absent for lines of older workers.
    pub attempt: Option<i16>,
    /// In which hand-out.
    pub epoch: i32,
    /// Bounded text.
    pub line: String,
}

/// A page and the way to the next one.
#[derive(Debug)]
pub struct LogPage {
    /// Newest first.
    pub items: Vec<LogLine>,
    /// Give this as the cursor for older lines; absent on the last page.
    pub next: Option<i64>,
}

/// One page of the lines of a job. A job that is not there has none.
pub async fn page(pg: &Pg, id: JobId, limit: u32, cursor: Option<i64>) -> Result<LogPage, Outage> {
    let limit = limit.clamp(1, PAGE_ROWS_MAX);
    let query = sqlx::query_as(
        "SELECT id, at, attempt, epoch, line FROM millstream.job_log WHERE job_id = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
    );
    // One row more than asked tells whether there is a next page.
    let query = query.bind(id).bind(cursor).bind(i64::from(limit) + 1);
    let mut items: Vec<LogLine> = rows(pg, "reading log lines", query).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().map(|line| line.id).filter(|_| more);
    Ok(LogPage { items, next })
}
