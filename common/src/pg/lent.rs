//! A borrowed connection that returns to the pool only if its use was seen to end well.
//!
//! Two traps of sqlx are closed here. A cancelled `begin()` leaves the connection inside a transaction; the next `INSERT` on it succeeds and
//! vanishes. A dropped connection to a silently dead peer never gives its permit back. So whatever is cut short (cancelled, timed out,
//! failed) detaches and closes its connection; a new one costs a few milliseconds, a lost write costs a job.

use std::{
    future::{Future, IntoFuture},
    ops::{Deref, DerefMut},
};

use futures::{FutureExt, future::BoxFuture};
use sqlx::{Connection, PgConnection, Postgres, Transaction, pool::PoolConnection};

use super::{
    GuardedPool,
    statement::{Answer, Parts, statements},
    trust::Trust,
};
use crate::{error::Outage, limits::STATEMENT_DEADLINE};

/// A connection to come: borrowed for one statement ([`one`](Self::one) and the like), or awaited for several.
#[must_use = "a connection is borrowed for a statement, or when this is awaited"]
pub struct Loan<'p> {
    pub(super) pool: &'p GuardedPool,
    pub(super) op: &'static str,
    pub(super) repeats: bool,
}

statements!(Loan<'_>, self, self);

impl<'p> Loan<'p> {
    fn fetch(self, parts: Parts) -> BoxFuture<'p, Result<Answer, Outage>> {
        async move {
            let again = self.repeats.then(|| parts.clone());
            match (self.ask(parts).await, again) {
                (Err(outage), Some(again)) if outage.is_connection_gone() => {
                    tracing::debug!(error = %crate::error::in_full(&outage), "a connection was gone; another one is asked");
                    self.ask(again).await
                }
                (answer, _) => answer,
            }
        }
        .boxed()
    }

    async fn ask(&self, parts: Parts) -> Result<Answer, Outage> {
        self.pool.lend(self.op).await?.fetch(parts).await
    }
}

impl<'p> IntoFuture for Loan<'p> {
    type Output = Result<Lent, Outage>;
    type IntoFuture = BoxFuture<'p, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.pool.lend(self.op).boxed()
    }
}

/// A connection on loan. It goes back to its pool if the last thing that was done over it has ended well: a statement by
/// [`one`](Self::one) and the like, a transaction, or anything else and then [`done`](Self::done).
pub struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    op: &'static str,
    /// Nothing is under way on it, and no transaction is open.
    is_at_rest: bool,
    trust: Trust,
}

statements!(Lent, self, &mut self);

impl Lent {
    pub(super) fn new(
        connection: PoolConnection<Postgres>,
        op: &'static str,
        trust: Trust,
    ) -> Self {
        Self {
            connection: Some(connection),
            op,
            is_at_rest: false,
            trust,
        }
    }

    /// Outside of a transaction, values that Postgres has refused say nothing against the connection.
    fn fetch(&mut self, parts: Parts) -> BoxFuture<'_, Result<Answer, Outage>> {
        async {
            let answer = parts.ask(self.op, self.conn()).await;
            self.is_at_rest = match &answer {
                Ok(_) => true,
                Err(outage) => outage.is_about_the_data(),
            };
            answer
        }
        .boxed()
    }

    /// Begins a transaction.
    pub async fn begin(&mut self) -> Result<Tx<'_>, Outage> {
        self.is_at_rest = false;
        let (op, is_over) = (self.op, &mut self.is_at_rest);
        let begun = within(op, held(&mut self.connection).begin()).await?;
        Ok(Tx { begun, op, is_over })
    }

    /// The connection, for what only sqlx can do. Call [`Lent::done`] when the last answer has been read.
    ///
    /// # Panics
    /// Never: only `done` and `drop` take the connection, and both end the loan.
    pub fn conn(&mut self) -> &mut PgConnection {
        self.is_at_rest = false;
        held(&mut self.connection)
    }

    /// Gives the connection back for reuse.
    pub fn done(mut self) {
        self.is_at_rest = true;
    }
}

#[expect(
    clippy::expect_used,
    reason = "only `drop` takes the connection, which ends the loan"
)]
fn held(connection: &mut Option<PoolConnection<Postgres>>) -> &mut PgConnection {
    connection
        .as_mut()
        .expect("a loan holds its connection until it ends")
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if self.is_at_rest {
            return;
        }
        self.trust.note_broken();
        if cfg!(feature = "sabotage-rollback") {
            // Sabotage: back into the pool, in whatever transaction it is.
            drop(connection);
        } else {
            drop(connection.detach());
        }
    }
}

/// A transaction on a loan. If it is dropped before its end, its connection is closed.
#[must_use = "a transaction that is not committed changes nothing"]
pub struct Tx<'l> {
    begun: Transaction<'l, Postgres>,
    op: &'static str,
    is_over: &'l mut bool,
}

statements!(Tx<'_>, self, &mut self);

impl Tx<'_> {
    fn fetch(&mut self, parts: Parts) -> BoxFuture<'_, Result<Answer, Outage>> {
        parts.ask(self.op, &mut self.begun)
    }

    /// Commits what was written, and gives the connection back.
    pub async fn commit(self) -> Result<(), Outage> {
        within(self.op, self.begun.commit()).await?;
        *self.is_over = true;
        Ok(())
    }

    /// Ends it without having changed anything, and gives the connection back.
    pub async fn rollback(self) -> Result<(), Outage> {
        within(self.op, self.begun.rollback()).await?;
        *self.is_over = true;
        Ok(())
    }
}

/// For `&mut *tx`, as with a transaction of sqlx.
impl Deref for Tx<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.begun
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.begun
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
