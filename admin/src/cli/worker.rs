//! `millstream worker`: a process that runs jobs.

use std::{
    fs::DirBuilder,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::PathBuf,
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use clap::Args;
use millstream_common::{config::Config, tasks::Tasks};
use millstream_worker::{
    Handler, Health, Parts, Worker,
    documents::{self, tools::sandbox::Launcher},
    handlers,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Context, Exit, Failure, Outcome, signals};
use crate::{
    listen::Limits,
    ops::upload::{keep_swept, open_store},
};

/// Clients of the port for probes at a time: an orchestrator, a scraper or two, and people.
const PROBES_MAX: usize = 64;
/// Of the descriptors of a worker so few are theirs: the rest is for jobs.
const PROBES_SHARE: u64 = 8;
/// A probe is answered at once or not at all.
const PROBES_DRAIN: Duration = Duration::from_secs(2);

/// Which jobs, how many at a time, and where to be watched. What is not said comes from the configuration.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Queues to read, comma separated; all if absent
    #[arg(long, value_delimiter = ',')]
    pub queues: Vec<String>,
    /// Kinds to run, comma separated; all that this program knows if absent
    #[arg(long, value_delimiter = ',')]
    pub kinds: Vec<String>,
    /// Jobs at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: Option<u32>,
    /// Serve /metrics, /livez and /readyz here
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Shown in lists
    #[arg(long)]
    pub name: Option<String>,
}

/// Runs jobs of the kinds in the box.
pub(super) async fn run(args: WorkerArgs, context: &Context) -> Outcome {
    run_with(args, Vec::new(), context).await
}

/// Runs jobs of the kinds in the box and these until told to stop: by SIGTERM or SIGINT (a second one cuts the grace period
/// short), or by the word `draining` in its row of the workers.
pub(super) async fn run_with(args: WorkerArgs, more: Vec<Handler>, context: &Context) -> Outcome {
    context.database_url()?;
    context.redis_url()?;
    // Caught from the start, so that a signal during it ends in order too.
    let mut signals = signals::Signals::new()?;
    let config = merged(&context.config, args);
    // Before anything is registered: a port in use must not leave a dead worker behind.
    let listener = listen(&config.worker.listen).await?;
    let mut handlers = all_handlers(&config)?;
    handlers.extend(more);
    let parts = Parts {
        handlers,
        metrics: context.metrics().await?.clone(),
        config,
    };
    // Before the port answers: what can fail at a start must not end a worker that works.
    let (pg, store) = (
        context.pg().await?.clone(),
        open_store(&context.config.objects.url)?,
    );
    let worker = Worker::start(parts).await?;
    let tasks = Tasks::new();
    let probes_end = CancellationToken::new();
    let probes =
        listener.map(|listener| tasks.spawn(serve(listener, worker.health(), probes_end.clone())));
    tasks.spawn(keep_swept(pg, store, probes_end.clone()));
    tracing::info!(worker = worker.id(), "working");
    tokio::select! {
        () = signals.next() => {}
        () = worker.told_to_drain() => {}
    }
    let hurry = CancellationToken::new();
    tokio::select! {
        () = worker.drain(hurry.clone()) => {}
        () = async { signals.next().await; hurry.cancel(); std::future::pending().await } => {}
    }
    probes_end.cancel();
    if let Some(probes) = probes {
        drop(probes.await);
    }
    Ok(Exit::Done)
}

/// The configuration with what the command line says on top.
fn merged(config: &Config, args: WorkerArgs) -> Config {
    let mut config = config.clone();
    let worker = &mut config.worker;
    if !args.queues.is_empty() {
        worker.queues = args.queues;
    }
    if !args.kinds.is_empty() {
        worker.kinds = args.kinds;
    }
    worker.concurrency = args.concurrency.map_or(worker.concurrency, |n| n as usize);
    worker.listen = args.listen.unwrap_or(std::mem::take(&mut worker.listen));
    worker.name = args.name.unwrap_or(std::mem::take(&mut worker.name));
    config
}

fn all_handlers(config: &Config) -> Result<Vec<Handler>, Failure> {
    let wrong = |e: &dyn std::error::Error| Failure::usage(millstream_common::error::in_full(e));
    let mut all = handlers::built_in(config).map_err(|e| wrong(&e))?;
    let objects = open_store(&config.objects.url)?;
    let work_dir = private_work_dir()?;
    let setup = documents::DocumentSetup {
        config: config.clone(),
        objects,
        search_path: millstream_common::config::search_path(),
        tessdata_dir: millstream_common::config::tessdata_dir(),
        work_dir,
        launcher: Launcher::ourselves(),
    };
    all.extend(documents::handlers(&setup).map_err(|e| wrong(&e))?);
    Ok(all)
}

/// A folder for temporary files that only this user can enter. Its fixed name lets a later start sweep what a crash left; where that
/// name belongs to somebody else, a new folder of our own does.
fn private_work_dir() -> Result<PathBuf, Failure> {
    let uid = rustix::process::getuid().as_raw();
    let usual = std::env::temp_dir().join(format!("millstream-{uid}"));
    // An error here shows in the look below: the folder is there, and ours, or it is not.
    let _ = DirBuilder::new().mode(0o700).create(&usual);
    let ours = std::fs::symlink_metadata(&usual).is_ok_and(|m| {
        m.is_dir() && m.uid() == uid && m.permissions().mode().is_multiple_of(0o100)
    });
    if ours {
        return Ok(usual);
    }
    Ok(tempfile::Builder::new()
        .prefix("millstream-")
        .tempdir()?
        .keep())
}

async fn listen(address: &str) -> Result<Option<TcpListener>, Failure> {
    if address.is_empty() {
        return Ok(None);
    }
    let address: SocketAddr = address.parse().map_err(|_| {
        Failure::usage(format!(
            "{address} is no address to listen on: use HOST:PORT, for example 127.0.0.1:9090"
        ))
    })?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| Failure::failed(format!("cannot listen on {address}: {e}")))?;
    Ok(Some(listener))
}

async fn serve(listener: TcpListener, health: Health, end: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(health);
    let limits = Limits {
        connections: PROBES_MAX,
        share: PROBES_SHARE,
        drain: PROBES_DRAIN,
    };
    crate::listen::serve(listener, router, limits, end).await;
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    (
        [("content-type", millstream_common::metrics::CONTENT_TYPE)],
        health.metrics(),
    )
}

async fn livez(State(health): State<Health>) -> (StatusCode, Json<serde_json::Value>) {
    let stuck = health.stuck_loops();
    let status = if stuck.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(serde_json::json!({ "alive": stuck.is_empty(), "stuck_loops": stuck })),
    )
}

async fn readyz(State(health): State<Health>) -> (StatusCode, Json<millstream_worker::Readiness>) {
    let readiness = health.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}
