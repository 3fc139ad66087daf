//! A connection to write jobs through, or the news that nobody listens where Postgres should be.
//!
//! The pool takes a refused connection for a server that is just starting and tries again until its deadline, and then tells only that
//! it was late. A caller whose server is stopped shall be told so, and soon: beside the pool, this asks for itself.
//!
//! Invariant: whoever is told of a refusal by this has sent nothing over the connection that it asked for.

use std::{io::ErrorKind, time::Duration};

use millstream_common::{
    error::Outage,
    pg::{Lent, Pg},
};
use tokio::time::{Instant, sleep};

/// A pool that has a connection lends it in microseconds; who waits this long has reason to ask for itself.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between the old server and the new one of a restart nobody listens for a few hundred milliseconds.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Borrows from the hot pool, as long as somebody may answer.
pub(crate) async fn lend(pg: &Pg, op: &'static str) -> Result<Lent, Outage> {
    tokio::select! {
        biased;
        lent = pg.hot(op) => lent,
        refused = refused(pg, op) => Err(refused),
    }
}

/// Ends when connections have been refused for a while; never, if the server does anything else.
async fn refused(pg: &Pg, op: &'static str) -> Outage {
    let mut since = None;
    loop {
        sleep(LOOK_EVERY).await;
        match pg.connect(op).await {
            Err(outage) if is_refused(&outage) => {
                if since.get_or_insert_with(Instant::now).elapsed() >= REFUSED_FOR {
                    return outage;
                }
            }
            // It is there: the pool gets its connection, or has a better reason.
            _ => std::future::pending().await,
        }
    }
}

/// Nobody listens at the address.
pub(crate) fn is_refused(outage: &Outage) -> bool {
    matches!(outage, Outage::Postgres { source: sqlx::Error::Io(e), .. } if e.kind() == ErrorKind::ConnectionRefused)
}
