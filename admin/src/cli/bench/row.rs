//! A row of the table: one figure and its costs. `null` where something does not apply or could not be seen.

use serde::Serialize;

use super::{
    super::{CommandError, Invocation, table},
    statements::Statement,
};

/// One figure.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) jobs_per_s: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) max_ms: Option<f64>,
    pub(super) cpu_us_per_job: Cpu,
    pub(super) wal_bytes_per_job: Option<f64>,
    /// Of the jobs that wait when nobody works.
    pub(super) redis_bytes_per_waiting_job: Option<f64>,
    /// The most that one worker process had.
    pub(super) memory_mb: Option<f64>,
    /// Of the job tables, when the figure ends.
    pub(super) dead_rows: Option<f64>,
    /// Updates that touched no index, from 0 to 1.
    pub(super) hot_share: Option<f64>,
    pub(super) raw_jobs_per_s: Option<f64>,
    pub(super) ratio_to_raw: Option<f64>,
    pub(super) raw_cpu_us_per_job: Cpu,
    /// The CPU time of the whole path, as a multiple of that of the bare path.
    pub(super) cpu_to_raw: Option<f64>,
    /// What Postgres did, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) statements: Option<Vec<Statement>>,
}

/// CPU time in millionths of a second, by process; servers that are not ours cannot be seen.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Cpu {
    pub(super) postgres: Option<f64>,
    pub(super) redis: Option<f64>,
    pub(super) worker: Option<f64>,
    pub(super) producer: Option<f64>,
    pub(super) total: Option<f64>,
}

impl Row {
    /// With the quantiles of some durations in milliseconds.
    pub(super) fn with_quantiles(mut self, mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let at = |share: f64| {
            ms.get(((ms.len() as f64 * share) as usize).min(ms.len().saturating_sub(1)))
                .copied()
        };
        (self.p50_ms, self.p95_ms, self.p99_ms, self.max_ms) =
            (at(0.5), at(0.95), at(0.99), ms.last().copied());
        self
    }

    /// With what the bare path reaches.
    pub(super) fn beside_raw(mut self, raw: &Self) -> Self {
        let ratio =
            |mine: Option<f64>, raw: Option<f64>| Some(mine? / raw.filter(|raw| *raw > 0.0)?);
        self.raw_jobs_per_s = raw.jobs_per_s;
        self.ratio_to_raw = ratio(self.jobs_per_s, raw.jobs_per_s);
        self.raw_cpu_us_per_job = raw.cpu_us_per_job;
        self.cpu_to_raw = ratio(self.cpu_us_per_job.total, raw.cpu_us_per_job.total);
        self
    }
}

/// The columns of the table.
const HEADER: [&str; 18] = [
    "figure",
    "jobs/s",
    "of raw",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "max ms",
    "CPU us/job",
    "of raw",
    "Postgres",
    "Redis",
    "worker",
    "producer",
    "WAL B/job",
    "Redis B/job",
    "MB",
    "dead rows",
    "HOT",
];

/// The table, or one JSON object per line.
pub(super) fn print(context: &Invocation, rows: &[Row]) -> Result<(), CommandError> {
    table::list(context, rows, &HEADER, |row| {
        let cpu = &row.cpu_us_per_job;
        vec![
            row.name.to_owned(),
            shown(row.jobs_per_s, 0),
            shown(row.ratio_to_raw, 2),
            shown(row.p50_ms, 2),
            shown(row.p95_ms, 2),
            shown(row.p99_ms, 2),
            shown(row.max_ms, 1),
            shown(cpu.total, 1),
            shown(row.cpu_to_raw, 2),
            shown(cpu.postgres, 1),
            shown(cpu.redis, 1),
            shown(cpu.worker, 1),
            shown(cpu.producer, 1),
            shown(row.wal_bytes_per_job, 0),
            shown(row.redis_bytes_per_waiting_job, 1),
            shown(row.memory_mb, 0),
            shown(row.dead_rows, 0),
            shown(row.hot_share, 2),
        ]
    })
}

fn shown(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_durations() {
        let row = Row::default().with_quantiles((0..100).rev().map(f64::from).collect());
        assert_eq!(
            (row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms),
            (Some(50.0), Some(95.0), Some(99.0), Some(99.0))
        );
        assert_eq!(Row::default().with_quantiles(Vec::new()).p50_ms, None);
    }

    #[test]
    fn a_row_says_null_where_nothing_was_seen() {
        let row = serde_json::to_value(
            Row {
                name: "x",
                jobs_per_s: Some(50.0),
                ..Row::default()
            }
            .beside_raw(&Row {
                jobs_per_s: Some(100.0),
                ..Row::default()
            }),
        )
        .expect("a row is JSON");
        assert_eq!(row["ratio_to_raw"], 0.5);
        assert!(row["cpu_to_raw"].is_null());
        assert!(row["cpu_us_per_job"]["postgres"].is_null() && row["p50_ms"].is_null());
    }
}
