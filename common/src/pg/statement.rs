//! A statement taken apart from the type of its rows, so that the way to the server and back is compiled once and not for every type.

use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use sqlx::{
    Decode, Either, Execute, Executor, FromRow, PgConnection, Postgres, SqlStr, Type,
    postgres::{PgArguments, PgRow},
    query::{Query, QueryAs, QueryScalar},
    query_with,
};

use super::within;
use crate::error::Outage;

/// A statement with its values: `sqlx::query`, `query_as` or `query_scalar`.
pub trait Statement {
    /// What a row of its answer becomes.
    type Row;

    #[doc(hidden)]
    fn parts(self, op: &'static str) -> Result<Parts, Outage>;

    #[doc(hidden)]
    fn decode(row: PgRow) -> Result<Self::Row, sqlx::Error>;
}

impl Statement for Query<'_, Postgres, PgArguments> {
    type Row = PgRow;

    fn parts(self, op: &'static str) -> Result<Parts, Outage> {
        Parts::of(op, self)
    }

    fn decode(row: PgRow) -> Result<PgRow, sqlx::Error> {
        Ok(row)
    }
}

impl<T: Send + for<'r> FromRow<'r, PgRow>> Statement for QueryAs<'_, Postgres, T, PgArguments> {
    type Row = T;

    fn parts(self, op: &'static str) -> Result<Parts, Outage> {
        Parts::of(op, self)
    }

    fn decode(row: PgRow) -> Result<T, sqlx::Error> {
        T::from_row(&row)
    }
}

impl<T> Statement for Scalar<'_, T>
where
    T: Send + Type<Postgres> + for<'r> Decode<'r, Postgres>,
{
    type Row = T;

    fn parts(self, op: &'static str) -> Result<Parts, Outage> {
        Parts::of(op, self)
    }

    fn decode(row: PgRow) -> Result<T, sqlx::Error> {
        <(T,)>::from_row(&row).map(|(value,)| value)
    }
}

/// A statement whose rows have one column.
pub type Scalar<'q, T> = QueryScalar<'q, Postgres, T, PgArguments>;

/// The text of a statement and its values. It can be sent as often as it is cloned.
#[derive(Clone)]
pub struct Parts {
    sql: SqlStr,
    arguments: PgArguments,
    persistent: bool,
}

impl Parts {
    fn of<'q>(op: &'static str, mut query: impl Execute<'q, Postgres>) -> Result<Self, Outage> {
        let encoded = query.take_arguments();
        Ok(Self {
            arguments: encoded
                .map_err(|e| failed(op, sqlx::Error::Encode(e)))?
                .unwrap_or_default(),
            persistent: query.persistent(),
            sql: query.sql(),
        })
    }

    /// Sends it and reads the whole answer, within the deadline of a statement.
    pub(super) fn ask<'c>(
        self,
        op: &'static str,
        conn: &'c mut PgConnection,
    ) -> BoxFuture<'c, Result<Answer, Outage>> {
        let query = query_with(self.sql, self.arguments).persistent(self.persistent);
        let read = async move {
            let (mut answer, mut items) = (Answer::default(), conn.fetch_many(query));
            while let Some(item) = items.try_next().await? {
                match item {
                    Either::Left(done) => answer.affected += done.rows_affected(),
                    Either::Right(row) => answer.rows.push(row),
                }
            }
            Ok(answer)
        };
        within(op, read).boxed()
    }
}

/// The whole answer to a statement.
#[derive(Default)]
pub(super) struct Answer {
    rows: Vec<PgRow>,
    pub(super) affected: u64,
}

impl Answer {
    pub(super) fn one<S: Statement>(self, op: &'static str) -> Result<S::Row, Outage> {
        self.optional::<S>(op)?
            .ok_or_else(|| failed(op, sqlx::Error::RowNotFound))
    }

    pub(super) fn optional<S: Statement>(self, op: &'static str) -> Result<Option<S::Row>, Outage> {
        let row = self.rows.into_iter().next();
        row.map(S::decode)
            .transpose()
            .map_err(|source| failed(op, source))
    }

    pub(super) fn all<S: Statement>(self, op: &'static str) -> Result<Vec<S::Row>, Outage> {
        let rows = self.rows.into_iter().map(S::decode);
        rows.collect::<Result<_, _>>()
            .map_err(|source| failed(op, source))
    }
}

fn failed(op: &'static str, source: sqlx::Error) -> Outage {
    Outage::Postgres { op, source }
}

/// The four ways to run a statement, for a type with an `op` and a `fetch` of [`Parts`].
macro_rules! statements {
    ($type:ty, $me:ident, $($receiver:tt)+) => {
        impl $type {
            /// Runs a statement and returns its first row. No row is an error.
            pub async fn one<S: $crate::pg::Statement>($($receiver)+, statement: S) -> Result<S::Row, Outage> {
                let op = $me.op;
                $me.fetch(statement.parts(op)?).await?.one::<S>(op)
            }

            /// Runs a statement and returns its first row, if there is one.
            pub async fn optional<S: $crate::pg::Statement>($($receiver)+, statement: S) -> Result<Option<S::Row>, Outage> {
                let op = $me.op;
                $me.fetch(statement.parts(op)?).await?.optional::<S>(op)
            }

            /// Runs a statement and returns all rows.
            pub async fn all<S: $crate::pg::Statement>($($receiver)+, statement: S) -> Result<Vec<S::Row>, Outage> {
                let op = $me.op;
                $me.fetch(statement.parts(op)?).await?.all::<S>(op)
            }

            /// Runs a statement and returns how many rows it has changed.
            pub async fn execute<S: $crate::pg::Statement>($($receiver)+, statement: S) -> Result<u64, Outage> {
                let op = $me.op;
                Ok($me.fetch(statement.parts(op)?).await?.affected)
            }
        }
    };
}
pub(super) use statements;
