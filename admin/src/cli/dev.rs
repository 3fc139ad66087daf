//! `millstream dev`: private services, the API and workers in one go.
//!
//! The API runs in this process, the workers are processes of their own (their logs go to files), so that killing one shows what a
//! crash does. A worker that dies is started again, and so is a private server.

mod crew;
mod files;
mod guard;
mod scrape;
mod sentences;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use millstream_common::{
    config::{Config, Secret},
    pg::migrate_up,
    tasks::Tasks,
};
use millstream_local::{Durability, GivenUrls, LocalServices, Options, ServerEnv};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{crew::Crew, files::private_dir, scrape::Scrape, sentences::Given};
use super::{CommandError, CommandResult, Exit, Invocation, api, documents, signals::Signals};
use crate::samples;

/// A demonstration that takes longer than this has gone wrong.
const WATCH_MAX: Duration = Duration::from_hours(24);
/// Where people look for the API.
const USUAL_ADDRESS: &str = "127.0.0.1:8080";
/// Any free port of this machine.
const FREE_ADDRESS: &str = "127.0.0.1:0";
/// The API answers what it has begun.
const API_GRACE: Duration = Duration::from_secs(20);

/// What to run, and on which documents.
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// A file or folder to put through the document pipeline; repeatable
    #[arg(long, value_name = "PATH")]
    pub input: Vec<PathBuf>,
    /// Put the five sample documents of the program through the pipeline
    #[arg(long)]
    pub samples: bool,
    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// Where the private services and the object store keep their files
    #[arg(long, value_name = "DIR", default_value = ".millstream")]
    pub data_dir: PathBuf,
    /// Address of the HTTP API; 127.0.0.1:8080 if absent, or a free port where that is taken
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// End when every document is done, with a table of what they yielded
    #[arg(long)]
    pub exit_when_done: bool,
}

/// Starts everything, watches the documents, and stops it all again.
pub(super) async fn run(args: DevArgs, context: &Invocation) -> CommandResult {
    let files = input(&args, context)?;
    let mut signals = Signals::new()?;
    let given = Given::of(context);
    check_urls(given, context)?;
    let data_dir = files::data_dir(&args.data_dir)?;
    context.hint(&given.beginning(&context.places()));
    let services = Arc::new(start_services(&context.config, &data_dir).await?);
    files::keep_private();
    let config = private_config(&context.config, &services, &data_dir);
    migrate_up(config.database.url.expose()).await?;
    let inner = Invocation::new(config, context.json, context.quiet);
    let worked = tokio::select! {
        worked = work(&args, files, &inner, &data_dir, given) => worked,
        gone = guard::keep(services.clone()) => Err(gone),
        () = signals.next() => Ok(Exit::Done),
    };
    context.hint("stopping …");
    // If the guard is just starting a server, its thread has the services too, and stops them when it lets go of them.
    if let Some(services) = Arc::into_inner(services) {
        services
            .stop()
            .await
            .map_err(|e| CommandError::failed(format!("{e:#}")))?;
    }
    worked
}

/// Before anything is started: a URL that was given and cannot be read.
fn check_urls(given: Given, context: &Invocation) -> Result<(), CommandError> {
    if given.postgres {
        context.database_url()?;
    }
    if given.redis {
        context.redis_url()?;
    }
    Ok(())
}

/// The files to put through the pipeline; what is passed over is said.
fn input(args: &DevArgs, context: &Invocation) -> Result<Vec<PathBuf>, CommandError> {
    let found = documents::files_of(&args.input);
    found.passed_over.iter().for_each(|line| context.warn(line));
    if found.files.is_empty() && !args.input.is_empty() {
        return Err(CommandError::not_found(
            "there is no file to put through the pipeline",
        ));
    }
    Ok(found.files)
}

async fn start_services(config: &Config, data_dir: &Path) -> Result<LocalServices, CommandError> {
    let given = |url: &Secret| (!url.is_empty()).then(|| url.expose().to_owned());
    let urls = GivenUrls {
        database_url: given(&config.database.url),
        redis_url: given(&config.redis.url),
    };
    let options = Options {
        dir: data_dir.join("services"),
        durability: Durability::Full,
        fresh: false,
        env: ServerEnv::default(),
    };
    LocalServices::given_or_start(urls, options)
        .await
        .map_err(|e| CommandError::failed(format!("{e:#}")))
}

/// The settings of everything that runs here.
fn private_config(config: &Config, services: &LocalServices, data_dir: &Path) -> Config {
    let mut private = config.clone();
    private.database.url = Secret::new(&services.database_url);
    private.redis.url = Secret::new(&services.redis_url);
    private.objects.url = format!("file://{}", data_dir.join("objects").display());
    private
}

async fn work(
    args: &DevArgs,
    mut files: Vec<PathBuf>,
    context: &Invocation,
    data_dir: &Path,
    given: Given,
) -> CommandResult {
    let (tasks, stop) = (Tasks::new(), CancellationToken::new());
    let logs = private_dir(data_dir.join("logs"))?;
    private_dir(data_dir.join("objects"))?;
    let listener = listen(args, context).await?;
    let address = listener.local_addr()?;
    let api = api::open(context, stop.clone()).await?;
    tasks.spawn(crate::api::serve(api, listener));
    let scrape = Scrape::write(data_dir, address, &context.config.api.token)?;
    let crew = Crew::start(args.workers, &context.config, &logs, scrape.clone()).await?;
    tasks.spawn(crew.clone().supervise(stop.clone()));
    tell_who_works(context, given, address, &crew, &logs, &scrape).await;
    if args.samples {
        let samples = private_dir(data_dir.join("samples"))?;
        files.extend(
            samples::write_to(&samples).map_err(|e| CommandError::failed(format!("{e:#}")))?,
        );
    }
    let worked = show(args, &files, context, given).await;
    stop.cancel();
    crew.stop().await;
    tasks.stop(API_GRACE).await;
    worked
}

async fn tell_who_works(
    context: &Invocation,
    given: Given,
    api: SocketAddr,
    crew: &Crew,
    logs: &Path,
    scrape: &Scrape,
) {
    let workers = crew.addresses().await;
    let names: Vec<_> = workers.iter().map(|(name, _)| name.as_str()).collect();
    context.hint(&format!(
        "API on http://{api}, {}, logs in {}",
        given.crew(&names),
        logs.display()
    ));
    let metrics: Vec<_> = workers
        .iter()
        .map(|(name, address)| format!("{name} http://{address}/metrics"))
        .collect();
    context.hint(&format!(
        "metrics: API http://{api}/metrics, {}",
        metrics.join(", ")
    ));
    context.hint(&format!(
        "  all of them: prometheus --config.file={}",
        scrape.config().display()
    ));
}

/// Somebody else on the usual port must not stop a demonstration; an address that was asked for is taken or refused.
async fn listen(args: &DevArgs, context: &Invocation) -> Result<TcpListener, CommandError> {
    if let Some(address) = &args.listen {
        return api::listen(context, address).await;
    }
    match api::listen(context, USUAL_ADDRESS).await {
        Ok(listener) => Ok(listener),
        Err(_) => api::listen(context, FREE_ADDRESS).await,
    }
}

/// Puts the files through and prints what they yielded; then stays, if asked to.
async fn show(
    args: &DevArgs,
    files: &[PathBuf],
    context: &Invocation,
    given: Given,
) -> CommandResult {
    if !files.is_empty() {
        let ids = add_all(files, context).await?;
        // A document that fails has come to its end too: the table says why, and the command has done its work.
        documents::watch(context, &ids, WATCH_MAX).await?;
        documents::print_summaries(context, &ids).await?;
    }
    if !args.exit_when_done {
        context.hint("everything goes on until Ctrl-C. In another terminal:");
        given
            .exports(context)
            .iter()
            .for_each(|line| context.hint(line));
        std::future::pending::<()>().await;
    }
    Ok(Exit::Done)
}

async fn add_all(files: &[PathBuf], context: &Invocation) -> Result<Vec<Uuid>, CommandError> {
    let adder = documents::Adder::new(context).await?;
    let mut ids = Vec::with_capacity(files.len());
    for file in files {
        ids.push(adder.add(file, "default").await?);
    }
    Ok(ids)
}
