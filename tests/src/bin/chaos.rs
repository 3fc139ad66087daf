//! Injects faults into an installation under load and judges what it did: `chaos --minutes N --seed S`.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use millstream_common::id::entropy;
use millstream_tests::chaos::{
    fleet::{Fleet, Settings},
    probes,
    report::Report,
    run::{Plan, run},
    timeline::Timeline,
};
use tokio::signal::unix::{SignalKind, signal};

/// Room in a seed for people to type it.
const SEEDS: u64 = 1_000_000_000;

#[derive(Parser)]
struct Args {
    /// How long faults are injected; what the cases leave of it is a random soak
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Decides the order of the cases and all that they draw; random if absent
    #[arg(long)]
    seed: Option<u64>,
    /// Only these cases, each alone: F01,F08
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only the quick selection, with shorter jobs
    #[arg(long)]
    quick: bool,
    /// The result as JSON, and nothing else on stdout
    #[arg(long)]
    json: bool,
    /// Lease of the workers
    #[arg(long, default_value_t = 6000)]
    lease_ms: u64,
    /// How long the longest jobs take
    #[arg(long)]
    long_ms: Option<u64>,
    /// Jobs a second
    #[arg(long, default_value_t = 300)]
    rate: u64,
    /// Where the run keeps its files
    #[arg(long, default_value = "target/chaos")]
    dir: PathBuf,
    /// Instead of faults: watch the probes of workers and an API for so many minutes in which nothing is wrong
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["minutes", "only", "quick", "json"])]
    probes: Option<u64>,
    /// Keep the files of a good run too
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    // A second call would only say that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = Args::parse();
    if let Some(minutes) = args.probes {
        return probes::watch(Duration::from_mins(minutes)).await;
    }
    let seed = args.seed.unwrap_or_else(|| entropy() % SEEDS);
    let dir = args.dir.join(format!("{seed}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    let timeline = Arc::new(Timeline::create(&dir.join("timeline.txt"), args.json)?);
    timeline.note(&format!("seed {seed}, files in {}", dir.display()));
    let report = tokio::select! {
        report = whole(&args, seed, dir.clone(), timeline) => {
            report.with_context(|| format!("the run was not finished; repeat with --seed {seed}; files are in {}", dir.display()))?
        }
        () = told_to_end() => {
            eprintln!("ended by a signal; files are in {}", dir.display());
            return Ok(ExitCode::from(130));
        }
    };
    if args.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.text());
    }
    if !report.is_good() {
        std::fs::write(dir.join("violations.txt"), report.violations())?;
        eprintln!(
            "FAILED; repeat with --seed {seed}; files are in {}",
            dir.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    if !args.keep {
        std::fs::remove_dir_all(&dir)
            .with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn whole(args: &Args, seed: u64, dir: PathBuf, timeline: Arc<Timeline>) -> Result<Report> {
    let long_ms = args
        .long_ms
        .unwrap_or(if args.quick { 3000 } else { 20_000 });
    let settings = Settings {
        seed,
        lease: Duration::from_millis(args.lease_ms),
        long: Duration::from_millis(long_ms),
        per_second: args.rate,
        workers: 3,
    };
    let plan = Plan {
        seed,
        time: Duration::from_mins(args.minutes),
        only: args.only.clone(),
        quick: args.quick,
    };
    // An unknown case is told before anything is started.
    plan.cases()?;
    let fleet = Fleet::start(dir, settings, timeline).await?;
    run(&fleet, &plan).await
}

async fn told_to_end() {
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
