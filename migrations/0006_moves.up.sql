-- Moves that people and duties make: due, cancel, retry now, redrive. Each is one guarded statement, safe to repeat.

CREATE TABLE millstream.audit (
  id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at     timestamptz NOT NULL DEFAULT now(),
  actor  text NOT NULL,
  action text NOT NULL,
  detail jsonb NOT NULL
);

-- Makes jobs available whose time has come, at most p_limit, oldest first. The epoch was raised when they were put off.
CREATE FUNCTION millstream.release_due(p_limit int) RETURNS int LANGUAGE sql AS $$
  WITH due AS (
    SELECT id FROM millstream.job WHERE ready_at IS NOT NULL AND ready_at <= now()
    ORDER BY ready_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ), released AS (
    UPDATE millstream.job j SET state = 0, ready_at = NULL FROM due
    WHERE j.id = due.id AND j.state IN (3, 4, 5)
    RETURNING j.id, j.epoch, j.queue_id, j.tenant_id, j.kind_id, j.priority
  ), numbered AS (
    SELECT r.*, (row_number() OVER (PARTITION BY queue_id, tenant_id, kind_id, priority ORDER BY id) - 1) / 500 AS part FROM released r
  ), parcels AS (
    INSERT INTO millstream.parcel (queue_id, tenant_id, kind_id, priority, chunk, jobs, epochs, ids)
    SELECT n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, count(*), array_agg(n.epoch ORDER BY n.id), array_agg(n.id ORDER BY n.id)
    FROM numbered n JOIN millstream.kind k ON k.id = n.kind_id
    GROUP BY n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, n.part
  )
  SELECT count(*)::int FROM released
$$;

-- Cancels jobs that are not final. A running one loses its lease: its worker is told at the next beat, and whatever its
-- handler still returns matches nothing. Returns the ids cancelled.
CREATE FUNCTION millstream.cancel(p_ids uuid[], p_actor text) RETURNS SETOF uuid LANGUAGE sql AS $$
  WITH cancelled AS (
    UPDATE millstream.job SET state = 7, epoch = epoch + 1, ready_at = NULL, finished_at = now()
    WHERE id = ANY(p_ids) AND state IN (0, 1, 3, 4, 5, 6) RETURNING id
  ), unleased AS (
    DELETE FROM millstream.lease USING cancelled WHERE lease.job_id = cancelled.id
  ), audited AS (
    INSERT INTO millstream.audit (actor, action, detail)
    SELECT p_actor, 'cancel', jsonb_build_object('jobs', jsonb_agg(id)) FROM cancelled HAVING count(*) > 0
  )
  SELECT id FROM cancelled
$$;

-- Makes jobs available at once: those put off (scheduled, retryable, rate limited), and dead ones, whose attempts start
-- anew. The history of errors stays. Returns the ids moved.
CREATE FUNCTION millstream.retry_now(p_ids uuid[], p_actor text) RETURNS SETOF uuid LANGUAGE sql AS $$
  WITH moved AS (
    UPDATE millstream.job j SET state = 0, epoch = j.epoch + 1, ready_at = NULL, finished_at = NULL,
      attempt = CASE WHEN j.state = 8 THEN 0 ELSE j.attempt END, crash_count = CASE WHEN j.state = 8 THEN 0 ELSE j.crash_count END
    WHERE j.id = ANY(p_ids) AND j.state IN (3, 4, 5, 8)
    RETURNING j.id, j.epoch, j.queue_id, j.tenant_id, j.kind_id, j.priority
  ), risen AS (
    DELETE FROM millstream.dead_letter USING moved WHERE dead_letter.job_id = moved.id
  ), numbered AS (
    SELECT m.*, (row_number() OVER (PARTITION BY queue_id, tenant_id, kind_id, priority ORDER BY id) - 1) / 500 AS part FROM moved m
  ), parcels AS (
    INSERT INTO millstream.parcel (queue_id, tenant_id, kind_id, priority, chunk, jobs, epochs, ids)
    SELECT n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, count(*), array_agg(n.epoch ORDER BY n.id), array_agg(n.id ORDER BY n.id)
    FROM numbered n JOIN millstream.kind k ON k.id = n.kind_id
    GROUP BY n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, n.part
  ), audited AS (
    INSERT INTO millstream.audit (actor, action, detail)
    SELECT p_actor, 'retry', jsonb_build_object('jobs', jsonb_agg(id)) FROM moved HAVING count(*) > 0
  )
  SELECT id FROM moved
$$;

-- Buries jobs: dead, with a dead letter. Used by recovery for jobs that crashed too many workers.
CREATE FUNCTION millstream.bury(p_ids uuid[], p_epochs int[], p_reason text, p_error text) RETURNS SETOF uuid LANGUAGE sql AS $$
  WITH lost AS (
    SELECT * FROM unnest(p_ids, p_epochs) AS u(id, epoch)
  ), buried AS (
    UPDATE millstream.job j SET state = 8, epoch = j.epoch + 1, finished_at = now(), error = p_error,
      crash_count = j.crash_count + (p_reason = 'crash')::int
    FROM lost l WHERE j.id = l.id AND j.epoch = l.epoch AND j.state IN (0, 1)
    RETURNING j.id, j.queue_id, j.kind_id, j.tenant_id
  ), unleased AS (
    DELETE FROM millstream.lease USING buried WHERE lease.job_id = buried.id
  ), letters AS (
    INSERT INTO millstream.dead_letter (job_id, queue_id, kind_id, tenant_id, reason, error)
    SELECT id, queue_id, kind_id, tenant_id, p_reason, p_error FROM buried ON CONFLICT (job_id) DO NOTHING
  )
  SELECT id FROM buried
$$;
