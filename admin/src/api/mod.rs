//! The HTTP API.
//!
//! Invariants: every answer that is an error is `application/problem+json` and says nothing of the inside; every request has
//! a deadline and a size limit; without a token only this machine is listened to, and only requests that name it as their
//! host are served, so that no web page can reach it through a browser.
//!
//! Knows no SQL: that is [`crate::ops`]. Needs Postgres for everything but `/livez`; Redis may be away.
//!
//! Reading order: [`Api`] and [`serve`] here, `routes` (what there is), then one file per endpoint; `auth`, `guard`,
//! `away`, `bodies`, `deadline`, `pace`, `request_id` stand before all of them, `problem` and `extract` translate.

mod address;
mod auth;
mod away;
mod batches;
mod bodies;
mod cursor;
mod deadline;
mod documents;
mod extract;
mod guard;
mod health;
mod jobs;
mod openapi;
mod pace;
mod problem;
mod queues;
mod request_id;
mod routes;
mod stats;
mod watch;
mod workers;

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use millstream_common::{pg::SchemaStatus, tasks::Tasks};
use millstream_producer::Producer;
use millstream_worker::listen::{self, Answer, Limits};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

pub use self::address::{ListenError, listen};
use self::{auth::Token, watch::Watch};
use crate::ops::upload::{Objects, keep_swept};

/// Requests that wait for a job at the same time: each asks Postgres twice a second.
const WAITERS_MAX: usize = 256;
/// Uploads at the same time: each has up to three parts of 8 MiB in memory while the object store is slow, and a connection to it.
const UPLOADS_MAX: usize = 32;
/// At the end, requests in progress may go on this long. Waiting ones are answered at once.
const DRAIN: Duration = Duration::from_secs(20);
/// Clients at a time. A thousand requests in progress is more than any database behind them answers in time.
const CONNECTIONS_MAX: usize = 1024;
/// Of the descriptors of this process every second one may be a client's.
const CONNECTIONS_SHARE: u64 = 2;
/// Who moved something through this door, in the audit log.
const ACTOR: &str = "api";

/// What the API is made of.
pub struct ApiParts {
    /// The door for jobs, with Postgres, Redis, names and metrics in it.
    pub producer: Producer,
    /// Where uploads go.
    pub objects: Objects,
    /// The schema as it was at the start.
    pub schema: SchemaStatus,
    /// Bearer token; empty: none is asked for.
    pub token: String,
    /// Largest upload in bytes.
    pub upload_bytes_max: u64,
    /// Connections that the pool for pages may open.
    pub connections_max: u32,
}

/// State of the API; cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    producer: Producer,
    objects: Objects,
    schema_wanted: i64,
    token: Option<Token>,
    upload_bytes_max: u64,
    connections_max: u32,
    waiters: Semaphore,
    uploads: Semaphore,
    /// One permit per KiB.
    large_bodies: Semaphore,
    watch: Watch,
    stop: CancellationToken,
}

impl Api {
    /// Puts the state together. `stop` ends the serving.
    pub fn new(parts: ApiParts, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            producer: parts.producer,
            objects: parts.objects,
            schema_wanted: parts.schema.wanted,
            token: (!parts.token.is_empty()).then(|| Token::new(&parts.token)),
            upload_bytes_max: parts.upload_bytes_max,
            connections_max: parts.connections_max,
            waiters: Semaphore::new(WAITERS_MAX),
            uploads: Semaphore::new(UPLOADS_MAX),
            large_bodies: Semaphore::new(bodies::KIBIBYTES_MAX),
            watch: Watch::default(),
            stop,
        }))
    }

    async fn watch(&self, stop: &CancellationToken) {
        let parts = self.0.producer.parts();
        self.0
            .watch
            .run(
                &parts.pg,
                &parts.redis,
                &parts.catalog,
                self.0.schema_wanted,
                stop,
            )
            .await;
    }

    fn pg(&self) -> &millstream_common::pg::Pg {
        &self.0.producer.parts().pg
    }
}

/// Serves until the stop token is cancelled and the requests in progress are answered, or 20 s after it.
pub async fn serve(api: Api, listener: TcpListener) {
    let stop = api.0.stop.clone();
    let tasks = Tasks::new();
    let (watching, watched) = (api.clone(), stop.clone());
    tasks.spawn(async move { watching.watch(&watched).await });
    tasks.spawn(keep_swept(
        api.pg().clone(),
        api.0.objects.clone(),
        stop.clone(),
    ));
    let limits = Limits {
        connections: CONNECTIONS_MAX,
        share: CONNECTIONS_SHARE,
        drain: DRAIN,
    };
    let cut_off = listen::serve(listener, answer(routes::router(api)), limits, stop).await;
    if cut_off > 0 {
        tracing::warn!(
            cut_off,
            "requests were cut off: they took longer than {} s after the signal to stop",
            DRAIN.as_secs()
        );
    }
}

/// The routes as the server below them wants them.
fn answer(router: Router) -> Answer {
    let router = TowerToHyperService::new(router);
    Arc::new(move |request| {
        let response = router.call(request);
        Box::pin(async move {
            let Ok(response) = response.await;
            response.map(listen::body)
        })
    })
}
