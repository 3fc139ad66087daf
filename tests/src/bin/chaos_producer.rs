//! A producer of a chaos run: one door, a rate, a journal. Ends in order at SIGTERM, at once at a second one.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, anyhow};
use clap::Parser;
use millstream_common::config::Config;
use millstream_tests::chaos::{
    door::Kind,
    fleet::variable,
    journal::Journal,
    produce::{Plan, run},
};

#[derive(Parser)]
struct Args {
    #[arg(long)]
    door: Kind,
    /// Jobs a second
    #[arg(long)]
    per_second: u64,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    first_token: u64,
    /// Where this process says what it does
    #[arg(long)]
    journal: PathBuf,
    /// Where the API listens
    #[arg(long)]
    api: String,
    /// A document to hand in now and then
    #[arg(long)]
    document: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    // A second call would only say that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    millstream_common::failpoint::arm();
    let args = Args::parse();
    let config = Config::load(None).map_err(|e| anyhow!(e))?;
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let plan = Plan {
        door: args.door,
        per_second: args.per_second,
        seed: args.seed,
        first_token: args.first_token,
        api: args.api,
        document: args.document,
        patience: std::env::var(variable::PATIENCE_MS)
            .ok()
            .and_then(|ms| ms.parse().ok())
            .map(Duration::from_millis),
    };
    run(plan, config, Journal::open(&args.journal)?).await
}
