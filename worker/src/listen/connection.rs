//! One client: its requests go to the router, and the connection ends when its standing says so.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::watch, time::Instant};

use super::{Answer, Body, full::Place, standing::Standing, stream::Watched};

/// What hyper may hold of one connection: a head, or a piece of a body. A larger head is refused with 431.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How a client stands changes while this waits for its deadline, so it is looked at this often.
const LOOK: Duration = Duration::from_secs(1);

/// The order to stop, as all connections of a server share it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Closing {
    drain: Duration,
    since: watch::Sender<Option<Instant>>,
    cut_off: Arc<AtomicUsize>,
}

impl Closing {
    pub(super) fn new(drain: Duration) -> Self {
        Self {
            drain,
            since: watch::Sender::new(None),
            cut_off: Arc::default(),
        }
    }

    /// Requests in progress may go on for a while from now; everything else ends.
    pub(super) fn begin(&self, now: Instant) {
        self.since.send_replace(Some(now));
    }

    /// Requests that were cut off.
    pub(super) fn cut_off(&self) -> usize {
        self.cut_off.load(Ordering::Relaxed)
    }

    fn began(&self) -> Option<(Instant, Duration)> {
        (*self.since.borrow()).map(|began| (began, self.drain))
    }
}

/// Serves a client to its end.
pub(super) async fn serve(socket: TcpStream, answer: Answer, place: Place, closing: Closing) {
    // Small answers leave at once; it fails only on a socket that is gone already.
    drop(socket.set_nodelay(true));
    let io = TokioIo::new(Watched {
        socket,
        standing: place.standing().clone(),
    });
    let asked = Asked {
        answer,
        standing: place.standing().clone(),
    };
    let mut http = http1::Builder::new();
    // Deadlines are this module's own: hyper has one for heads, and none for idle clients or for answers that are not taken.
    let mut talk = pin!(
        http.header_read_timeout(None)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(io, asked)
    );
    let mut stopping = closing.since.subscribe();
    let mut is_closing = false;
    loop {
        let look = Instant::now() + LOOK;
        let deadline = place
            .standing()
            .deadline(closing.began())
            .map_or(look, |at| at.min(look));
        tokio::select! {
            // However it ended, there is nobody to tell.
            _ = talk.as_mut() => return,
            () = place.give_way().cancelled() => return,
            () = tokio::time::sleep_until(deadline) => {
                if place.standing().deadline(closing.began()).is_some_and(|at| at <= Instant::now()) {
                    if is_closing && place.standing().waiting().is_none() {
                        closing.cut_off.fetch_add(1, Ordering::Relaxed);
                    }
                    return;
                }
            }
            _ = stopping.changed(), if !is_closing => {
                is_closing = true;
                talk.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What answers; it tells the standing when a request begins and ends.
struct Asked {
    answer: Answer,
    standing: Arc<Standing>,
}

impl Service<Request<Incoming>> for Asked {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let progress = Progress::begin(self.standing.clone());
        let answer = (self.answer)(request);
        Box::pin(async move {
            let _until_the_end = progress;
            Ok(answer.await)
        })
    }
}

/// A request in progress.
struct Progress(Arc<Standing>);

impl Progress {
    fn begin(standing: Arc<Standing>) -> Self {
        standing.begin(Instant::now());
        Self(standing)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.end(Instant::now());
    }
}
