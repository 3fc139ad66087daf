-- What operators are told of a job, and what a role may do that keeps house without owning the tables.

-- Every line has the try that wrote it. Older programs leave it null.
ALTER TABLE millstream.job_log ADD COLUMN attempt smallint;

-- Jobs as people and other languages see them. As before, but: a completed job shows no error of a try before, which stays in its history; and the
-- number of the try is that of the one that runs, or ran last: 0 says that none has begun.
CREATE OR REPLACE VIEW millstream.job_view AS
SELECT j.id, k.name::text AS kind, q.name::text AS queue,
       (ARRAY['high', 'medium', 'low'])[j.priority + 1] AS priority,
       (ARRAY['available', 'running', 'completed', 'scheduled', 'retryable', 'rate_limited', 'waiting', 'cancelled', 'dead'])[j.state + 1] AS state,
       millstream.as_json(j.payload) AS payload, millstream.as_json(j.metadata) AS metadata, t.name::text AS tenant, j.batch_id,
       j.attempt + (j.state = 1)::int AS attempt, j.max_attempts::int, j.epoch, j.crash_count::int, j.schema_version::int,
       j.ready_at AS run_at, j.deadline_at, j.enqueued_at, j.started_at, j.finished_at,
       w.name AS worker, CASE WHEN j.state = 2 THEN 1 ELSE l.progress END AS progress, l.progress_note,
       j.tokens_estimated, j.tokens_actual, j.cost_micros, j.trace,
       millstream.as_json(j.result) AS result, CASE WHEN j.state <> 2 THEN j.error END AS error
FROM millstream.job j
JOIN millstream.kind k ON k.id = j.kind_id
JOIN millstream.queue q ON q.id = j.queue_id
JOIN millstream.tenant t ON t.id = j.tenant_id
LEFT JOIN millstream.lease l ON l.job_id = j.id
LEFT JOIN millstream.worker w ON w.id = COALESCE(l.worker_id, j.worker_id);

-- Failed tries as people see them, numbered from 1: a rate limit, an outage or a crash happens during a try and does not use it up.
-- A server that is away counts only after a day: then the number of tries has risen.
CREATE VIEW millstream.job_error_view AS
SELECT e.job_id, e.epoch, e.attempt + (NOT c.counted)::int AS attempt, c.counted, e.class, e.at, w.name AS worker, e.message
FROM (
  SELECT job_id, epoch, attempt::int AS attempt, class, at, worker_id, message,
         COALESCE(lag(attempt) OVER (PARTITION BY job_id ORDER BY epoch), 0) AS attempts_before
  FROM millstream.job_error
) e
CROSS JOIN LATERAL (
  SELECT e.class NOT IN ('rate_limited', 'crash', 'cancelled') AND (e.class <> 'unavailable' OR e.attempt > e.attempts_before) AS counted
) c
LEFT JOIN millstream.worker w ON w.id = e.worker_id;

-- Partitions are made, sealed and dropped with the rights of their owner. So whoever keeps house needs the right to call, and owns nothing;
-- and nobody has that right unless it was granted, for a call can remove a day of jobs.
ALTER FUNCTION millstream.ensure_partitions(int) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION millstream.seal_day(date) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION millstream.unseal_day(date) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION millstream.drop_day(date, uuid[], text) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION millstream.ensure_partitions(int), millstream.seal_day(date), millstream.unseal_day(date),
  millstream.drop_day(date, uuid[], text) FROM PUBLIC;
