-- Enqueue: the one statement behind all doors (Rust library, HTTP, CLI, SQL), and the one that hands jobs out again.

-- Inserts up to 500 jobs and the parcels that announce them. Arrays are parallel. Returns one row per parcel made, and one
-- with parcel_id null for the jobs that are due later. Columns from p_max_attempts on may be null as a whole. A job whose id exists already, or whose key belongs to another
-- job, is in no row.
CREATE FUNCTION millstream.persist(
  p_ids uuid[], p_queues int[], p_kinds int[], p_tenants int[], p_priorities smallint[], p_payloads text[],
  p_max_attempts smallint[], p_ready_at timestamptz[], p_keys text[], p_metadata text[], p_traces text[],
  p_stages bigint[], p_publish boolean
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
  WITH asked AS (
    SELECT * FROM unnest(p_ids, p_queues, p_kinds, p_tenants, p_priorities, p_payloads, p_max_attempts, p_ready_at, p_keys,
                         p_metadata, p_traces, p_stages)
      AS u(id, queue_id, kind_id, tenant_id, priority, payload, max_attempts, ready_at, key, metadata, trace, stage_id)
  ), added AS (
    INSERT INTO millstream.job (id, queue_id, kind_id, tenant_id, priority, state, ready_at, payload, max_attempts,
                                metadata, trace, stage_id)
    SELECT a.id, a.queue_id, a.kind_id, a.tenant_id, a.priority, CASE WHEN a.ready_at IS NULL THEN 0 ELSE 3 END,
           a.ready_at, a.payload, COALESCE(a.max_attempts, k.max_attempts), a.metadata, a.trace, a.stage_id
    FROM asked a JOIN millstream.kind k ON k.id = a.kind_id
    WHERE a.key IS NULL OR EXISTS (
      SELECT 1 FROM millstream.job_key o WHERE o.tenant_id = a.tenant_id AND o.key = a.key AND o.job_id = a.id)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, queue_id, kind_id, tenant_id, priority, ready_at
  ), parcels AS (
    INSERT INTO millstream.parcel (publishing_since, queue_id, tenant_id, kind_id, priority, chunk, jobs, ids)
    SELECT CASE WHEN p_publish AND NOT q.paused AND NOT k.paused AND NOT t.paused THEN now() END,
           a.queue_id, a.tenant_id, a.kind_id, a.priority, k.chunk, count(*), array_agg(a.id ORDER BY a.id)
    FROM added a
    JOIN millstream.queue q ON q.id = a.queue_id
    JOIN millstream.kind k ON k.id = a.kind_id
    JOIN millstream.tenant t ON t.id = a.tenant_id
    WHERE a.ready_at IS NULL
    GROUP BY a.queue_id, a.tenant_id, a.kind_id, a.priority, k.chunk, q.paused, k.paused, t.paused
    RETURNING id, queue_id, priority, chunk, publishing_since IS NOT NULL AS publishing, ids
  )
  SELECT p.id, p.queue_id, p.priority, p.chunk, p.publishing, p.ids FROM parcels p
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, false, array_agg(a.id) FROM added a WHERE a.ready_at IS NOT NULL HAVING count(*) > 0;
END $$;

-- Hands jobs out again at a new epoch: every recovery path ends here. `p_crash` counts a crash of the worker that had
-- them; jobs that have crashed three workers are left alone (the caller buries them). Jobs whose epoch or state is no
-- longer the given one are left alone too. The dispatch duty publishes the new parcels.
CREATE FUNCTION millstream.rehand(p_ids uuid[], p_epochs int[], p_crash int, p_not_before timestamptz, p_crash_max int)
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
    WHERE j.id = l.id AND j.epoch = l.epoch AND j.state IN (0, 1) AND j.crash_count + p_crash < p_crash_max
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

-- The SQL door. Refuses what the other doors refuse: unknown queue, kind, tenant or priority, a payload over 64 KiB.
CREATE FUNCTION millstream.enqueue_many(
  kind text, payloads jsonb[], queue text DEFAULT 'default', priority text DEFAULT 'medium',
  run_at timestamptz DEFAULT NULL, idempotency_keys text[] DEFAULT NULL, tenant text DEFAULT 'default',
  metadata jsonb DEFAULT NULL, max_attempts int DEFAULT NULL
) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
  v_queue int; v_kind int; v_tenant int; v_priority smallint; v_ready timestamptz;
  v_texts text[]; v_ids uuid[]; v_from int; v_slice int[]; n int := COALESCE(cardinality(payloads), 0);
BEGIN
  SELECT q.id INTO v_queue FROM millstream.queue q WHERE q.name = enqueue_many.queue;
  IF v_queue IS NULL THEN
    RAISE EXCEPTION 'unknown queue "%"', queue USING ERRCODE = 'invalid_parameter_value', HINT = 'Add it with: millstream queues add NAME';
  END IF;
  SELECT k.id INTO v_kind FROM millstream.kind k WHERE k.name = enqueue_many.kind;
  IF v_kind IS NULL THEN
    RAISE EXCEPTION 'unknown kind "%"', kind USING ERRCODE = 'invalid_parameter_value', HINT = 'A kind is known once a worker has registered it; announce one earlier with: millstream kinds add NAME';
  END IF;
  SELECT t.id INTO v_tenant FROM millstream.tenant t WHERE t.name = enqueue_many.tenant;
  IF v_tenant IS NULL THEN
    RAISE EXCEPTION 'unknown tenant "%"', tenant USING ERRCODE = 'invalid_parameter_value', HINT = 'Add it with: millstream tenants add NAME';
  END IF;
  v_priority := array_position(ARRAY['high', 'medium', 'low'], priority) - 1;
  IF v_priority IS NULL THEN
    RAISE EXCEPTION 'unknown priority "%"', priority USING ERRCODE = 'invalid_parameter_value', HINT = 'Use high, medium or low.';
  END IF;
  IF kind LIKE 'document.%' THEN
    RAISE EXCEPTION 'jobs of kind "%" are made by the document pipeline', kind USING ERRCODE = 'invalid_parameter_value', HINT = 'Use: millstream documents add FILE';
  END IF;
  -- Also refuses infinity. Nobody means a later time, and some calendars end.
  IF run_at > now() + interval '100 years' THEN
    RAISE EXCEPTION 'run_at lies more than 100 years ahead' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF octet_length(metadata::text) > 65536 THEN
    RAISE EXCEPTION 'the metadata is over 64 KiB' USING ERRCODE = 'program_limit_exceeded', HINT = 'Put the data into the object store and its address into the metadata.';
  END IF;
  IF EXISTS (SELECT 1 FROM unnest(idempotency_keys) AS u(k) WHERE length(k) NOT BETWEEN 1 AND 255) THEN
    RAISE EXCEPTION 'an idempotency key has 1 to 255 characters' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF max_attempts IS NOT NULL AND max_attempts NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'max_attempts must be between 1 and 1000, not %', max_attempts USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF idempotency_keys IS NOT NULL AND cardinality(idempotency_keys) <> n THEN
    RAISE EXCEPTION '% payloads but % idempotency keys', n, cardinality(idempotency_keys) USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT array_agg(COALESCE(p, 'null')::text ORDER BY o), array_agg(millstream.uuid_v7()) INTO v_texts, v_ids
  FROM unnest(payloads) WITH ORDINALITY AS u(p, o);
  IF EXISTS (SELECT 1 FROM unnest(v_texts) AS u(p) WHERE octet_length(p) > 65536) THEN
    RAISE EXCEPTION 'a payload is over 64 KiB' USING ERRCODE = 'program_limit_exceeded', HINT = 'Put the data into the object store and its address into the payload.';
  END IF;
  v_ready := CASE WHEN run_at > now() THEN run_at END;
  FOR v_from IN SELECT generate_series(1, n, 500) LOOP
    v_slice := ARRAY(SELECT generate_series(v_from, LEAST(v_from + 499, n)));
    PERFORM millstream.persist(
      v_ids[v_from:v_from + 499], ARRAY(SELECT v_queue FROM unnest(v_slice)), ARRAY(SELECT v_kind FROM unnest(v_slice)),
      ARRAY(SELECT v_tenant FROM unnest(v_slice)), ARRAY(SELECT v_priority FROM unnest(v_slice)), v_texts[v_from:v_from + 499],
      ARRAY(SELECT enqueue_many.max_attempts::smallint FROM unnest(v_slice)), ARRAY(SELECT v_ready FROM unnest(v_slice)),
      idempotency_keys[v_from:v_from + 499], ARRAY(SELECT enqueue_many.metadata::text FROM unnest(v_slice)), NULL, NULL, false);
  END LOOP;
  IF idempotency_keys IS NULL THEN
    RETURN QUERY SELECT unnest(v_ids);
    RETURN;
  END IF;
  IF EXISTS (SELECT 1 FROM unnest(idempotency_keys, v_texts) AS u(k, p)
             JOIN millstream.job_key o ON o.tenant_id = v_tenant AND o.key = u.k
             JOIN millstream.job j ON j.id = o.job_id
             WHERE j.kind_id <> v_kind OR o.payload_hash <> sha256(convert_to(u.p, 'UTF8'))) THEN
    RAISE EXCEPTION 'an idempotency key was used before with another kind or payload' USING ERRCODE = 'unique_violation';
  END IF;
  RETURN QUERY
  SELECT COALESCE(o.job_id, u.i) FROM unnest(v_ids, idempotency_keys) WITH ORDINALITY AS u(i, k, n)
  LEFT JOIN millstream.job_key o ON o.tenant_id = v_tenant AND o.key = u.k ORDER BY u.n;
END $$;

CREATE FUNCTION millstream.enqueue(
  kind text, payload jsonb DEFAULT '{}', queue text DEFAULT 'default', priority text DEFAULT 'medium',
  run_at timestamptz DEFAULT NULL, idempotency_key text DEFAULT NULL, tenant text DEFAULT 'default',
  metadata jsonb DEFAULT NULL, max_attempts int DEFAULT NULL
) RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT * FROM millstream.enqueue_many(kind, ARRAY[payload], queue, priority, run_at,
    CASE WHEN idempotency_key IS NOT NULL THEN ARRAY[idempotency_key] END, tenant, metadata, max_attempts)
$$;

-- The SQL door runs with its owner's rights: an application's role needs USAGE on the schema and nothing else.
ALTER FUNCTION millstream.enqueue_many(text, jsonb[], text, text, timestamptz, text[], text, jsonb, int) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION millstream.enqueue(text, jsonb, text, text, timestamptz, text, text, jsonb, int) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- JSON, or a JSON string that says the text is none: one undecodable payload must not break a listing.
CREATE FUNCTION millstream.as_json(t text) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN t::json;
EXCEPTION WHEN others THEN
  RETURN to_json('undecodable: ' || left(t, 200));
END $$;

-- Jobs as people and other languages see them: names instead of numbers, JSON instead of text.
CREATE VIEW millstream.job_view AS
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
