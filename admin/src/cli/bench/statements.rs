//! Which statements the work of Postgres consists of, by `pg_stat_statements`: none that is not in the list may grow with the jobs.

use serde::Serialize;
use sqlx::Row as _;

use super::{super::CommandError, drain, row::Row, site::Site};

/// The hot path: what a statement is called, and what it is known by once constants are cut out of it.
const HOT_PATH: [(&str, &str); 8] = [
    ("persist", "millstream.persist_fresh("),
    (
        "claim",
        "FROM millstream.job j CROSS JOIN millstream.closed WHERE id = ANY($1)",
    ),
    (
        "settle",
        "UPDATE millstream.job j SET state = $8, attempt = j.attempt + $9, worker_id = $5, finished_at = now()",
    ),
    (
        "count parcels",
        "millstream.parcel p USING unnest($1::bigint[], $2::smallint[])",
    ),
    (
        "count parcels",
        "UPDATE millstream.parcel p SET done = LEAST(",
    ),
    ("dispatch", "SET publishing_since = now()"),
    (
        "dispatch",
        "INSERT INTO millstream.parcel (publishing_since, enqueued_at",
    ),
    (
        "dispatch",
        "UPDATE millstream.parcel SET taken = taken + $2",
    ),
];
/// Everything else together may take this share of the time: it is done so many times a second, not a job.
const REST_MAX: f64 = 0.10;

/// A statement and what it took.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Statement {
    name: String,
    calls: i64,
    us_per_job: f64,
}

/// Jobs are produced and consumed, and what Postgres did is looked at.
pub(super) async fn looked_at(
    site: &Site,
    name: &'static str,
    jobs: u64,
) -> Result<Row, CommandError> {
    let op = "asking for statements";
    if site
        .execute("SELECT pg_stat_statements_reset()")
        .await
        .is_err()
    {
        return Err(CommandError::failed(
            "this Postgres has no pg_stat_statements: add it to shared_preload_libraries and create the extension",
        ));
    }
    let mut row = drain::while_producing(site, name, jobs).await?;
    let query = sqlx::query(
        r"SELECT regexp_replace(query, '\s+', ' ', 'g') AS query, calls, total_exec_time * 1000 AS us FROM pg_stat_statements
          WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query !~ 'bench_raw|pg_stat|^CHECKPOINT|pg_current_wal' ORDER BY us DESC",
    );
    let found = site.context().pg().await?.main(op).all(query).await?;
    let found = found.iter().map(|row| {
        (
            row.get::<String, _>("query"),
            row.get::<i64, _>("calls"),
            row.get::<f64, _>("us"),
        )
    });
    let (statements, rest) = sorted(found, jobs);
    let all: f64 = statements
        .iter()
        .map(|statement| statement.us_per_job)
        .sum();
    row.statements = Some(statements);
    match rest {
        Some((query, us_per_job)) if us_per_job > all * REST_MAX => {
            Err(CommandError::failed(format!(
                "statements that are not of the hot path take {us_per_job:.2} of {all:.2} us a job, most of all: {query}"
            )))
        }
        _ => Ok(row),
    }
}

/// Those of the hot path by their names and the rest as one, with the dearest of the rest.
fn sorted(
    found: impl Iterator<Item = (String, i64, f64)>,
    jobs: u64,
) -> (Vec<Statement>, Option<(String, f64)>) {
    let mut statements: Vec<Statement> = Vec::new();
    let mut dearest = None;
    let mut rest = 0.0;
    for (query, calls, us) in found {
        let us_per_job = us / jobs as f64;
        let name = HOT_PATH
            .iter()
            .find(|(_, part)| query.contains(part))
            .map_or("the rest", |(name, _)| name);
        if name == "the rest" {
            rest += us_per_job;
            dearest.get_or_insert(query);
        }
        match statements
            .iter_mut()
            .find(|statement| statement.name == name)
        {
            Some(same) => {
                same.calls += calls;
                same.us_per_job += us_per_job;
            }
            None => statements.push(Statement {
                name: name.into(),
                calls,
                us_per_job,
            }),
        }
    }
    (statements, dearest.map(|query| (query, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_the_hot_path_is_the_rest_and_its_dearest_is_named() {
        let found = [
            ("SELECT * FROM millstream.persist_fresh($1)", 2, 400.0),
            ("SELECT x", 9, 300.0),
            ("SELECT y", 1, 100.0),
        ];
        let (statements, rest) = sorted(
            found
                .into_iter()
                .map(|(query, calls, us)| (query.to_owned(), calls, us)),
            100,
        );
        let told: Vec<_> = statements
            .iter()
            .map(|s| (s.name.as_str(), s.calls, s.us_per_job))
            .collect();
        assert_eq!(told, [("persist", 2, 4.0), ("the rest", 10, 4.0)]);
        assert_eq!(rest, Some(("SELECT x".to_owned(), 4.0)));
    }
}
