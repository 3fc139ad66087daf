//! The three doors for jobs, as their users see them: the library, HTTP and SQL. Each says ok, failed or unknown.

use std::time::Duration;

use millstream_common::{
    catalog::Catalog,
    config::Config,
    job::NewJob,
    metrics::{EnqueueSource, Metrics},
    pg::{Pg, mark},
    stream::{keys::Keys, link::Redis},
};
use millstream_producer::{Error, Parts, Producer};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

use super::workload::Ask;

/// No call lasts longer; what became of it is then unknown.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Connections of a producer.
const CONNECTIONS_MAX: u32 = 4;

/// What a door said.
pub enum Answer {
    /// Accepted under this id, if the door tells it.
    Ok(Option<Uuid>),
    /// It can never be accepted; nothing was written.
    Failed(String),
    /// Nobody knows.
    Unknown(String),
}

/// Which door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// `millstream_producer`.
    Library,
    /// `POST /v1/jobs`.
    Http,
    /// `millstream.enqueue`.
    Sql,
}

/// One caller's way in.
pub enum Door {
    /// Shared by the callers of a process.
    Library(Box<Producer>),
    /// Client and address.
    Http(reqwest::Client, String),
    /// A connection of this caller, made again after any error.
    Sql(Box<PgConnectOptions>, Option<PgConnection>),
}

impl Door {
    /// A producer as a service would hold it, as soon as Postgres is there: its fault may have begun before this process.
    pub async fn library(config: &Config) -> anyhow::Result<Producer> {
        let pg = Pg::new(config.database.url.expose(), CONNECTIONS_MAX)?;
        let mark = loop {
            match mark(&pg).await {
                Ok(mark) => break mark,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        Ok(Producer::new(Parts {
            redis: Redis::new(
                config.redis.url.expose(),
                Keys::new(config.redis.prefix.clone(), mark),
            )?,
            catalog: Catalog::new(pg.clone()),
            metrics: Metrics::new("chaos")?,
            source: EnqueueSource::Library,
            pg,
        }))
    }

    /// Asks once, and gives up after a while.
    pub async fn ask(&mut self, ask: &Ask, id: Uuid, patience: Duration) -> Answer {
        let asked = async {
            match self {
                Self::Library(producer) => library(producer, ask, id).await,
                Self::Http(client, url) => http(client, url, ask).await,
                Self::Sql(options, conn) => sql(options, conn, ask).await,
            }
        };
        let answer = tokio::time::timeout(patience, asked).await;
        if answer.is_err()
            && let Self::Sql(_, conn) = self
        {
            // Cut short in the middle of a statement: nothing more may be asked on it.
            *conn = None;
        }
        answer.unwrap_or_else(|_| Answer::Unknown("no answer in time".into()))
    }
}

async fn library(producer: &Producer, ask: &Ask, id: Uuid) -> Answer {
    let mut job = NewJob::new(ask.kind, ask.payload.clone());
    job.id = id;
    job.priority = ask.priority.parse().expect("a known priority");
    job.idempotency_key.clone_from(&ask.key);
    match producer.enqueue(job).await {
        Ok(enqueued) => Answer::Ok(Some(enqueued.id)),
        Err(e @ Error::Refused(_)) => Answer::Failed(e.in_full()),
        Err(e @ Error::Outage(_)) => Answer::Unknown(e.in_full()),
    }
}

async fn http(client: &reqwest::Client, url: &str, ask: &Ask) -> Answer {
    let payload: Value = serde_json::from_str(&ask.payload).expect("a payload is JSON");
    let mut body = json!({ "kind": ask.kind, "payload": payload, "priority": ask.priority });
    if let Some(key) = &ask.key {
        body["idempotency_key"] = json!(key);
    }
    answer_of(
        client
            .post(format!("{url}/v1/jobs"))
            .json(&body)
            .send()
            .await,
    )
    .await
}

/// What the API answered to a job or a document.
pub async fn answer_of(sent: reqwest::Result<reqwest::Response>) -> Answer {
    let response = match sent {
        Ok(response) => response,
        Err(e) => return Answer::Unknown(millstream_common::error::in_full(&e)),
    };
    let status = response.status();
    let body: Value = match response.json().await {
        Ok(body) => body,
        Err(e) => {
            return Answer::Unknown(format!(
                "{status}: {}",
                millstream_common::error::in_full(&e)
            ));
        }
    };
    match status {
        StatusCode::ACCEPTED => Answer::Ok(body["id"].as_str().and_then(|id| id.parse().ok())),
        // The one refusal that says of itself that nothing is known.
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
            Answer::Unknown(body.to_string())
        }
        _ if status.is_client_error() => Answer::Failed(body.to_string()),
        _ => Answer::Unknown(body.to_string()),
    }
}

async fn sql(options: &PgConnectOptions, kept: &mut Option<PgConnection>, ask: &Ask) -> Answer {
    // Taken out: only a connection whose answer was read is kept.
    let mut conn = match kept.take() {
        Some(conn) => conn,
        None => match options.connect().await {
            Ok(conn) => conn,
            Err(e) => return Answer::Unknown(e.to_string()),
        },
    };
    let asked = sqlx::query_scalar(
        "SELECT millstream.enqueue($1, $2::jsonb, priority => $3, idempotency_key => $4)",
    )
    .bind(ask.kind)
    .bind(&ask.payload)
    .bind(ask.priority)
    .bind(&ask.key)
    .fetch_one(&mut conn)
    .await;
    match asked {
        Ok(id) => {
            *kept = Some(conn);
            Answer::Ok(Some(id))
        }
        // Class 22 is a value that can never be right, class 54 one that is too large.
        Err(sqlx::Error::Database(e))
            if e.code()
                .is_some_and(|code| code.starts_with("22") || code.starts_with("54")) =>
        {
            Answer::Failed(e.to_string())
        }
        Err(e) => Answer::Unknown(e.to_string()),
    }
}
