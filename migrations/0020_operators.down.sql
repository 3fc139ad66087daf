-- Back to views and rights as they were. Log lines lose the number of their try.
GRANT EXECUTE ON FUNCTION millstream.ensure_partitions(int), millstream.seal_day(date), millstream.unseal_day(date),
  millstream.drop_day(date, uuid[], text) TO PUBLIC;
ALTER FUNCTION millstream.drop_day(date, uuid[], text) SECURITY INVOKER RESET search_path;
ALTER FUNCTION millstream.unseal_day(date) SECURITY INVOKER RESET search_path;
ALTER FUNCTION millstream.seal_day(date) SECURITY INVOKER RESET search_path;
ALTER FUNCTION millstream.ensure_partitions(int) SECURITY INVOKER RESET search_path;
DROP VIEW millstream.job_error_view;
CREATE OR REPLACE VIEW millstream.job_view AS
SELECT j.id, k.name::text AS kind, q.name::text AS queue,
       (ARRAY['high', 'medium', 'low'])[j.priority + 1] AS priority,
       (ARRAY['available', 'running', 'completed', 'scheduled', 'retryable', 'rate_limited', 'waiting', 'cancelled', 'dead'])[j.state + 1] AS state,
       millstream.as_json(j.payload) AS payload, millstream.as_json(j.metadata) AS metadata, t.name::text AS tenant, j.batch_id,
       j.attempt::int, j.max_attempts::int, j.epoch, j.crash_count::int, j.schema_version::int,
       j.ready_at AS run_at, j.deadline_at, j.enqueued_at, j.started_at, j.finished_at,
       w.name AS worker, CASE WHEN j.state = 2 THEN 1 ELSE l.progress END AS progress, l.progress_note,
       j.tokens_estimated, j.tokens_actual, j.cost_micros, j.trace,
       millstream.as_json(j.result) AS result, j.error
FROM millstream.job j
JOIN millstream.kind k ON k.id = j.kind_id
JOIN millstream.queue q ON q.id = j.queue_id
JOIN millstream.tenant t ON t.id = j.tenant_id
LEFT JOIN millstream.lease l ON l.job_id = j.id
LEFT JOIN millstream.worker w ON w.id = COALESCE(l.worker_id, j.worker_id);
ALTER TABLE millstream.job_log DROP COLUMN attempt;
