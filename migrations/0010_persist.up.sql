-- Names are looked at once per parcel, not once per job: four looks into an index were a quarter of what an INSERT cost.
CREATE OR REPLACE FUNCTION millstream.persist(
  p_ids uuid[], p_queues int[], p_kinds int[], p_tenants int[], p_priorities smallint[], p_payloads text[],
  p_max_attempts smallint[], p_ready_at timestamptz[], p_keys text[], p_metadata text[], p_traces text[],
  p_stages bigint[], p_publish boolean, p_versions smallint[]
) RETURNS TABLE (parcel_id bigint, queue_id int, priority smallint, chunk smallint, publishing boolean, ids uuid[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  IF p_keys IS NOT NULL THEN
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
