//! A worker from the first signal handler to the last closed connection.

use std::net::SocketAddr;

use millstream_common::{config::Config, tasks::Tasks};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    exit::{CommandError, CommandResult, Exit},
    isolation,
    place::{database_url, redis_url},
    probes,
    signals::Signals,
};
use crate::{ChildProcess, Parts, Worker};

/// What a worker process holds before it registers, or the child of one before it runs a job.
pub struct Serving(Role);

enum Role {
    Child(ChildProcess),
    Worker {
        signals: Signals,
        listener: Option<TcpListener>,
    },
}

impl Serving {
    /// Catches signals from here on, so that one during the start ends in order too. Takes the port of the probes before anything is
    /// registered: a port in use must not leave a dead worker behind.
    /// `is_child`: this is the child of a worker and takes standard input, which is the pipe to it.
    pub async fn open(config: &Config, is_child: bool) -> Result<Self, CommandError> {
        if is_child {
            return Ok(Self(Role::Child(ChildProcess::enter()?)));
        }
        database_url(config)?;
        redis_url(config)?;
        Ok(Self(Role::Worker {
            signals: Signals::new()?,
            listener: listen(&config.worker.listen).await?,
        }))
    }

    /// Works until told to stop: by SIGTERM or SIGINT (a second one cuts the grace period short), or by the word `draining` in the
    /// worker's row.
    /// A child works until its worker is gone, or wants no more.
    pub async fn run(self, mut parts: Parts) -> CommandResult {
        let (mut signals, listener) = match self.0 {
            Role::Child(child) => {
                child.serve(parts.handlers, &parts.config).await?;
                return Ok(Exit::Done);
            }
            Role::Worker { signals, listener } => (signals, listener),
        };
        parts.isolation = Some(isolation::child_of_ours());
        let worker = Worker::start(parts).await?;
        let tasks = Tasks::new();
        let end = CancellationToken::new();
        let probes = listener
            .map(|listener| tasks.spawn(probes::serve(listener, worker.health(), end.clone())));
        tracing::info!(worker = worker.id(), "working");
        tokio::select! {
            () = signals.next() => {}
            () = worker.told_to_drain() => {}
        }
        drain(worker, &mut signals).await;
        end.cancel();
        if let Some(probes) = probes {
            drop(probes.await);
        }
        Ok(Exit::Done)
    }
}

/// Ends the worker in order; a second signal cuts the grace period short.
async fn drain(worker: Worker, signals: &mut Signals) {
    isolation::end_within(worker.drain_max());
    let hurry = CancellationToken::new();
    tokio::select! {
        () = worker.drain(hurry.clone()) => {}
        () = async { signals.next().await; hurry.cancel(); std::future::pending().await } => {}
    }
}

async fn listen(address: &str) -> Result<Option<TcpListener>, CommandError> {
    if address.is_empty() {
        return Ok(None);
    }
    let address: SocketAddr = address.parse().map_err(|_| {
        CommandError::usage(format!(
            "{address} is no address to listen on: use HOST:PORT, for example 127.0.0.1:9090"
        ))
    })?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| CommandError::failed(format!("cannot listen on {address}: {e}")))?;
    Ok(Some(listener))
}
