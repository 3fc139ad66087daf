-- Moves that duties and people make: hand out again, release what is due, cancel, retry now, bury.
-- Each is guarded by state and epoch, and safe to repeat.
--
-- A call that waits for a job's row may have waited for its lease to be granted. A statement that
-- began before does not see that lease: it changed the job, the lease stayed, and the run never
-- heard of it. So a function that changes jobs of others locks them first, in the order of their
-- ids, and changes jobs and leases in later statements. It locks only what it may change: no call
-- waits for a job that is not its own.

-- Hands jobs out again at a new epoch: every recovery path ends here. `p_crash` counts a crash of
-- the worker that had them. Jobs that would have `p_crash_max` crashes are left alone; the caller
-- buries them. `p_leased`: jobs that a worker has leased may be taken from it. Only that worker may
-- say so, or a caller that knows it is dead. Jobs whose epoch or state is no longer the given one
-- are left alone too. The dispatch duty publishes the new parcels.
CREATE FUNCTION millstream.rehand(p_ids uuid[], p_epochs int[], p_crash int,
  p_not_before timestamptz, p_crash_max int, p_leased boolean)
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  PERFORM 1 FROM unnest(p_ids, p_epochs) AS u(i, e)
    JOIN millstream.job j ON j.id = u.i AND j.epoch = u.e
      AND (j.state = 0 OR p_leased AND j.state = 1)
    ORDER BY j.id FOR NO KEY UPDATE OF j;
  RETURN QUERY
  WITH lost AS (
    SELECT * FROM unnest(p_ids, p_epochs) AS u(id, epoch)
  ), again AS (
    UPDATE millstream.job j
    SET state = 0, epoch = j.epoch + 1, crash_count = j.crash_count + p_crash,
        worker_id = NULL, started_at = NULL
    FROM lost l
    WHERE j.id = l.id AND j.epoch = l.epoch AND (j.state = 0 OR p_leased AND j.state = 1)
      AND j.crash_count + p_crash < p_crash_max
    RETURNING j.id, j.epoch, j.queue_id, j.tenant_id, j.kind_id, j.priority
  ), unleased AS (
    DELETE FROM millstream.lease USING again WHERE lease.job_id = again.id
  ), numbered AS (
    SELECT a.*, (row_number() OVER (
      PARTITION BY queue_id, tenant_id, kind_id, priority ORDER BY id) - 1) / 500 AS part
    FROM again a
  ), parcels AS (
    INSERT INTO millstream.parcel (not_before, queue_id, tenant_id, kind_id, priority, chunk, jobs,
                                   epochs, ids)
    SELECT p_not_before, n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, count(*),
           array_agg(n.epoch ORDER BY n.id), array_agg(n.id ORDER BY n.id)
    FROM numbered n JOIN millstream.kind k ON k.id = n.kind_id
    GROUP BY n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, n.part
  )
  SELECT id FROM again;
END $$;

-- Takes available jobs off the parcels that list them at these epochs, so that no backlog counts
-- them. This function locks parcels after jobs; a worker that claims without Redis locks them
-- first. So this function does not wait for that worker, which passes over what is gone.
CREATE FUNCTION millstream.unlist(p_ids uuid[], p_epochs int[])
RETURNS void LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
  v_first uuid := p_ids[1];
  v_last uuid := p_ids[cardinality(p_ids)];
  v_parcels bigint[];
BEGIN
  -- Parcels list ids in order: the two ends show of most of them that they have none of these.
  v_parcels := ARRAY(
    SELECT p.id FROM millstream.parcel p
    WHERE (p.queue_id, p.priority, p.tenant_id, p.kind_id) IN (
        SELECT DISTINCT j.queue_id, j.priority, j.tenant_id, j.kind_id
        FROM millstream.job j WHERE j.id = ANY (p_ids))
      AND p.ids[1] <= v_last AND p.ids[p.jobs] >= v_first
    ORDER BY p.id FOR UPDATE);
  UPDATE millstream.parcel p
  SET ids = l.ids, epochs = CASE WHEN p.epochs IS NOT NULL THEN l.epochs END, jobs = l.jobs,
      taken = l.taken
  FROM (
    SELECT x.id,
           array_agg(u.id ORDER BY u.nth) FILTER (WHERE g.id IS NULL) AS ids,
           array_agg(u.epoch ORDER BY u.nth) FILTER (WHERE g.id IS NULL) AS epochs,
           count(*) FILTER (WHERE g.id IS NULL) AS jobs,
           count(*) FILTER (WHERE g.id IS NULL AND u.nth <= x.taken) AS taken
    FROM millstream.parcel x
    CROSS JOIN LATERAL unnest(x.ids, x.epochs) WITH ORDINALITY AS u(id, epoch, nth)
    LEFT JOIN unnest(p_ids, p_epochs) AS g(id, epoch)
      ON g.id = u.id AND g.epoch = COALESCE(u.epoch, 0)
    WHERE x.id = ANY (v_parcels) GROUP BY x.id
  ) l WHERE p.id = l.id AND l.jobs BETWEEN 1 AND p.jobs - 1;
  DELETE FROM millstream.parcel p WHERE p.id = ANY (v_parcels) AND (
    p.jobs <= p.taken OR p.taken = 0 AND p.jobs <= p.done
    OR NOT EXISTS (
      SELECT 1 FROM unnest(p.ids, p.epochs) AS u(id, epoch)
      WHERE (u.id, COALESCE(u.epoch, 0)) NOT IN (SELECT * FROM unnest(p_ids, p_epochs))));
EXCEPTION WHEN lock_not_available THEN
  NULL;
END $$;

-- Makes jobs available whose time has come, at most p_limit, oldest first. The statement that put
-- them off has raised their epoch.
CREATE FUNCTION millstream.release_due(p_limit int) RETURNS int LANGUAGE sql AS $$
  WITH due AS (
    SELECT id FROM millstream.job WHERE ready_at IS NOT NULL AND ready_at <= now()
    ORDER BY ready_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ), released AS (
    UPDATE millstream.job j SET state = 0, ready_at = NULL FROM due
    WHERE j.id = due.id AND j.state IN (3, 4, 5)
    RETURNING j.id, j.epoch, j.queue_id, j.tenant_id, j.kind_id, j.priority
  ), numbered AS (
    SELECT r.*, (row_number() OVER (
      PARTITION BY queue_id, tenant_id, kind_id, priority ORDER BY id) - 1) / 500 AS part
    FROM released r
  ), parcels AS (
    INSERT INTO millstream.parcel (queue_id, tenant_id, kind_id, priority, chunk, jobs, epochs, ids)
    SELECT n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, count(*),
           array_agg(n.epoch ORDER BY n.id), array_agg(n.id ORDER BY n.id)
    FROM numbered n JOIN millstream.kind k ON k.id = n.kind_id
    GROUP BY n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, n.part
  )
  SELECT count(*)::int FROM released
$$;

-- Cancels jobs that are not final. A running one loses its lease: its worker learns of it at the
-- next beat, and what its handler still returns matches nothing. Jobs that waited leave the
-- backlog. Returns the ids cancelled.
CREATE FUNCTION millstream.cancel(p_ids uuid[], p_actor text)
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
  v_cancelled uuid[];
  v_waited uuid[];
  v_epochs int[];
  v_in_batches uuid[];
BEGIN
  PERFORM 1 FROM millstream.job WHERE id = ANY (p_ids) AND state IN (0, 1, 3, 4, 5, 6)
    ORDER BY id FOR NO KEY UPDATE;
  SELECT array_agg(id ORDER BY id), array_agg(epoch ORDER BY id) INTO v_waited, v_epochs
  FROM millstream.job WHERE id = ANY (p_ids) AND state = 0;
  WITH cancelled AS (
    UPDATE millstream.job SET state = 7, epoch = epoch + 1, ready_at = NULL, finished_at = now()
    WHERE id = ANY (p_ids) AND state IN (0, 1, 3, 4, 5, 6) RETURNING id, batch_id
  )
  SELECT array_agg(id), array_agg(id) FILTER (WHERE batch_id IS NOT NULL)
  INTO v_cancelled, v_in_batches FROM cancelled;
  IF v_cancelled IS NULL THEN
    RETURN;
  END IF;
  DELETE FROM millstream.lease WHERE job_id = ANY (v_cancelled);
  INSERT INTO millstream.audit (actor, action, detail)
  VALUES (p_actor, 'cancel', jsonb_build_object('jobs', to_jsonb(v_cancelled)));
  IF v_waited IS NOT NULL THEN
    PERFORM millstream.unlist(v_waited, v_epochs);
  END IF;
  IF v_in_batches IS NOT NULL THEN
    PERFORM millstream.count_failed(v_in_batches);
  END IF;
  RETURN QUERY SELECT unnest(v_cancelled);
END $$;

-- Makes jobs available at once: those put off (scheduled, retryable, rate limited), and dead ones,
-- whose attempts start anew; one that had crashed stays isolated. The history of errors stays.
-- Returns the ids moved.
CREATE FUNCTION millstream.retry_now(p_ids uuid[], p_actor text)
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_in_batches uuid[];
BEGIN
  PERFORM 1 FROM millstream.job WHERE id = ANY (p_ids) AND state IN (3, 4, 5, 8)
    ORDER BY id FOR NO KEY UPDATE;
  v_in_batches := ARRAY(
    SELECT id FROM millstream.job WHERE id = ANY (p_ids) AND state = 8 AND batch_id IS NOT NULL);
  RETURN QUERY
  WITH moved AS (
    UPDATE millstream.job j
    SET state = 0, epoch = j.epoch + 1, ready_at = NULL, finished_at = NULL,
        attempt = CASE WHEN j.state = 8 THEN 0 ELSE j.attempt END,
        crash_count = CASE WHEN j.state = 8 THEN LEAST(j.crash_count, 1) ELSE j.crash_count END
    WHERE j.id = ANY (p_ids) AND j.state IN (3, 4, 5, 8)
    RETURNING j.id, j.epoch, j.queue_id, j.tenant_id, j.kind_id, j.priority
  ), risen AS (
    DELETE FROM millstream.dead_letter USING moved WHERE dead_letter.job_id = moved.id
  ), numbered AS (
    SELECT m.*, (row_number() OVER (
      PARTITION BY queue_id, tenant_id, kind_id, priority ORDER BY id) - 1) / 500 AS part
    FROM moved m
  ), parcels AS (
    INSERT INTO millstream.parcel (queue_id, tenant_id, kind_id, priority, chunk, jobs, epochs, ids)
    SELECT n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, count(*),
           array_agg(n.epoch ORDER BY n.id), array_agg(n.id ORDER BY n.id)
    FROM numbered n JOIN millstream.kind k ON k.id = n.kind_id
    GROUP BY n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, n.part
  ), audited AS (
    INSERT INTO millstream.audit (actor, action, detail)
    SELECT p_actor, 'retry', jsonb_build_object('jobs', jsonb_agg(id))
    FROM moved HAVING count(*) > 0
  )
  SELECT id FROM moved;
  IF v_in_batches <> '{}' THEN
    PERFORM millstream.count_back(v_in_batches);
  END IF;
END $$;

-- Buries jobs: dead, with a dead letter. Recovery uses it for jobs that crashed too many workers.
CREATE FUNCTION millstream.bury(p_ids uuid[], p_epochs int[], p_reason text, p_error text)
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_in_batches uuid[];
BEGIN
  PERFORM 1 FROM unnest(p_ids, p_epochs) AS u(i, e)
    JOIN millstream.job j ON j.id = u.i AND j.epoch = u.e AND j.state IN (0, 1)
    ORDER BY j.id FOR NO KEY UPDATE OF j;
  v_in_batches := ARRAY(
    SELECT j.id FROM unnest(p_ids, p_epochs) AS u(i, e)
    JOIN millstream.job j ON j.id = u.i AND j.epoch = u.e AND j.state IN (0, 1)
    WHERE j.batch_id IS NOT NULL);
  RETURN QUERY
  WITH lost AS (
    SELECT * FROM unnest(p_ids, p_epochs) AS u(id, epoch)
  ), buried AS (
    UPDATE millstream.job j
    SET state = 8, epoch = j.epoch + 1, finished_at = now(), error = p_error,
        crash_count = j.crash_count + (p_reason = 'crash')::int
    FROM lost l WHERE j.id = l.id AND j.epoch = l.epoch AND j.state IN (0, 1)
    RETURNING j.id, j.queue_id, j.kind_id, j.tenant_id
  ), unleased AS (
    DELETE FROM millstream.lease USING buried WHERE lease.job_id = buried.id
  ), letters AS (
    INSERT INTO millstream.dead_letter (job_id, queue_id, kind_id, tenant_id, reason, error)
    SELECT id, queue_id, kind_id, tenant_id, p_reason, p_error FROM buried
    ON CONFLICT (job_id) DO NOTHING
  )
  SELECT id FROM buried;
  IF v_in_batches <> '{}' THEN
    PERFORM millstream.count_failed(v_in_batches);
  END IF;
END $$;
