//! Redis: reachable, new enough, never evicting, willing to do what the work needs, and the streams in it.
//!
//! By INFO alone, because a careful ACL denies CONFIG; and by the probe of the workers, which leaves nothing behind.

use std::{collections::HashMap, sync::Arc};

use millstream_common::{
    error::Outage,
    job::Priority,
    stream::{link::Redis, probe},
};

use super::Check;
use crate::{
    cli::{CommandError, Invocation},
    ops::queues::{self, Queue},
};

/// Streams with consumer groups and their lag need it.
const VERSION_MIN: u32 = 7;
/// A stream is kept short by its window; beyond this something does not read.
const STREAM_ENTRIES_WARN: u64 = 10_000;

pub(super) async fn check(context: &Invocation, schema_is_there: bool) -> Vec<Check> {
    match asked(context, schema_is_there).await {
        Ok(checks) => checks,
        Err(failure) => vec![Check::down("redis", &failure, context)],
    }
}

async fn asked(context: &Invocation, schema_is_there: bool) -> Result<Vec<Check>, CommandError> {
    context.redis_url()?;
    let redis = if schema_is_there {
        context.redis().await?.clone()
    } else {
        context.redis_alone()?
    };
    let queues = if schema_is_there {
        queues::list(context.pg().await?).await?
    } else {
        Vec::new()
    };
    let mut checks = match redis.info("default").await? {
        Some(text) => judge(&parse(&text), context.places().redis()),
        None => vec![Check::warn(
            "redis",
            format!(
                "the user of REDIS_URL may not ask Redis at {} about itself",
                context.places().redis()
            ),
            "its version and maxmemory-policy are not known: ACL SETUSER NAME +info",
        )],
    };
    let names: Vec<Arc<str>> = queues
        .iter()
        .map(|queue| queue.name.as_str().into())
        .collect();
    let lacks = redis.lacking(&names).await?;
    let is_whole = lacks.is_empty();
    checks.push(rights(&redis, &lacks));
    if schema_is_there {
        checks.push(Check::ok(
            "redis keys",
            format!(
                "begin with {} and the mark of this database: other databases keep apart",
                redis.keys().beginning()
            ),
        ));
    }
    if is_whole {
        checks.extend(streams(&redis, &queues).await?);
    }
    Ok(checks)
}

/// What the workers' probe finds.
fn rights(redis: &Redis, lacks: &[probe::Lack]) -> Check {
    if lacks.is_empty() {
        return Check::ok(
            "redis rights",
            format!(
                "all commands that the work needs, on keys {}",
                redis.keys().pattern()
            ),
        );
    }
    Check::fail(
        "redis rights",
        format!("missing: {}", probe::in_words(lacks)),
        "until it is there jobs run from Postgres alone; the whole list is in docs/operations.md",
    )
}

fn parse(info: &str) -> HashMap<String, String> {
    info.lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn judge(info: &HashMap<String, String>, place: &str) -> Vec<Check> {
    let get = |key: &str| info.get(key).map_or("unknown", String::as_str);
    let version = get("redis_version");
    let major: u32 = version
        .split('.')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let policy = get("maxmemory_policy");
    let used = format!(
        "{} used, limit {}",
        get("used_memory_human"),
        get("maxmemory_human")
    );
    vec![
        if major >= VERSION_MIN {
            Check::ok("redis", format!("{version} at {place}"))
        } else {
            Check::fail(
                "redis",
                format!("{version} at {place}"),
                format!("Redis {VERSION_MIN} or newer is needed"),
            )
        },
        Check::warn_unless(
            get("role") == "master",
            "redis role",
            get("role"),
            "REDIS_URL must name the primary, which takes writes; until then jobs run from Postgres alone",
        ),
        Check::warn_unless(
            policy == "noeviction",
            "maxmemory_policy",
            policy,
            "hints can be thrown away and jobs start late: set maxmemory-policy noeviction",
        ),
        Check::ok("redis memory", used),
        persistence(get("aof_enabled"), get("rdb_last_bgsave_status")),
    ]
}

/// Nothing is lost without it, since Postgres is the truth; a restart only costs the time to publish again.
fn persistence(aof: &str, rdb: &str) -> Check {
    let detail = format!(
        "AOF {}, last RDB save {rdb}",
        if aof == "1" { "on" } else { "off" }
    );
    Check::warn_unless(
        rdb == "ok",
        "redis persistence",
        detail,
        "Redis cannot write its files and may refuse writes: look at its log and disk",
    )
}

async fn streams(redis: &Redis, queues: &[Queue]) -> Result<Vec<Check>, Outage> {
    let op = "reading stream lengths";
    let mut checks = Vec::new();
    for queue in queues {
        let mut pipe = redis::pipe();
        for priority in Priority::ALL {
            pipe.xlen(redis.keys().stream(&queue.name, priority));
        }
        let mut conn = redis.connection(op).await?;
        let lengths: Vec<u64> = redis.within(op, pipe.query_async(&mut conn)).await?;
        let parts: Vec<_> = Priority::ALL
            .iter()
            .zip(&lengths)
            .map(|(priority, n)| format!("{n} {priority}"))
            .collect();
        let detail = format!(
            "{}: {}; {} jobs in the backlog{}",
            queue.name,
            parts.join(", "),
            queue.backlog,
            if queue.paused { "; paused" } else { "" }
        );
        let short = lengths.iter().all(|n| *n < STREAM_ENTRIES_WARN);
        checks.push(Check::warn_unless(
            short,
            "stream",
            detail,
            "entries are not read: are workers alive, do they read this queue?",
        ));
    }
    Ok(checks)
}
