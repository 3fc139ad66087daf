//! A borrowed connection that returns to the pool only if its use was seen to end well.
//!
//! Two traps of sqlx are closed here. A cancelled `begin()` leaves the connection inside a transaction; the next `INSERT` on it succeeds and
//! vanishes. A dropped connection to a silently dead peer never gives its permit back. So whatever is cut short (cancelled, timed out,
//! failed) detaches and closes its connection; a new one costs a few milliseconds, a lost write costs a job.

use std::{
    future::Future,
    ops::{Deref, DerefMut},
};

use sqlx::{PgConnection, Postgres, pool::PoolConnection};

use super::trust::Trust;
use crate::{error::Outage, limits::STATEMENT_DEADLINE};

/// A connection on loan. Call [`Lent::done`] when the last answer has been read.
pub struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    trust: Trust,
}

impl Lent {
    pub(super) fn new(connection: PoolConnection<Postgres>, trust: Trust) -> Self {
        Self {
            connection: Some(connection),
            trust,
        }
    }

    /// The connection, for one statement or transaction.
    ///
    /// # Panics
    /// Never: only `done` and `drop` take the connection, and both end the loan.
    pub fn conn(&mut self) -> &mut PgConnection {
        self
    }

    /// After one statement that failed outside a transaction: values that Postgres has refused say nothing against the connection, which is
    /// given back for reuse.
    pub fn after(self, outage: Outage) -> Outage {
        if outage.is_about_the_data() {
            self.done();
        }
        outage
    }

    /// Gives the connection back for reuse.
    pub fn done(mut self) {
        drop(self.connection.take());
    }
}

/// For `&mut *lent` and `lent.begin()`, as with any connection of sqlx.
impl Deref for Lent {
    type Target = PgConnection;

    #[expect(
        clippy::expect_used,
        reason = "only `done` and `drop` take the connection, and both consume the loan"
    )]
    fn deref(&self) -> &PgConnection {
        self.connection
            .as_ref()
            .expect("a loan holds its connection until it ends")
    }
}

impl DerefMut for Lent {
    #[expect(
        clippy::expect_used,
        reason = "only `done` and `drop` take the connection, and both consume the loan"
    )]
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection
            .as_mut()
            .expect("a loan holds its connection until it ends")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        self.trust.note_broken();
        if cfg!(feature = "sabotage-rollback") {
            // Sabotage: back into the pool, in whatever transaction it is.
            drop(connection);
        } else {
            drop(connection.detach());
        }
    }
}

/// Awaits one statement at most [`STATEMENT_DEADLINE`] long and names what was being done in the error.
pub async fn within<T>(
    op: &'static str,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Outage> {
    match tokio::time::timeout(STATEMENT_DEADLINE, statement).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Outage::Postgres { op, source }),
        Err(_) => Err(Outage::PostgresTimeout { op }),
    }
}
