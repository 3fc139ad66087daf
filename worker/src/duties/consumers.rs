//! Removes stream consumers of workers that have ended, so that names do not pile up over restarts (F16).

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use millstream_common::{
    error::Outage,
    job::Priority,
    stream::{GROUP, wire},
};
use redis::Script;

use super::{Duty, Ran, Scope};
use crate::shared::{Shared, worker_of};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("drop_consumer.lua")));

pub(super) struct Consumers;

impl Duty for Consumers {
    const NAME: &'static str = "consumers";
    const SCOPE: Scope = Scope::Leader;

    fn every(&self, _: &Shared) -> Duration {
        Duration::from_secs(30)
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        if shared.redis.is_down() {
            return Ok(Ran::Skipped);
        }
        let live = live_workers(shared).await?;
        for (_, queue) in shared.catalog.queues() {
            for priority in Priority::ALL {
                let stream = shared.redis.keys().stream(&queue, priority);
                for consumer in consumers(shared, &stream).await? {
                    if worker_of(&String::from_utf8_lossy(&consumer))
                        .is_none_or(|id| !live.contains(&id))
                    {
                        drop_consumer(shared, &stream, &consumer).await?;
                    }
                }
            }
        }
        Ok(Ran::Done)
    }
}

async fn live_workers(shared: &Shared) -> Result<HashSet<i64>, Outage> {
    let query = sqlx::query_scalar(
        "SELECT id FROM millstream.worker WHERE state IN ('active', 'paused', 'draining')",
    );
    let ids: Vec<i64> = shared.pg.main("listing live workers").all(query).await?;
    Ok(ids.into_iter().collect())
}

/// Their names, which may be any bytes.
async fn consumers(shared: &Shared, stream: &str) -> Result<Vec<Vec<u8>>, Outage> {
    let command = redis::Cmd::xinfo_consumers(stream, GROUP);
    let answer = shared
        .redis
        .ask_about("listing consumers", &command)
        .await?;
    // No stream or no group yet: no consumers.
    let answer = answer.unwrap_or(redis::Value::Nil);
    Ok(wire::records(&answer)
        .filter_map(|consumer| consumer.bytes("name").map(<[u8]>::to_vec))
        .collect())
}

/// Removes the consumer unless something is pending with it.
async fn drop_consumer(shared: &Shared, stream: &str, consumer: &[u8]) -> Result<(), Outage> {
    let op = "removing a consumer";
    let mut conn = shared.redis.connection(op).await?;
    let mut call = SCRIPT.key(stream);
    call.arg(GROUP).arg(consumer);
    let _removed: i32 = shared
        .redis
        .within(op, call.invoke_async(&mut conn))
        .await?;
    Ok(())
}

/// At the end of a worker: its own consumers, as far as nothing is pending.
pub(crate) async fn drop_own(shared: &Shared) -> Result<(), Outage> {
    for queue in shared.serves.queues.all().iter() {
        for priority in Priority::ALL {
            drop_consumer(
                shared,
                &shared.redis.keys().stream(&queue.name, priority),
                shared.consumer().as_bytes(),
            )
            .await?;
        }
    }
    Ok(())
}
