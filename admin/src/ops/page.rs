//! How much one page of a listing may hold, in rows and in bytes.

use millstream_common::{error::Refusal, id::JobId, pg::Pg};

use super::{Outage, rows};

/// Rows on one page of a listing, unless asked otherwise.
pub const PAGE_ROWS: u32 = 50;
/// Rows on one page at most: what one answer may cost.
pub const PAGE_ROWS_MAX: u32 = 500;
/// Payloads, results, metadata and errors on one page of jobs. 500 jobs of the largest size are 100 MB; this is enough for 50 of them,
/// and for 500 of an ordinary one. A page that ends early has a cursor like any other.
pub const PAGE_BYTES_MAX: i64 = 8 * 1024 * 1024;

/// The rows of a page as asked for, or [`PAGE_ROWS`].
pub fn limit(asked: Option<i64>) -> Result<u32, Refusal> {
    match asked.map(u32::try_from) {
        None => Ok(PAGE_ROWS),
        Some(Ok(rows)) if (1..=PAGE_ROWS_MAX).contains(&rows) => Ok(rows),
        Some(_) => Err(Refusal::Invalid(format!(
            "limit must be between 1 and {PAGE_ROWS_MAX}"
        ))),
    }
}

/// The page of a document at which its report begins, as asked for, or the first.
pub fn first(asked: Option<i64>) -> Result<i32, Refusal> {
    match asked.map(i32::try_from) {
        None => Ok(1),
        Some(Ok(page)) if page >= 1 => Ok(page),
        Some(_) => Err(Refusal::Invalid(format!(
            "from_page must be between 1 and {}",
            i32::MAX
        ))),
    }
}

/// How many of these jobs, newest first, fit on one page; at least one.
pub(super) async fn fitting(pg: &Pg, ids: &[JobId]) -> Result<usize, Outage> {
    let query = sqlx::query_as::<_, (i64,)>(
        "SELECT count(*) FROM (
           SELECT row_number() OVER newest_first AS nth, sum(own.bytes) OVER newest_first AS bytes
           FROM (
             SELECT j.id, octet_length(j.payload) + COALESCE(octet_length(j.result), 0) + COALESCE(octet_length(j.metadata), 0)
                      + COALESCE(octet_length(j.error), 0)
                      + COALESCE((SELECT sum(octet_length(e.message)) FROM millstream.job_error e WHERE e.job_id = j.id), 0) AS bytes
             FROM millstream.job j WHERE j.id = ANY($1)
           ) own
           WINDOW newest_first AS (ORDER BY own.id DESC)
         ) page WHERE bytes <= $2 OR nth = 1",
    );
    let found = rows(
        pg,
        "measuring a page of jobs",
        query.bind(ids).bind(PAGE_BYTES_MAX),
    )
    .await?;
    Ok(found.first().map_or(0, |(jobs,)| *jobs as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_between_one_and_500_rows() {
        // X37
        assert_eq!(
            (limit(None), limit(Some(1)), limit(Some(500))),
            (Ok(PAGE_ROWS), Ok(1), Ok(500))
        );
        for wrong in [0, -1, 501, 1001, i64::MAX, i64::MIN] {
            assert!(limit(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
