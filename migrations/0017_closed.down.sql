-- Back to a rule that stands in each statement, and to moves in one statement each.
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
    SELECT id, max_attempts, chunk, paused FROM millstream.kind WHERE id = ANY (p_kinds)
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
    SELECT CASE WHEN p_publish AND NOT q.paused AND NOT k.paused AND NOT t.paused THEN now() END,
           g.queue_id, g.tenant_id, g.kind_id, g.priority, k.chunk, g.jobs, g.ids
    FROM grouped g
    JOIN millstream.queue q ON q.id = g.queue_id
    JOIN kinds k ON k.id = g.kind_id
    JOIN millstream.tenant t ON t.id = g.tenant_id
    RETURNING id, queue_id, priority, chunk, publishing_since IS NOT NULL AS publishing, ids
  )
  SELECT p.id, p.queue_id, p.priority, p.chunk, p.publishing, p.ids FROM parcels p
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, false, array_agg(a.id) FROM added a WHERE a.ready_at IS NOT NULL HAVING count(*) > 0;
END $$;

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
    SELECT id, max_attempts, chunk, paused FROM millstream.kind WHERE id = ANY (p_kinds)
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
    SELECT CASE WHEN p_publish AND NOT q.paused AND NOT k.paused AND NOT t.paused THEN now() END,
           g.queue_id, g.tenant_id, g.kind_id, g.priority, k.chunk, g.jobs, g.ids
    FROM grouped g
    JOIN millstream.queue q ON q.id = g.queue_id
    JOIN kinds k ON k.id = g.kind_id
    JOIN millstream.tenant t ON t.id = g.tenant_id
    RETURNING id, queue_id, priority, chunk, publishing_since IS NOT NULL AS publishing, ids
  )
  SELECT p.id, p.queue_id, p.priority, p.chunk, p.publishing, p.ids FROM parcels p
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, false, array_agg(a.id) FROM added a WHERE a.ready_at IS NOT NULL HAVING count(*) > 0;
END $$;

CREATE OR REPLACE FUNCTION millstream.rehand(p_ids uuid[], p_epochs int[], p_crash int, p_not_before timestamptz, p_crash_max int, p_leased boolean)
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
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

CREATE OR REPLACE FUNCTION millstream.cancel(p_ids uuid[], p_actor text) RETURNS SETOF uuid LANGUAGE sql AS $$
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

CREATE OR REPLACE FUNCTION millstream.retry_now(p_ids uuid[], p_actor text) RETURNS SETOF uuid LANGUAGE sql AS $$
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

CREATE OR REPLACE FUNCTION millstream.bury(p_ids uuid[], p_epochs int[], p_reason text, p_error text) RETURNS SETOF uuid LANGUAGE sql AS $$
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

DROP FUNCTION millstream.unlist, millstream.has_rested, millstream.served_kinds;
DROP VIEW millstream.closed;
DROP INDEX millstream.tenant_paused, millstream.kind_paused, millstream.queue_paused;
