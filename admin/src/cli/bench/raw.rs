//! The bare path: the same statements and commands on rows of the same shape, in the same batches, with no product around them.
//!
//! What this reaches is the limit of this machine, now. It keeps its rows in a schema of its own, which goes when the bench ends.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage,
    id::{JobId, new_job_ids},
    limits::CHUNK_JOBS_MAX,
    pg::Lent,
};
use redis::aio::ConnectionLike;

use super::{super::CommandError, enqueue::PAYLOAD, meter::Meter, row::Row, site::Site};

/// Jobs per INSERT, and per round of a lane: as the product has them at full load.
pub(super) const BATCH: usize = 1_000;
/// Rounds under way at once.
const LANES: usize = 2;
/// An empty stream is looked at again after this. A blocking read would wake for each entry of a batch.
const EMPTY: Duration = Duration::from_millis(1);
const OP: &str = "measuring the bare path";
const GROUP: &str = "raw";

/// The schema, once per bench.
pub(super) async fn prepare(site: &Site) -> Result<(), CommandError> {
    for sql in [
        "CREATE SCHEMA bench_raw",
        "CREATE TABLE bench_raw.keys (prefix text)",
        "CREATE TABLE bench_raw.job (LIKE millstream.job INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES) WITH (fillfactor = 50)",
        "CREATE TABLE bench_raw.figure AS SELECT now() AS began",
    ] {
        site.execute(sql).await?;
    }
    let prefix = sqlx::query("INSERT INTO bench_raw.keys VALUES ($1)")
        .bind(&site.context().config.redis.prefix);
    site.context().pg().await?.main(OP).execute(prefix).await?;
    Ok(())
}

/// Rows by one connection, so many at a time.
pub(super) async fn insert(site: &Site, jobs: u64, batch: usize) -> Result<Row, CommandError> {
    site.execute("TRUNCATE bench_raw.job").await?;
    measured(site, jobs, async {
        let mut left = jobs as usize;
        while left > 0 {
            let now = left.min(batch);
            put(site, now).await?;
            left -= now;
        }
        Ok(())
    })
    .await
}

/// Jobs out of a stream that holds them all.
pub(super) async fn drain(site: &Site, jobs: u64) -> Result<Row, CommandError> {
    empty(site).await?;
    produce(site, jobs).await?;
    measured(site, jobs, Box::pin(consume(site, jobs))).await
}

/// Both at once.
pub(super) async fn both(site: &Site, jobs: u64) -> Result<Row, CommandError> {
    empty(site).await?;
    // On the heap: these are large futures.
    let both = Box::pin(async {
        futures::try_join!(produce(site, jobs), consume(site, jobs))?;
        Ok(())
    });
    measured(site, jobs, both).await
}

/// The rate and the CPU time of `work`, whose client is this process.
async fn measured(
    site: &Site,
    jobs: u64,
    work: impl Future<Output = Result<(), CommandError>>,
) -> Result<Row, CommandError> {
    site.checkpoint().await;
    let meter = Meter::start(site, None).await?;
    let start = Instant::now();
    work.await?;
    let seconds = start.elapsed().as_secs_f64();
    let mut row = meter.stop("raw", jobs).await?;
    row.jobs_per_s = Some(jobs as f64 / seconds);
    Ok(row)
}

fn stream(site: &Site) -> String {
    format!("{}:raw", site.context().config.redis.prefix)
}

async fn empty(site: &Site) -> Result<(), CommandError> {
    site.execute("TRUNCATE bench_raw.job").await?;
    let redis = site.context().redis().await?;
    let mut conn = redis.connection(OP).await?;
    let mut pipe = redis::pipe();
    pipe.del(stream(site))
        .ignore()
        .xgroup_create_mkstream(stream(site), GROUP, "0")
        .ignore();
    Ok(redis.within(OP, pipe.query_async(&mut conn)).await?)
}

async fn produce(site: &Site, jobs: u64) -> Result<(), CommandError> {
    let redis = site.context().redis().await?;
    let mut conn = redis.connection(OP).await?;
    let mut left = jobs as usize;
    while left > 0 {
        let batch = left.min(BATCH);
        let ids = put(site, batch).await?;
        let mut pipe = redis::pipe();
        for chunk in ids.chunks(CHUNK_JOBS_MAX) {
            let packed: Vec<u8> = chunk.iter().flat_map(|id| *id.as_bytes()).collect();
            pipe.xadd(stream(site), "*", &[("j", packed)]).ignore();
        }
        redis.within::<()>(OP, pipe.query_async(&mut conn)).await?;
        left -= batch;
    }
    Ok(())
}

async fn put(site: &Site, batch: usize) -> Result<Vec<JobId>, CommandError> {
    let ids: Vec<JobId> = new_job_ids(batch).collect();
    let insert = sqlx::query(
        "INSERT INTO bench_raw.job (id, queue_id, kind_id, tenant_id, priority, payload)
         SELECT u.id, 1, 1, 1, 1, u.payload FROM unnest($1::uuid[], $2::text[]) AS u(id, payload)",
    )
    .bind(&ids)
    .bind(vec![PAYLOAD; batch]);
    site.context().pg().await?.hot(OP).execute(insert).await?;
    Ok(ids)
}

async fn consume(site: &Site, jobs: u64) -> Result<(), CommandError> {
    let left = std::sync::atomic::AtomicI64::new(jobs.cast_signed());
    let lanes = (0..LANES).map(|nth| lane(site, nth, &left));
    futures::future::try_join_all(lanes).await.map(drop)
}

/// Read, select, update, acknowledge, until all jobs are done.
async fn lane(
    site: &Site,
    nth: usize,
    left: &std::sync::atomic::AtomicI64,
) -> Result<(), CommandError> {
    use std::sync::atomic::Ordering::Relaxed;
    let redis = site.context().redis().await?;
    let mut conn = redis.connection(OP).await?;
    let mut lent = site.context().pg().await?.hot(OP).await?;
    while left.load(Relaxed) > 0 {
        let (entries, ids) = redis
            .within(OP, read(&mut conn, &stream(site), nth))
            .await?;
        if ids.is_empty() {
            tokio::time::sleep(EMPTY).await;
            continue;
        }
        let done = settle(&mut lent, ids).await?;
        let mut pipe = redis::pipe();
        pipe.xack(stream(site), GROUP, &entries)
            .ignore()
            .xdel(stream(site), &entries)
            .ignore();
        redis.within::<()>(OP, pipe.query_async(&mut conn)).await?;
        left.fetch_sub(done.cast_signed(), Relaxed);
    }
    Ok(())
}

async fn read(
    conn: &mut impl ConnectionLike,
    stream: &str,
    nth: usize,
) -> redis::RedisResult<(Vec<String>, Vec<JobId>)> {
    let mut command = redis::cmd("XREADGROUP");
    command
        .arg("GROUP")
        .arg(GROUP)
        .arg(nth)
        .arg("COUNT")
        .arg(BATCH / CHUNK_JOBS_MAX)
        .arg("STREAMS")
        .arg(stream)
        .arg(">");
    let found: Option<redis::streams::StreamReadReply> = command.query_async(conn).await?;
    let entries = found
        .into_iter()
        .flat_map(|reply| reply.keys)
        .flat_map(|key| key.ids);
    let (mut names, mut ids) = (Vec::new(), Vec::new());
    for entry in entries {
        let fields: HashMap<String, Vec<u8>> = entry
            .map
            .into_iter()
            .filter_map(|(k, v)| Some((k, redis::from_redis_value(v).ok()?)))
            .collect();
        let packed = fields.get("j").map(Vec::as_slice).unwrap_or_default();
        ids.extend(
            packed
                .chunks_exact(16)
                .filter_map(|bytes| JobId::from_slice(bytes).ok()),
        );
        names.push(entry.id);
    }
    Ok((names, ids))
}

/// The claim's SELECT and the settle's guarded UPDATE.
async fn settle(lent: &mut Lent, mut ids: Vec<JobId>) -> Result<u64, Outage> {
    ids.sort_unstable();
    let (first, last) = (ids.first().copied(), ids.last().copied());
    let select = sqlx::query(
        "SELECT id, epoch, kind_id, tenant_id, attempt, max_attempts, payload, enqueued_at, batch_id, trace, schema_version, crash_count
         FROM bench_raw.job WHERE id = ANY($1) AND id BETWEEN $2 AND $3 AND state = 0",
    )
    .bind(&ids)
    .bind(first)
    .bind(last);
    let rows = lent.all(select).await?;
    let now = millstream_common::clock::now();
    let update = sqlx::query(
        "UPDATE bench_raw.job j SET state = 2, attempt = j.attempt + 1, worker_id = 1, finished_at = now(),
           started_at = ($3::timestamptz[])[width_bucket(j.id, $1)], result = ($4::text[])[width_bucket(j.id, $1)]
         WHERE j.id = ANY($1) AND j.id BETWEEN $5 AND $6 AND j.epoch = ($2::int[])[width_bucket(j.id, $1)] AND j.state = 0",
    )
    .bind(&ids)
    .bind(vec![0_i32; ids.len()])
    .bind(vec![now; ids.len()])
    .bind(None::<Vec<Option<String>>>)
    .bind(first)
    .bind(last);
    drop(rows);
    lent.execute(update).await
}
