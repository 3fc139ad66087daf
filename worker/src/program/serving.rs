//! A worker from the first signal handler to the last closed connection.

use std::net::SocketAddr;

use millstream_common::{config::Config, tasks::Tasks};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    exit::{Exit, Failure, Outcome},
    place::{database_url, redis_url},
    probes,
    signals::Signals,
};
use crate::{Parts, Worker};

/// What a worker process holds before it registers.
pub struct Serving {
    signals: Signals,
    listener: Option<TcpListener>,
}

impl Serving {
    /// Catches signals from here on, so that one during the start ends in order too. Takes the port of the probes before anything is
    /// registered: a port in use must not leave a dead worker behind.
    pub async fn open(config: &Config) -> Result<Self, Failure> {
        database_url(config)?;
        redis_url(config)?;
        Ok(Self {
            signals: Signals::new()?,
            listener: listen(&config.worker.listen).await?,
        })
    }

    /// Works until told to stop: by SIGTERM or SIGINT (a second one cuts the grace period short), or by the word `draining` in the
    /// worker's row.
    pub async fn run(mut self, parts: Parts) -> Outcome {
        let worker = Worker::start(parts).await?;
        let tasks = Tasks::new();
        let end = CancellationToken::new();
        let probes = self
            .listener
            .map(|listener| tasks.spawn(probes::serve(listener, worker.health(), end.clone())));
        tracing::info!(worker = worker.id(), "working");
        tokio::select! {
            () = self.signals.next() => {}
            () = worker.told_to_drain() => {}
        }
        let hurry = CancellationToken::new();
        tokio::select! {
            () = worker.drain(hurry.clone()) => {}
            () = async { self.signals.next().await; hurry.cancel(); std::future::pending().await } => {}
        }
        end.cancel();
        if let Some(probes) = probes {
            drop(probes.await);
        }
        Ok(Exit::Done)
    }
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
