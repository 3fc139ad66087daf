//! The one HTTP server, under the API and under the probes of a worker.
//!
//! Invariants: a connection that asks nothing is closed; one that takes no answer is closed; the number of connections has an
//! end, and a newcomer finds room as long as any other one is only waiting; at the end every connection is closed within
//! [`Limits::drain`] and [`FAREWELL`].
//!
//! `axum::serve` has none of these: silent clients keep its connections, and with them the port and the end of the process,
//! for as long as they like. Knows nothing of routes, tokens or bodies.
//!
//! Reading order: [`serve`], then `connection` (one client), `standing` (what it may still do, and until when), `full` (who
//! gives way), `stream` (what passes over the socket).

mod connection;
mod full;
mod standing;
mod stream;

use std::{error::Error, io, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
};
use millstream_common::tasks::Tasks;
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{connection::Closing, full::Places, standing::FAREWELL};

/// Pause after the system had no descriptor for a new client.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);
/// Beyond the last deadline of the connections: tasks have to be scheduled, too.
const SLACK: Duration = Duration::from_secs(1);

/// What a server does with a request. Type-erased: the server is compiled once, whatever is behind it.
pub type Answer =
    Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;
/// What is sent back.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Any body as the one of an [`Answer`].
pub fn body<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// What one port may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections at most.
    pub connections: usize,
    /// Of so many descriptors that this process may have, one may be a connection's: the rest is for servers and files.
    pub share: u64,
    /// At the end, requests in progress may go on this long.
    pub drain: Duration,
}

impl Limits {
    /// Connections at most, under the limit of descriptors as it is now.
    fn connections_now(&self) -> usize {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        self.connections
            .min((descriptors / self.share) as usize)
            .max(1)
    }
}

/// Serves until `stop`, and then until the requests in progress are answered or their time is over. Returns how many were cut off.
pub async fn serve(
    listener: TcpListener,
    answer: Answer,
    limits: Limits,
    stop: CancellationToken,
) -> usize {
    let (tasks, places) = (Tasks::new(), Arc::new(Places::new(limits)));
    let closing = Closing::new(limits.drain);
    let accepting = accept(&listener, &places, |stream| {
        tasks.spawn(connection::serve(
            stream,
            answer.clone(),
            places.clone().take(),
            closing.clone(),
        ));
    });
    tokio::select! { () = accepting => {}, () = stop.cancelled() => {} }
    // From here on clients are refused, and go elsewhere.
    drop(listener);
    closing.begin(Instant::now());
    tasks.stop(limits.drain + FAREWELL + SLACK).await;
    closing.cut_off()
}

async fn accept(listener: &TcpListener, places: &Places, serve: impl Fn(TcpStream)) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                places.room().await;
                serve(stream);
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                places.shortage(&error);
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
        }
    }
}

/// It has gone before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
