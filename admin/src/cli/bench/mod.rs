//! `millstream bench`: what these servers and this machine reach with `noop` jobs, and what each job costs.
//!
//! Aims at `DATABASE_URL` and `REDIS_URL` if they are set, under a key prefix of its own, else at private servers that sync to disk
//! as in production. Workers are processes of their own; the producer is this one. Beside a rate stands what the bare statements
//! and commands of its path reach in the same run ([`raw`]): noise cancels in the ratio. The jobs stay in the database as completed rows,
//! and so do the queue `bench`, ten thousand tenants and five million finished rows, if their figures were asked for. A bench that is
//! interrupted tells what it has and tidies up; what one that was killed has left, the next one removes.

mod beside;
mod crew;
mod door;
mod drain;
mod enqueue;
mod figures;
mod latency;
mod leftovers;
mod meter;
mod raw;
mod row;
mod site;
mod slow;
mod statements;

use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::NamedTempFile;

use self::{
    figures::{FIGURES, Figure, measure},
    row::{Row, print},
    site::Site,
};
use super::{CommandError, CommandResult, Exit, Invocation, signals::Signals};

/// Jobs per figure of a quick run.
const QUICK_JOBS: u64 = 40_000;
/// The median of fewer says little on a shared machine.
const RUNS: u32 = 3;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// A first impression: a fifth of the jobs, and only the figures of the main path
    #[arg(long)]
    quick: bool,
    /// Jobs of each figure whose name does not say how many; latencies are of 1,000
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    jobs: u64,
    /// Runs of each figure, of which the median is told: 3, of a quick run 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: Option<u32>,
    /// Only figures whose names begin with one of these, comma separated
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = clap::builder::NonEmptyStringValueParser::new())]
    only: Vec<String>,
    /// Where the JSON goes
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
}

pub(super) async fn run(args: BenchArgs, context: &Invocation) -> CommandResult {
    let figures: Vec<&Figure> = FIGURES.iter().filter(|figure| args.wants(figure)).collect();
    if figures.is_empty() {
        let names: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
        return Err(CommandError::usage(format!(
            "no figure begins with {}: there are {}",
            args.only.join(" or "),
            names.join(", ")
        )));
    }
    let jobs = if args.quick {
        args.jobs.min(QUICK_JOBS)
    } else {
        args.jobs
    };
    // Before anything is measured: a place that cannot be written to would be found out last.
    let file = file_in(&args.out)?;
    let mut signals = Signals::new()?;
    let site = Box::pin(Site::open(context)).await?;
    let runs = args.runs.unwrap_or(if args.quick { 1 } else { RUNS });
    let mut rows = Vec::new();
    let outcome = tokio::select! {
        outcome = Box::pin(all(&site, &figures, jobs, runs, &mut rows)) => outcome,
        () = signals.next() => Err(CommandError::failed("interrupted: these are the figures so far")),
    };
    // What was measured is told first: a server that a failed figure has left down may refuse to be tidied up.
    let told = print(context, &rows).and(write(file, &args.out, &rows));
    let closed = Box::pin(site.close()).await;
    outcome.and(told).and(closed).map(|()| Exit::Done)
}

impl BenchArgs {
    fn wants(&self, figure: &Figure) -> bool {
        if self.only.is_empty() {
            figure.quick || !self.quick
        } else {
            self.only
                .iter()
                .any(|name| figure.name.starts_with(name.as_str()))
        }
    }
}

/// All of them, as far as they go: what has been measured is told also when a later one fails.
async fn all(
    site: &Site,
    figures: &[&Figure],
    jobs: u64,
    runs: u32,
    rows: &mut Vec<Row>,
) -> Result<(), CommandError> {
    for (nth, figure) in figures.iter().enumerate() {
        let place = format!("{} of {}", nth + 1, figures.len());
        rows.push(Box::pin(median(site, figure, jobs, runs, &place)).await?);
    }
    Ok(())
}

/// The run in the middle, whole: its costs belong to its rate.
async fn median(
    site: &Site,
    figure: &Figure,
    jobs: u64,
    runs: u32,
    place: &str,
) -> Result<Row, CommandError> {
    let mut rows = Vec::new();
    for run in 1..=runs {
        site.context()
            .hint(&format!("{place}: {}, run {run} of {runs} …", figure.name));
        rows.push(Box::pin(measure(site, figure, jobs)).await?);
    }
    let key = |row: &Row| {
        row.jobs_per_s
            .or(row.p50_ms)
            .or(row.memory_mb)
            .unwrap_or_default()
    };
    rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
    Ok(rows.swap_remove(rows.len() / 2))
}

/// A file without a name yet: it gets one when there is something in it.
fn file_in(dir: &Path) -> Result<NamedTempFile, CommandError> {
    let made = std::fs::create_dir_all(dir).and_then(|()| NamedTempFile::new_in(dir));
    made.map_err(|e| CommandError::failed(format!("{} cannot be written to: {e}", dir.display())))
}

/// One file per run, by its time.
fn write(file: NamedTempFile, dir: &Path, rows: &[Row]) -> Result<(), CommandError> {
    let name = format!(
        "{}.json",
        millstream_common::clock::now().format("%Y%m%dT%H%M%SZ")
    );
    serde_json::to_writer_pretty(&file, rows).map_err(|e| CommandError::failed(e.to_string()))?;
    file.persist(dir.join(name))
        .map_err(|e| CommandError::failed(e.to_string()))?;
    Ok(())
}
