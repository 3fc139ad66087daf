//! A connection to write jobs through, or the news that nobody listens where Postgres should be.
//!
//! The pool takes a refused connection for a server that is just starting and tries again until its deadline, and then tells only that
//! it was late. A caller whose server is stopped shall be told so, and soon: beside the pool, this asks for itself.
//!
//! Invariants: whoever is told of a refusal by this has sent nothing over the connection that it asked for; of all callers of a producer
//! one asks at a time, and what it gets is closed at once. A slow server must not accumulate connections.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use millstream_common::{
    error::Outage,
    pg::{Lent, Pg},
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// A pool that has a connection lends it in microseconds; who waits this long has reason to ask for itself.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between the old server and the new one of a restart nobody listens for a few hundred milliseconds.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// Refusals that are further apart are not of one outage: nobody has looked between them.
const LOOKS_APART_MAX: Duration = Duration::from_secs(1);

/// Lends connections of the hot pool. Cheap to clone; clones share what they learn.
#[derive(Clone)]
pub(crate) struct Lender {
    pg: Pg,
    /// Held by the one who asks: the others wait for what it learns.
    last: Arc<Mutex<Option<Look>>>,
}

/// What one has seen who asked.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    /// Since when all who looked were refused; `None`: somebody is there.
    refused_since: Option<Instant>,
}

impl Lender {
    pub(crate) fn new(pg: Pg) -> Self {
        Self {
            pg,
            last: Arc::default(),
        }
    }

    /// Borrows from the hot pool, as long as somebody may answer.
    pub(crate) async fn lend(&self, op: &'static str) -> Result<Lent, Outage> {
        tokio::select! {
            biased;
            lent = self.pg.hot(op) => lent,
            () = self.refused(op) => Err(Outage::Postgres { op, source: sqlx::Error::Io(ErrorKind::ConnectionRefused.into()) }),
        }
    }

    /// Ends when connections have been refused for a while; never, if the server does anything else.
    async fn refused(&self, op: &'static str) {
        loop {
            sleep(LOOK_EVERY).await;
            match self.look(op).await.refused_since {
                Some(since) if since.elapsed() >= REFUSED_FOR => return,
                Some(_) => {}
                // It is there: the pool gets its connection, or has a better reason.
                None => std::future::pending().await,
            }
        }
    }

    /// What is seen now, or was seen a moment ago by another.
    async fn look(&self, op: &'static str) -> Look {
        let mut last = self.last.lock().await;
        if let Some(look) = last.filter(|look| look.at.elapsed() < LOOK_EVERY) {
            return look;
        }
        let refused = self
            .pg
            .connect(op)
            .await
            .is_err_and(|outage| is_refused(&outage));
        let at = Instant::now();
        let before = last
            .filter(|look| at - look.at < LOOKS_APART_MAX)
            .and_then(|look| look.refused_since);
        let look = Look {
            at,
            refused_since: refused.then(|| before.unwrap_or(at)),
        };
        *last = Some(look);
        look
    }
}

/// Nobody listens at the address.
pub(crate) fn is_refused(outage: &Outage) -> bool {
    matches!(outage, Outage::Postgres { source: sqlx::Error::Io(e), .. } if e.kind() == ErrorKind::ConnectionRefused)
}
