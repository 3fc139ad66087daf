//! `millstream api`: serves the HTTP API until told to stop.

use clap::Args;
use millstream_common::{
    metrics::EnqueueSource,
    pg::{schema_status, tell_risks},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::{CommandError, CommandResult, Exit, Invocation};
use crate::{
    api::{self, Api, ApiParts, ListenError},
    ops::upload::open_store,
};

#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    /// Address to listen on; beyond this machine only with `MILLSTREAM_API__TOKEN`
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

pub(super) async fn run(args: ApiArgs, context: &Invocation) -> CommandResult {
    let address = args.listen.as_deref().unwrap_or(&context.config.api.listen);
    let listener = listen(context, address).await?;
    let stop = CancellationToken::new();
    let api = open(context, stop.clone()).await?;
    tracing::info!(address = %listener.local_addr()?, "the API is listening");
    let serving = api::serve(api, listener);
    let signalled = async {
        let outcome = ended().await;
        stop.cancel();
        outcome
    };
    let ((), signalled) = tokio::join!(serving, signalled);
    signalled?;
    Ok(Exit::Done)
}

/// Binds the address of the API; refuses one that other machines can reach unless a token is set.
pub async fn listen(context: &Invocation, address: &str) -> Result<TcpListener, CommandError> {
    api::listen(address, !context.config.api.token.is_empty())
        .await
        .map_err(|error| match error {
            ListenError::Wrong(text) => CommandError::usage(text),
            ListenError::Refused(text) => CommandError::failed(text),
        })
}

/// The API on the servers of this context.
pub async fn open(context: &Invocation, stop: CancellationToken) -> Result<Api, CommandError> {
    let config = &context.config;
    tell_risks(context.database_url()?).await?;
    let parts = ApiParts {
        producer: context.producer(EnqueueSource::Http).await?,
        objects: open_store(&config.objects.url)?,
        schema: schema_status(context.database_url()?).await?,
        token: config.api.token.expose().to_owned(),
        upload_bytes_max: config.api.upload_bytes_max,
        connections_max: config.database.connections_max,
    };
    Ok(Api::new(parts, stop))
}

/// Comes back at SIGTERM or SIGINT.
async fn ended() -> Result<(), CommandError> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
