//! What a bench that ended early leaves behind: unfinished jobs, workers that nobody has seen the end of, keys. Removed before the next
//! one begins and when one ends; the queue `bench` and workers that serve nothing else are the bench's own.

use super::{super::CommandError, site::Site};

/// Parcels whose jobs are ended in one statement: at most 50,000 jobs.
const STEP: &str = "WITH gone AS (DELETE FROM millstream.parcel WHERE id IN (
                      SELECT p.id FROM millstream.parcel p JOIN millstream.queue q ON q.id = p.queue_id WHERE q.name = 'bench' LIMIT 100) RETURNING ids),
                    ended AS (UPDATE millstream.job SET state = 7, finished_at = now()
                      WHERE id = ANY(ARRAY(SELECT unnest(ids) FROM gone)) AND state = 0)
                    SELECT count(*) FROM gone";
const LEASED: &str = "WITH gone AS (DELETE FROM millstream.lease l USING millstream.worker w WHERE w.id = l.worker_id
                        AND w.queues = ARRAY(SELECT id FROM millstream.queue WHERE name = 'bench') RETURNING l.job_id)
                      UPDATE millstream.job SET state = 7, finished_at = now() WHERE id = ANY(ARRAY(SELECT job_id FROM gone)) AND state = 1";
/// Those that have shown no sign of life for long enough, or, of a bench that ends, all.
const WORKERS: &str = "UPDATE millstream.worker w SET state = 'stopped', ended_at = now() WHERE state IN ('active', 'paused', 'draining')
                         AND queues = ARRAY(SELECT id FROM millstream.queue WHERE name = 'bench')
                         AND NOT EXISTS (SELECT 1 FROM millstream.worker_beat b WHERE b.worker_id = w.id AND b.beat_at > now() - w.lease_ms * interval '3 milliseconds')";
const OWN_WORKERS: &str = "UPDATE millstream.worker SET state = 'stopped', ended_at = now() WHERE state IN ('active', 'paused', 'draining')
                             AND queues = ARRAY(SELECT id FROM millstream.queue WHERE name = 'bench')";

/// Workers of an earlier bench that nobody has seen the end of.
pub(super) async fn workers(site: &Site) -> Result<(), CommandError> {
    site.execute(WORKERS).await
}

/// Everything, when no worker of a bench is there any more. The schema last: it says which keys there were.
pub(super) async fn all(site: &Site) -> Result<(), CommandError> {
    site.execute(OWN_WORKERS).await?;
    jobs(site).await?;
    keys(site).await?;
    site.execute("DROP SCHEMA IF EXISTS bench_raw CASCADE")
        .await
}

/// Nobody is to work on what is left in the queue.
pub(super) async fn jobs(site: &Site) -> Result<(), CommandError> {
    site.execute(LEASED).await?;
    while site.number(STEP).await? > 0 {}
    Ok(())
}

/// The keys of this bench, or of the one whose schema is still there.
async fn keys(site: &Site) -> Result<(), CommandError> {
    let op = "removing the keys of the bench";
    let redis = site.context().redis().await?;
    let mut conn = redis.connection(op).await?;
    for prefix in prefixes(site).await? {
        let mut cursor = 0_u64;
        loop {
            let scan = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{prefix}:*"))
                .arg("COUNT")
                .arg(1000)
                .to_owned();
            let (next, mut keys): (u64, Vec<String>) =
                redis.within(op, scan.query_async(&mut conn)).await?;
            keys.retain(|key| is_of(key, &prefix));
            if !keys.is_empty() {
                redis
                    .within(op, redis::cmd("UNLINK").arg(keys).exec_async(&mut conn))
                    .await?;
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
    }
    Ok(())
}

/// Of others nobody can say whether they are in use: another database may share this Redis.
async fn prefixes(site: &Site) -> Result<Vec<String>, CommandError> {
    let mut prefixes = vec![site.context().config.redis.prefix.clone()];
    if site
        .number("SELECT (to_regclass('bench_raw.keys') IS NOT NULL)::int::bigint")
        .await?
        > 0
    {
        let query = sqlx::query_scalar("SELECT prefix FROM bench_raw.keys");
        let pg = site.context().pg().await?;
        let earlier: Vec<String> = pg.main("asking which keys a bench had").all(query).await?;
        prefixes.extend(earlier);
    }
    Ok(prefixes)
}

fn is_of(key: &str, prefix: &str) -> bool {
    key.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_others_that_look_similar_are_left_alone() {
        assert!(
            is_of("bench-17:window:bench", "bench-17")
                && is_of("bench-17:{0a1b:q:bench}:x", "bench-17")
        );
        assert!(
            !is_of("mybench-17:x", "bench-17")
                && !is_of("bench-170:x", "bench-17")
                && !is_of("bench-17", "bench-17")
        );
    }
}
