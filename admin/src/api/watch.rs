//! How the servers behind the API are, asked once a second by one task over a connection of its own.
//!
//! So a probe or a scrape costs no server anything and is answered at once, also when both are dead; and a request that
//! needs Postgres is not made to wait for a server that is known to be away. A pool would do worse as a witness: it is
//! empty when the API is busy, too.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use millstream_common::{
    breaker::{Breaker, BreakerState, Lines},
    catalog::Catalog,
    error::Outage,
    pg::Pg,
    reconnect::Reconnect,
    stream::{link::Redis, policy::Policy},
};
use serde::Serialize;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

/// Time between two looks while all is well.
const EVERY: Duration = Duration::from_secs(1);
/// What takes longer to answer than this is not there.
const DEADLINE: Duration = Duration::from_secs(2);
/// One failure may be a connection that was closed; the second in a row is made on a new one.
const FAILURES_TO_OPEN: u32 = 2;
const LINES: Lines = Lines {
    begins: "Postgres is out of reach: requests are answered with 503 at once",
    ends: "Postgres is back: requests are served again",
};
/// The reason of a server that answers and takes no jobs.
pub(super) const TAKES_NO_WRITES: &str = "takes no writes";
/// SQLSTATE of a missing table.
const UNDEFINED_TABLE: &str = "42P01";
/// SQLSTATE of a missing schema.
const UNDEFINED_SCHEMA: &str = "3F000";

/// What was seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Reading {
    pub(super) postgres: bool,
    pub(super) schema: bool,
    pub(super) redis: bool,
    pub(super) redis_policy: Policy,
}

/// Since when and why a server is away.
#[derive(Debug, Serialize)]
pub(super) struct Breakers {
    postgres: BreakerState,
    redis: BreakerState,
}

/// See the module.
pub(super) struct Watch {
    pub(super) postgres: Breaker,
    reading: Mutex<Reading>,
}

impl Default for Watch {
    fn default() -> Self {
        let nothing = Reading {
            postgres: false,
            schema: false,
            redis: false,
            redis_policy: Policy::Unknown,
        };
        Self {
            postgres: Breaker::new(FAILURES_TO_OPEN, LINES),
            reading: Mutex::new(nothing),
        }
    }
}

impl Watch {
    /// What was seen last; nothing is there before the first look.
    pub(super) fn reading(&self) -> Reading {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For `/readyz`.
    pub(super) fn breakers(&self, redis: &Redis) -> Breakers {
        Breakers {
            postgres: self.postgres.state(),
            redis: redis.breaker().state(),
        }
    }

    /// Looks until told to stop.
    pub(super) async fn run(
        &self,
        pg: &Pg,
        redis: &Redis,
        catalog: &Catalog,
        schema_wanted: i64,
        stop: &CancellationToken,
    ) {
        let (mut connection, mut reconnect) = (None, Reconnect::default());
        loop {
            let all_well = self
                .look(&mut connection, pg, (redis, catalog), schema_wanted)
                .await;
            let pause = if all_well {
                reconnect.reset();
                EVERY
            } else {
                reconnect.next_delay()
            };
            tokio::select! { () = tokio::time::sleep(pause) => {}, () = stop.cancelled() => return }
        }
    }

    /// One look at both servers. Returns whether both did as they were asked.
    async fn look(
        &self,
        connection: &mut Option<PgConnection>,
        pg: &Pg,
        (redis, catalog): (&Redis, &Catalog),
        schema_wanted: i64,
    ) -> bool {
        let queues: Vec<_> = catalog.queues().into_iter().map(|(_, name)| name).collect();
        let asked = async { redis.probe(&queues).await.and(redis.look_at_policy().await) };
        let (applied, alive) = tokio::join!(
            applied_soon(connection, pg),
            tokio::time::timeout(DEADLINE, asked)
        );
        match &applied {
            Ok(_) => self.postgres.note_success(),
            Err(outage) => _ = self.postgres.note_failure(why(outage)),
        }
        let reading = Reading {
            postgres: applied.is_ok(),
            schema: applied
                .as_ref()
                .is_ok_and(|version| *version >= schema_wanted),
            // Work that was refused behind the probe's back keeps the breaker open.
            redis: matches!(alive, Ok(Ok(_))) && redis.lacks().is_none(),
            redis_policy: redis.policy(),
        };
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = reading;
        reading.postgres && reading.redis
    }
}

fn why(outage: &Outage) -> &'static str {
    if matches!(outage, Outage::Schema(_)) {
        TAKES_NO_WRITES
    } else {
        outage.word()
    }
}

async fn applied_soon(connection: &mut Option<PgConnection>, pg: &Pg) -> Result<i64, Outage> {
    tokio::time::timeout(DEADLINE, applied(connection, pg))
        .await
        .unwrap_or(Err(Outage::PostgresTimeout { op: "probing" }))
}

/// The newest migration in the database, 0 if there is none. A kept connection that has ended is no news of the server: a new one is asked.
async fn applied(connection: &mut Option<PgConnection>, pg: &Pg) -> Result<i64, Outage> {
    // Taken out: kept only if it has answered.
    if let Some(kept) = connection.take() {
        match ask(kept, connection).await {
            Err(outage) if outage.is_connection_gone() => {}
            answered => return answered,
        }
    }
    ask(pg.connect("connecting the watch").await?, connection).await
}

async fn ask(mut conn: PgConnection, keep: &mut Option<PgConnection>) -> Result<i64, Outage> {
    // A primary on which transactions are read-only takes no jobs either.
    let takes_none = sqlx::query_scalar(
        "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean",
    )
    .fetch_one(&mut conn)
    .await;
    if takes_none.map_err(|source| Outage::Postgres {
        op: "probing",
        source,
    })? {
        // The primary of a moment ago, or a wrong address: what it says may be old, and it takes no jobs.
        return Err(Outage::Schema("Postgres takes no writes".to_owned()));
    }
    let query = sqlx::query_scalar(
        "SELECT COALESCE(max(version), 0) FROM millstream._migrations WHERE success",
    );
    let version = match query.fetch_one(&mut conn).await {
        Ok(version) => version,
        // Postgres answers, and the table is gone: reachable, without the schema. A server that is shutting down also answers
        // with an error, and is not reachable.
        Err(sqlx::Error::Database(error))
            if matches!(
                error.code().as_deref(),
                Some(UNDEFINED_TABLE | UNDEFINED_SCHEMA)
            ) =>
        {
            0
        }
        Err(source) => {
            return Err(Outage::Postgres {
                op: "probing",
                source,
            });
        }
    };
    *keep = Some(conn);
    Ok(version)
}
