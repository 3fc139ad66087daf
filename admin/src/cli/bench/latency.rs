//! From the answer of an enqueue to the start of its handler, at a hundred jobs a second, one worker.
//!
//! Both ends are taken by clocks of this machine: the answer by this process, the start by the worker (`started_at`). Jobs come at
//! their times, whether or not the one before has been answered.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use millstream_common::{
    id::JobId,
    job::{NewJob, Priority},
    metrics::EnqueueSource,
    pg::Pg,
};
use millstream_producer::Producer;
use sqlx::Row as _;
use tokio::task::JoinSet;

use super::{
    super::CommandError,
    beside::Beside,
    crew::Crew,
    door::Http,
    drain::{begin, done},
    enqueue::{PAYLOAD, QUEUE, job},
    meter::Meter,
    row::{Cpu, Row},
    site::Site,
};

/// A hundred jobs a second.
const EVERY: Duration = Duration::from_millis(10);
/// Ten seconds of them.
const JOBS: u64 = 1_000;
/// The first ones open connections and are not counted.
const WARM_UP: u64 = 50;
const OP: &str = "measuring latency";

/// How a job comes in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Door {
    /// `Producer::enqueue`.
    Library,
    /// `Producer::enqueue_in` and COMMIT.
    Transaction,
    /// `POST /v1/jobs`.
    Http,
    /// `millstream.enqueue`.
    Sql,
}

/// An open door. Cheap to clone.
#[derive(Clone)]
struct Opened {
    door: Door,
    pg: Pg,
    producer: Producer,
    http: Option<Http>,
}

/// The figure of one door.
pub(super) async fn of(
    site: &Site,
    name: &'static str,
    door: Door,
    beside: Beside,
) -> Result<Row, CommandError> {
    begin(site).await?;
    let producer = site.context().producer(EnqueueSource::Cli).await?;
    let http = if let Door::Http = door {
        Some(Http::open(site).await?)
    } else {
        None
    };
    let guard = beside.begin(site).await?;
    let opened = Opened {
        door,
        pg: site.context().pg().await?.clone(),
        producer: producer.clone(),
        http,
    };
    let sent = sent(site, name, &opened).await;
    producer.close().await;
    guard.end().await?;
    let (row, answered) = sent?;
    let ms = waits(site, &answered).await?;
    // The rate is ours, not theirs; and beside a backlog the costs are mostly those of the backlog.
    let row = Row {
        jobs_per_s: None,
        ..row
    }
    .with_quantiles(ms);
    Ok(if beside.is_a_backlog() {
        Row {
            cpu_us_per_job: Cpu::default(),
            wal_bytes_per_job: None,
            ..row
        }
    } else {
        row
    })
}

/// With one worker; returns what it cost, and when each was answered.
async fn sent(
    site: &Site,
    name: &'static str,
    opened: &Opened,
) -> Result<(Row, HashMap<JobId, DateTime<Utc>>), CommandError> {
    let crew = Crew::start(site, "noop", 1, None).await?;
    send(opened, WARM_UP).await?;
    let meter = Meter::start(site, Some(&crew)).await?;
    let answered = send(opened, JOBS).await?;
    let row = meter.stop(name, JOBS).await?;
    done(site).await?;
    crew.stop().await?;
    Ok((row, answered))
}

/// Returns when each was answered.
async fn send(opened: &Opened, jobs: u64) -> Result<HashMap<JobId, DateTime<Utc>>, CommandError> {
    let mut tick = tokio::time::interval(EVERY);
    let mut calls = JoinSet::new();
    for _ in 0..jobs {
        tick.tick().await;
        let opened = opened.clone();
        calls.spawn(async move {
            opened
                .enqueue()
                .await
                .map(|id| (id, millstream_common::clock::now()))
        });
    }
    let mut answered = HashMap::new();
    while let Some(call) = calls.join_next().await {
        answered
            .extend([call.map_err(|e| CommandError::failed(format!("a caller failed: {e}")))??]);
    }
    Ok(answered)
}

impl Opened {
    async fn enqueue(&self) -> Result<JobId, CommandError> {
        match (&self.http, self.door) {
            (Some(http), _) => http.enqueue().await,
            (None, Door::Transaction) => self.in_a_transaction().await,
            (None, Door::Sql) => self.by_sql().await,
            (None, _) => Ok(self.producer.enqueue(urgent()).await?.id),
        }
    }

    async fn in_a_transaction(&self) -> Result<JobId, CommandError> {
        let mut lent = self.pg.main(OP).await?;
        let mut tx = lent.begin().await?;
        let new = urgent();
        let id = new.id;
        self.producer.enqueue_in(&mut tx, vec![new]).await?;
        tx.commit().await?;
        Ok(id)
    }

    async fn by_sql(&self) -> Result<JobId, CommandError> {
        let call = sqlx::query_scalar("SELECT millstream.enqueue('noop', $1::jsonb, $2)")
            .bind(PAYLOAD)
            .bind(QUEUE);
        Ok(self.pg.main(OP).one(call).await?)
    }
}

/// Before whatever waits.
fn urgent() -> NewJob {
    NewJob {
        priority: Priority::High,
        ..job()
    }
}

async fn waits(
    site: &Site,
    answered: &HashMap<JobId, DateTime<Utc>>,
) -> Result<Vec<f64>, CommandError> {
    let ids: Vec<JobId> = answered.keys().copied().collect();
    let query = sqlx::query(
        "SELECT id, started_at FROM millstream.job WHERE id = ANY($1) AND started_at IS NOT NULL",
    )
    .bind(ids);
    let rows = site.context().pg().await?.main(OP).all(query).await?;
    let wait = |row: &sqlx::postgres::PgRow| {
        let started: DateTime<Utc> = row.get("started_at");
        // It may start before the answer has come back.
        (started - answered.get(&row.get::<JobId, _>("id"))?)
            .num_microseconds()
            .map(|us| us.max(0) as f64 / 1000.0)
    };
    Ok(rows.iter().filter_map(wait).collect())
}
