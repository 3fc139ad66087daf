//! Questions and orders of a case to Postgres and Redis, each on a connection of its own and with a deadline.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result};
use millstream_common::job::Priority;
use redis::{FromRedisValue, aio::MultiplexedConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use super::Fleet;

/// A question that a fault holds up must not hold up the fault.
const DEADLINE: Duration = Duration::from_secs(10);

async fn within<T>(what: &str, act: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(DEADLINE, act)
        .await
        .with_context(|| format!("no answer within {} s: {what}", DEADLINE.as_secs()))?
}

impl Fleet {
    /// A connection to Postgres, around whatever stands between the processes and it.
    pub async fn postgres(&self) -> Result<PgConnection> {
        let options: PgConnectOptions = self.database_url().parse()?;
        within("connecting to Postgres", async {
            Ok(options.application_name("chaos").connect().await?)
        })
        .await
    }

    /// The one number of a statement.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        let mut conn = self.postgres().await?;
        let number = within(sql, async {
            Ok(sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_one(&mut conn)
                .await?)
        })
        .await?;
        conn.close().await?;
        Ok(number)
    }

    /// The one text of each row of a statement.
    pub async fn texts(&self, sql: &str) -> Result<Vec<String>> {
        let mut conn = self.postgres().await?;
        let texts = within(sql, async {
            Ok(sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_all(&mut conn)
                .await?)
        })
        .await?;
        conn.close().await?;
        Ok(texts)
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let mut conn = self.postgres().await?;
        within(sql, async {
            Ok(sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut conn)
                .await
                .map(drop)?)
        })
        .await?;
        Ok(conn.close().await?)
    }

    /// A connection to Redis, around whatever stands between the processes and it.
    pub async fn redis(&self) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(self.redis_url())?;
        within("connecting to Redis", async {
            Ok(client.get_multiplexed_async_connection().await?)
        })
        .await
    }

    /// One Redis command of words.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        let mut conn = self.redis().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        within(&words.join(" "), async {
            Ok(command.query_async(&mut conn).await?)
        })
        .await
    }

    /// One Redis command of words that may be anything.
    pub async fn command_of_bytes<T: FromRedisValue>(&self, words: &[&[u8]]) -> Result<T> {
        let mut conn = self.redis().await?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        within("a command of bytes", async {
            Ok(command.query_async(&mut conn).await?)
        })
        .await
    }

    /// The work streams of the queue that the producers fill.
    pub fn streams(&self) -> Vec<String> {
        Priority::ALL
            .into_iter()
            .map(|priority| self.keys().stream("default", priority))
            .collect()
    }
}
