-- May this job go now? One rule for all who hand out or take jobs, asked once per statement; and moves that leave neither a lease nor a count behind.

-- Of the names few are paused, if any, and of tenants there may be many.
CREATE INDEX queue_paused ON millstream.queue (id) WHERE paused;
CREATE INDEX kind_paused ON millstream.kind (id) WHERE paused;
CREATE INDEX tenant_paused ON millstream.tenant (id) WHERE paused;

-- What may not start now. One row: joined to a statement, each array is made once, and compared with every row of it. A job may not go if
-- its queue, its kind or its tenant is in there.
CREATE VIEW millstream.closed AS SELECT
  ARRAY(SELECT id FROM millstream.queue WHERE paused) AS queues,
  ARRAY(SELECT id FROM millstream.kind WHERE paused) AS kinds,
  ARRAY(SELECT id FROM millstream.tenant WHERE paused) AS tenants;

-- The kinds of that queue which some active worker runs.
CREATE FUNCTION millstream.served_kinds(p_queue int) RETURNS int[] LANGUAGE sql STABLE AS $$
  SELECT ARRAY(SELECT DISTINCT k.id FROM millstream.worker w, unnest(w.kinds) AS k(id) WHERE w.state = 'active' AND p_queue = ANY (w.queues))
$$;

-- Whether a parcel's rest is over. One that ends far ahead was written before the clock of Postgres was set back.
CREATE FUNCTION millstream.has_rested(p_not_before timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT p_not_before IS NULL OR p_not_before NOT BETWEEN now() AND now() + interval '1 minute'
$$;

-- Who waits for a job's row may have waited for its lease to be granted, which a statement that began before does not see: then the job was
-- changed, its lease stayed, and its run was never told. So all who change jobs that others may have lock them first, in the order of their ids,
-- and change jobs and leases in later statements. They lock what they may change and nothing else: nobody waits for a job that is not his.

-- As before, but for the lock.
CREATE OR REPLACE FUNCTION millstream.rehand(p_ids uuid[], p_epochs int[], p_crash int, p_not_before timestamptz, p_crash_max int, p_leased boolean)
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  PERFORM 1 FROM unnest(p_ids, p_epochs) AS u(i, e) JOIN millstream.job j ON j.id = u.i AND j.epoch = u.e AND (j.state = 0 OR p_leased AND j.state = 1)
    ORDER BY j.id FOR NO KEY UPDATE OF j;
  RETURN QUERY
  WITH lost AS (
    SELECT * FROM unnest(p_ids, p_epochs) AS u(id, epoch)
  ), again AS (
    UPDATE millstream.job j
    SET state = 0, epoch = j.epoch + 1, crash_count = j.crash_count + p_crash, worker_id = NULL, started_at = NULL
    FROM lost l
    WHERE j.id = l.id AND j.epoch = l.epoch AND (j.state = 0 OR p_leased AND j.state = 1) AND j.crash_count + p_crash < p_crash_max
    RETURNING j.id, j.epoch, j.queue_id, j.tenant_id, j.kind_id, j.priority
  ), unleased AS (
    DELETE FROM millstream.lease USING again WHERE lease.job_id = again.id
  ), numbered AS (
    SELECT a.*, (row_number() OVER (PARTITION BY queue_id, tenant_id, kind_id, priority ORDER BY id) - 1) / 500 AS part FROM again a
  ), parcels AS (
    INSERT INTO millstream.parcel (not_before, queue_id, tenant_id, kind_id, priority, chunk, jobs, epochs, ids)
    SELECT p_not_before, n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, count(*),
           array_agg(n.epoch ORDER BY n.id), array_agg(n.id ORDER BY n.id)
    FROM numbered n JOIN millstream.kind k ON k.id = n.kind_id
    GROUP BY n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, n.part
  )
  SELECT id FROM again;
END $$;

-- Takes available jobs off the parcels that list them at these epochs, so that no backlog counts them. Parcels are locked after jobs here and
-- before them by a worker that claims without Redis: it is not waited for, since it passes over what is gone.
CREATE FUNCTION millstream.unlist(p_ids uuid[], p_epochs int[]) RETURNS void LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
  v_first uuid := p_ids[1];
  v_last uuid := p_ids[cardinality(p_ids)];
  v_parcels bigint[];
BEGIN
  -- The lists of parcels are in the order of their ids: most are seen at both ends to have none of these.
  v_parcels := ARRAY(
    SELECT p.id FROM millstream.parcel p
    WHERE (p.queue_id, p.priority, p.tenant_id, p.kind_id) IN (
        SELECT DISTINCT j.queue_id, j.priority, j.tenant_id, j.kind_id FROM millstream.job j WHERE j.id = ANY (p_ids))
      AND p.ids[1] <= v_last AND p.ids[p.jobs] >= v_first
    ORDER BY p.id FOR UPDATE);
  UPDATE millstream.parcel p SET ids = l.ids, epochs = CASE WHEN p.epochs IS NOT NULL THEN l.epochs END, jobs = l.jobs, taken = l.taken
  FROM (
    SELECT x.id, array_agg(u.id ORDER BY u.nth) FILTER (WHERE g.id IS NULL) AS ids, array_agg(u.epoch ORDER BY u.nth) FILTER (WHERE g.id IS NULL) AS epochs,
           count(*) FILTER (WHERE g.id IS NULL) AS jobs, count(*) FILTER (WHERE g.id IS NULL AND u.nth <= x.taken) AS taken
    FROM millstream.parcel x CROSS JOIN LATERAL unnest(x.ids, x.epochs) WITH ORDINALITY AS u(id, epoch, nth)
    LEFT JOIN unnest(p_ids, p_epochs) AS g(id, epoch) ON g.id = u.id AND g.epoch = COALESCE(u.epoch, 0)
    WHERE x.id = ANY (v_parcels) GROUP BY x.id
  ) l WHERE p.id = l.id AND l.jobs BETWEEN 1 AND p.jobs - 1;
  DELETE FROM millstream.parcel p WHERE p.id = ANY (v_parcels) AND (
    p.jobs <= p.taken OR p.taken = 0 AND p.jobs <= p.done
    OR NOT EXISTS (SELECT 1 FROM unnest(p.ids, p.epochs) AS u(id, epoch) WHERE (u.id, COALESCE(u.epoch, 0)) NOT IN (SELECT * FROM unnest(p_ids, p_epochs))));
EXCEPTION WHEN lock_not_available THEN
  NULL;
END $$;

-- Cancels jobs that are not final. A running one loses its lease: its worker is told at the next beat, and whatever its
-- handler still returns matches nothing. Those that waited leave the backlog. Returns the ids cancelled.
CREATE OR REPLACE FUNCTION millstream.cancel(p_ids uuid[], p_actor text) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
  v_cancelled uuid[];
  v_waited uuid[];
  v_epochs int[];
BEGIN
  PERFORM 1 FROM millstream.job WHERE id = ANY (p_ids) AND state IN (0, 1, 3, 4, 5, 6) ORDER BY id FOR NO KEY UPDATE;
  SELECT array_agg(id ORDER BY id), array_agg(epoch ORDER BY id) INTO v_waited, v_epochs FROM millstream.job WHERE id = ANY (p_ids) AND state = 0;
  WITH cancelled AS (
    UPDATE millstream.job SET state = 7, epoch = epoch + 1, ready_at = NULL, finished_at = now()
    WHERE id = ANY (p_ids) AND state IN (0, 1, 3, 4, 5, 6) RETURNING id
  )
  SELECT array_agg(id) INTO v_cancelled FROM cancelled;
  IF v_cancelled IS NULL THEN
    RETURN;
  END IF;
  DELETE FROM millstream.lease WHERE job_id = ANY (v_cancelled);
  INSERT INTO millstream.audit (actor, action, detail) VALUES (p_actor, 'cancel', jsonb_build_object('jobs', to_jsonb(v_cancelled)));
  IF v_waited IS NOT NULL THEN
    PERFORM millstream.unlist(v_waited, v_epochs);
  END IF;
  RETURN QUERY SELECT unnest(v_cancelled);
END $$;

-- As before, but for the lock.
CREATE OR REPLACE FUNCTION millstream.retry_now(p_ids uuid[], p_actor text) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  PERFORM 1 FROM millstream.job WHERE id = ANY (p_ids) AND state IN (3, 4, 5, 8) ORDER BY id FOR NO KEY UPDATE;
  RETURN QUERY
  WITH moved AS (
    UPDATE millstream.job j SET state = 0, epoch = j.epoch + 1, ready_at = NULL, finished_at = NULL,
      attempt = CASE WHEN j.state = 8 THEN 0 ELSE j.attempt END, crash_count = CASE WHEN j.state = 8 THEN 0 ELSE j.crash_count END
    WHERE j.id = ANY (p_ids) AND j.state IN (3, 4, 5, 8)
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
  SELECT id FROM moved;
END $$;

-- As before, but for the lock.
CREATE OR REPLACE FUNCTION millstream.bury(p_ids uuid[], p_epochs int[], p_reason text, p_error text) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  PERFORM 1 FROM unnest(p_ids, p_epochs) AS u(i, e) JOIN millstream.job j ON j.id = u.i AND j.epoch = u.e AND j.state IN (0, 1)
    ORDER BY j.id FOR NO KEY UPDATE OF j;
  RETURN QUERY
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
  SELECT id FROM buried;
END $$;

-- The two functions that write jobs: a parcel is promised to the stream only if its jobs may go now.
CREATE OR REPLACE FUNCTION millstream.persist(
  p_ids uuid[], p_queues int[], p_kinds int[], p_tenants int[], p_priorities smallint[], p_payloads text[],
  p_max_attempts smallint[], p_ready_at timestamptz[], p_keys text[], p_metadata text[], p_traces text[],
  p_stages bigint[], p_publish boolean, p_versions smallint[]
) RETURNS TABLE (parcel_id bigint, queue_id int, priority smallint, chunk smallint, publishing boolean, ids uuid[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  IF p_keys IS NOT NULL THEN
    -- A scalar subquery is not made into a join, so no plan reads all jobs. Key and job are written together: who sees the one sees the other.
    DELETE FROM millstream.job_key d USING (
      SELECT o.tenant_id, o.key, o.job_id FROM unnest(p_tenants, p_keys) AS u(t, k) JOIN millstream.job_key o ON o.tenant_id = u.t AND o.key = u.k
      WHERE (SELECT true FROM millstream.job j WHERE j.id = o.job_id) IS NULL
      ORDER BY o.tenant_id, o.key FOR UPDATE OF o
    ) AS l WHERE d.tenant_id = l.tenant_id AND d.key = l.key AND d.job_id = l.job_id;
    INSERT INTO millstream.job_key (tenant_id, key, job_id, payload_hash)
    -- Hashed in jsonb's normal form: the same payload has the same hash through every door.
    SELECT t, k, i, sha256(convert_to(pl::jsonb::text, 'UTF8'))
    FROM unnest(p_tenants, p_keys, p_ids, p_payloads) AS u(t, k, i, pl)
    WHERE k IS NOT NULL
    ORDER BY t, k                     -- one lock order for all callers
    ON CONFLICT DO NOTHING;
  END IF;
  RETURN QUERY
  WITH kinds AS MATERIALIZED (
    -- Few: compared in memory, instead of one look into an index for every job.
    SELECT id, max_attempts, chunk FROM millstream.kind WHERE id = ANY (p_kinds)
  ), asked AS (
    -- Whether a time has come is decided here, not by the caller's clock.
    SELECT id, queue_id, kind_id, tenant_id, priority, payload, max_attempts,
           CASE WHEN ready_at > now() THEN ready_at END AS ready_at, key, metadata, trace, stage_id, version
    FROM unnest(p_ids, p_queues, p_kinds, p_tenants, p_priorities, p_payloads, p_max_attempts, p_ready_at, p_keys,
                p_metadata, p_traces, p_stages, p_versions)
      AS u(id, queue_id, kind_id, tenant_id, priority, payload, max_attempts, ready_at, key, metadata, trace, stage_id, version)
  ), added AS (
    INSERT INTO millstream.job (id, queue_id, kind_id, tenant_id, priority, state, ready_at, payload, max_attempts,
                                metadata, trace, stage_id, schema_version)
    SELECT a.id, a.queue_id, a.kind_id, a.tenant_id, a.priority, CASE WHEN a.ready_at IS NULL THEN 0 ELSE 3 END,
           a.ready_at, a.payload, COALESCE(a.max_attempts, k.max_attempts), a.metadata, a.trace, a.stage_id, COALESCE(a.version, 1)
    FROM asked a JOIN kinds k ON k.id = a.kind_id
    WHERE a.key IS NULL OR EXISTS (
      SELECT 1 FROM millstream.job_key o WHERE o.tenant_id = a.tenant_id AND o.key = a.key AND o.job_id = a.id)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, queue_id, kind_id, tenant_id, priority, ready_at
  ), grouped AS (
    SELECT queue_id, tenant_id, kind_id, priority, count(*) AS jobs, array_agg(id ORDER BY id) AS ids
    FROM added WHERE ready_at IS NULL GROUP BY queue_id, tenant_id, kind_id, priority
  ), parcels AS (
    INSERT INTO millstream.parcel (publishing_since, queue_id, tenant_id, kind_id, priority, chunk, jobs, ids)
    SELECT CASE WHEN p_publish AND NOT (g.queue_id = ANY (c.queues) OR g.kind_id = ANY (c.kinds) OR g.tenant_id = ANY (c.tenants)) THEN now() END,
           g.queue_id, g.tenant_id, g.kind_id, g.priority, k.chunk, g.jobs, g.ids
    FROM grouped g JOIN kinds k ON k.id = g.kind_id CROSS JOIN millstream.closed c
    RETURNING id, queue_id, priority, chunk, publishing_since IS NOT NULL AS publishing, ids
  )
  SELECT p.id, p.queue_id, p.priority, p.chunk, p.publishing, p.ids FROM parcels p
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, false, array_agg(a.id) FROM added a WHERE a.ready_at IS NOT NULL HAVING count(*) > 0;
END $$;

-- The same for jobs with new ids, which need no look for a row that is there already.
CREATE OR REPLACE FUNCTION millstream.persist_fresh(
  p_ids uuid[], p_queues int[], p_kinds int[], p_tenants int[], p_priorities smallint[], p_payloads text[],
  p_max_attempts smallint[], p_ready_at timestamptz[], p_keys text[], p_metadata text[], p_traces text[],
  p_stages bigint[], p_publish boolean, p_versions smallint[]
) RETURNS TABLE (parcel_id bigint, queue_id int, priority smallint, chunk smallint, publishing boolean, ids uuid[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  IF p_keys IS NOT NULL THEN
    -- A scalar subquery is not made into a join, so no plan reads all jobs. Key and job are written together: who sees the one sees the other.
    DELETE FROM millstream.job_key d USING (
      SELECT o.tenant_id, o.key, o.job_id FROM unnest(p_tenants, p_keys) AS u(t, k) JOIN millstream.job_key o ON o.tenant_id = u.t AND o.key = u.k
      WHERE (SELECT true FROM millstream.job j WHERE j.id = o.job_id) IS NULL
      ORDER BY o.tenant_id, o.key FOR UPDATE OF o
    ) AS l WHERE d.tenant_id = l.tenant_id AND d.key = l.key AND d.job_id = l.job_id;
    INSERT INTO millstream.job_key (tenant_id, key, job_id, payload_hash)
    -- Hashed in jsonb's normal form: the same payload has the same hash through every door.
    SELECT t, k, i, sha256(convert_to(pl::jsonb::text, 'UTF8'))
    FROM unnest(p_tenants, p_keys, p_ids, p_payloads) AS u(t, k, i, pl)
    WHERE k IS NOT NULL
    ORDER BY t, k                     -- one lock order for all callers
    ON CONFLICT DO NOTHING;
  END IF;
  RETURN QUERY
  WITH kinds AS MATERIALIZED (
    -- Few: compared in memory, instead of one look into an index for every job.
    SELECT id, max_attempts, chunk FROM millstream.kind WHERE id = ANY (p_kinds)
  ), asked AS (
    -- Whether a time has come is decided here, not by the caller's clock.
    SELECT id, queue_id, kind_id, tenant_id, priority, payload, max_attempts,
           CASE WHEN ready_at > now() THEN ready_at END AS ready_at, key, metadata, trace, stage_id, version
    FROM unnest(p_ids, p_queues, p_kinds, p_tenants, p_priorities, p_payloads, p_max_attempts, p_ready_at, p_keys,
                p_metadata, p_traces, p_stages, p_versions)
      AS u(id, queue_id, kind_id, tenant_id, priority, payload, max_attempts, ready_at, key, metadata, trace, stage_id, version)
  ), added AS (
    INSERT INTO millstream.job (id, queue_id, kind_id, tenant_id, priority, state, ready_at, payload, max_attempts,
                                metadata, trace, stage_id, schema_version)
    SELECT a.id, a.queue_id, a.kind_id, a.tenant_id, a.priority, CASE WHEN a.ready_at IS NULL THEN 0 ELSE 3 END,
           a.ready_at, a.payload, COALESCE(a.max_attempts, k.max_attempts), a.metadata, a.trace, a.stage_id, COALESCE(a.version, 1)
    FROM asked a JOIN kinds k ON k.id = a.kind_id
    WHERE a.key IS NULL OR EXISTS (
      SELECT 1 FROM millstream.job_key o WHERE o.tenant_id = a.tenant_id AND o.key = a.key AND o.job_id = a.id)
    RETURNING id, queue_id, kind_id, tenant_id, priority, ready_at
  ), grouped AS (
    SELECT queue_id, tenant_id, kind_id, priority, count(*) AS jobs, array_agg(id ORDER BY id) AS ids
    FROM added WHERE ready_at IS NULL GROUP BY queue_id, tenant_id, kind_id, priority
  ), parcels AS (
    INSERT INTO millstream.parcel (publishing_since, queue_id, tenant_id, kind_id, priority, chunk, jobs, ids)
    SELECT CASE WHEN p_publish AND NOT (g.queue_id = ANY (c.queues) OR g.kind_id = ANY (c.kinds) OR g.tenant_id = ANY (c.tenants)) THEN now() END,
           g.queue_id, g.tenant_id, g.kind_id, g.priority, k.chunk, g.jobs, g.ids
    FROM grouped g JOIN kinds k ON k.id = g.kind_id CROSS JOIN millstream.closed c
    RETURNING id, queue_id, priority, chunk, publishing_since IS NOT NULL AS publishing, ids
  )
  SELECT p.id, p.queue_id, p.priority, p.chunk, p.publishing, p.ids FROM parcels p
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, false, array_agg(a.id) FROM added a WHERE a.ready_at IS NOT NULL HAVING count(*) > 0;
END $$;
