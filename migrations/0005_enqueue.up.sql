-- Enqueue: the one statement behind all doors (Rust library, HTTP, CLI, SQL), and the SQL door.

-- An idempotency key enqueues one job, however many callers use it and however often.
CREATE TABLE millstream.job_key (
  tenant_id    int NOT NULL,
  key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  job_id       uuid NOT NULL,
  payload_hash bytea NOT NULL,
  PRIMARY KEY (tenant_id, key)
);
CREATE INDEX job_key_job ON millstream.job_key (job_id);

-- Inserts up to 500 jobs and the parcels that announce them. Arrays are parallel. The columns from
-- p_max_attempts on, but p_publish, may be null as a whole.
--
-- Returns one row per parcel made, and one with parcel_id null for the jobs that are due later. No
-- row names a job whose id exists already, or whose key belongs to another job.
CREATE FUNCTION millstream.persist(
  p_ids uuid[], p_queues int[], p_kinds int[], p_tenants int[], p_priorities smallint[],
  p_payloads text[], p_max_attempts smallint[], p_ready_at timestamptz[], p_keys text[],
  p_metadata text[], p_traces text[], p_batches uuid[], p_publish boolean, p_versions smallint[]
) RETURNS TABLE (
  parcel_id bigint, queue_id int, priority smallint, chunk smallint, publishing boolean, ids uuid[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  IF p_keys IS NOT NULL THEN
    -- A key is free again once its job is gone: a dropped day leaves its keys behind for a while.
    -- A scalar subquery is not made into a join, so no plan reads all jobs. Key and job are written
    -- together, so a statement that sees one of them sees both.
    DELETE FROM millstream.job_key d USING (
      SELECT o.tenant_id, o.key, o.job_id
      FROM unnest(p_tenants, p_keys) AS u(t, k)
      JOIN millstream.job_key o ON o.tenant_id = u.t AND o.key = u.k
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
    -- Postgres decides whether a time has come, not the caller's clock.
    SELECT id, queue_id, kind_id, tenant_id, priority, payload, max_attempts,
           CASE WHEN ready_at > now() THEN ready_at END AS ready_at,
           key, metadata, trace, batch_id, version
    FROM unnest(p_ids, p_queues, p_kinds, p_tenants, p_priorities, p_payloads, p_max_attempts,
                p_ready_at, p_keys, p_metadata, p_traces, p_batches, p_versions)
      AS u(id, queue_id, kind_id, tenant_id, priority, payload, max_attempts,
           ready_at, key, metadata, trace, batch_id, version)
  ), added AS (
    INSERT INTO millstream.job (id, queue_id, kind_id, tenant_id, priority, state, ready_at,
                                payload, max_attempts, metadata, trace, batch_id, schema_version)
    SELECT a.id, a.queue_id, a.kind_id, a.tenant_id, a.priority,
           CASE WHEN a.ready_at IS NULL THEN 0 ELSE 3 END, a.ready_at,
           a.payload, COALESCE(a.max_attempts, k.max_attempts), a.metadata, a.trace, a.batch_id,
           COALESCE(a.version, 1)
    FROM asked a JOIN kinds k ON k.id = a.kind_id
    WHERE a.key IS NULL OR EXISTS (
      SELECT 1 FROM millstream.job_key o
      WHERE o.tenant_id = a.tenant_id AND o.key = a.key AND o.job_id = a.id)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, queue_id, kind_id, tenant_id, priority, ready_at
  ), grouped AS (
    SELECT queue_id, tenant_id, kind_id, priority, count(*) AS jobs,
           array_agg(id ORDER BY id) AS ids
    FROM added WHERE ready_at IS NULL GROUP BY queue_id, tenant_id, kind_id, priority
  ), parcels AS (
    -- A parcel is promised to the stream only if its jobs may go now.
    INSERT INTO millstream.parcel (publishing_since, queue_id, tenant_id, kind_id, priority,
                                   chunk, jobs, ids)
    SELECT CASE WHEN p_publish AND NOT (g.queue_id = ANY (c.queues) OR g.kind_id = ANY (c.kinds)
                                        OR g.tenant_id = ANY (c.tenants)) THEN now() END,
           g.queue_id, g.tenant_id, g.kind_id, g.priority, k.chunk, g.jobs, g.ids
    FROM grouped g JOIN kinds k ON k.id = g.kind_id CROSS JOIN millstream.closed c
    RETURNING id, queue_id, priority, chunk, publishing_since IS NOT NULL AS publishing, ids
  )
  SELECT p.id, p.queue_id, p.priority, p.chunk, p.publishing, p.ids FROM parcels p
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, false, array_agg(a.id)
  FROM added a WHERE a.ready_at IS NOT NULL HAVING count(*) > 0;
END $$;

-- `persist_fresh`: the same for jobs with new ids, which nearly all are. They need no look for a
-- row that is there already: ON CONFLICT made an INSERT a third dearer. It fails where `persist`
-- finds that an id is taken. One text makes both functions, so they cannot drift apart.
DO $$
DECLARE
  look text := 'ON CONFLICT (id) DO NOTHING';
  careful text := (SELECT pg_get_functiondef(oid) FROM pg_proc
                   WHERE proname = 'persist' AND pronamespace = 'millstream'::regnamespace);
  fresh text := replace(replace(careful, look, ''), '.persist(', '.persist_fresh(');
BEGIN
  IF length(careful) - length(fresh) <> length(look) - length('_fresh') THEN
    RAISE EXCEPTION 'millstream.persist has not one name and one look for a row that is there';
  END IF;
  EXECUTE fresh;
END $$;

-- Why a value is refused, or null. The rules are those of `common/src/json.rs`: every handler must
-- be able to decode what a door has taken.
CREATE FUNCTION millstream.json_fault(p_value jsonb, p_text text)
RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  -- Nothing shorter can break a rule: 125 pairs of brackets have 250 bytes, and a number that is
  -- out of range has 309 digits or more.
  IF octet_length(p_text) < 250 THEN
    RETURN NULL;
  END IF;
  IF jsonb_path_exists(p_value,
      'strict $.**{124} ? (@.type() == "array" || @.type() == "object")') THEN
    RETURN 'is nested more than 124 deep';
  END IF;
  -- The numbers are looked at one by one only where there is a long one.
  IF p_text ~ '[0-9.]{250}' AND EXISTS (
    SELECT 1 FROM jsonb_path_query(p_value, 'strict $.** ? (@.type() == "number")') AS n(v)
    WHERE abs(v::numeric) >= 1e308 OR scale(v::numeric) > 1074
  ) THEN
    RETURN 'has a number that not everybody can read: '
      'a number has at most 308 digits before the point and 1074 after it';
  END IF;
  RETURN NULL;
END $$;

-- The text of a value as it is stored: as jsonb prints it. If that is too long, the blanks that
-- jsonb adds are left out.
CREATE FUNCTION millstream.json_text(p_value jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_text text := p_value::text;
BEGIN
  -- The blanks are a third at most.
  IF octet_length(v_text) BETWEEN 65537 AND 98304 THEN
    RETURN regexp_replace(v_text, '("(?:[^"\\]|\\.)*")| ', '\1', 'g');
  END IF;
  RETURN v_text;
END $$;

-- Jobs that came in by the SQL door and are not counted yet, one row a call: a row that all callers
-- raise would make them wait for each other. The leader takes the rows away and counts them
-- (worker/src/duties/stats.rs). A crash loses of them a figure, and no job.
CREATE UNLOGGED TABLE millstream.sql_enqueued (
  queue_id int NOT NULL,
  kind_id  int NOT NULL,
  jobs     int NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);

-- The SQL door. It takes and refuses what the other doors do. It runs with its owner's rights: an
-- application's role needs USAGE on the schema and nothing else.
CREATE FUNCTION millstream.enqueue_many(
  kind text, payloads jsonb[], queue text DEFAULT 'default', priority text DEFAULT 'medium',
  run_at timestamptz DEFAULT NULL, idempotency_keys text[] DEFAULT NULL,
  tenant text DEFAULT 'default', metadata jsonb DEFAULT NULL, max_attempts int DEFAULT NULL,
  batch uuid DEFAULT NULL
) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_queue int; v_kind int; v_tenant int; v_priority smallint; v_ready timestamptz;
  v_texts text[]; v_ids uuid[]; v_null boolean; v_bytes int; v_fault text; v_metadata text;
  v_keys text[]; v_from int; v_slice int[]; v_new bigint := 0;
  n int := COALESCE(cardinality(payloads), 0);
BEGIN
  SELECT q.id INTO v_queue FROM millstream.queue q WHERE q.name = enqueue_many.queue;
  IF v_queue IS NULL THEN
    RAISE EXCEPTION 'unknown queue "%"', queue USING ERRCODE = 'invalid_parameter_value',
      HINT = 'Add it with: millstream queues add NAME';
  END IF;
  SELECT k.id INTO v_kind FROM millstream.kind k WHERE k.name = enqueue_many.kind;
  IF v_kind IS NULL THEN
    RAISE EXCEPTION 'unknown kind "%"', kind USING ERRCODE = 'invalid_parameter_value',
      HINT = 'A kind is known once a worker has registered it; '
        'announce one earlier with: millstream kinds add NAME';
  END IF;
  SELECT t.id INTO v_tenant FROM millstream.tenant t WHERE t.name = enqueue_many.tenant;
  IF v_tenant IS NULL THEN
    RAISE EXCEPTION 'unknown tenant "%"', tenant USING ERRCODE = 'invalid_parameter_value',
      HINT = 'Add it with: millstream tenants add NAME';
  END IF;
  v_priority := array_position(ARRAY['high', 'medium', 'low'], priority) - 1;
  IF v_priority IS NULL THEN
    RAISE EXCEPTION 'unknown priority "%"', priority USING ERRCODE = 'invalid_parameter_value',
      HINT = 'Use high, medium or low.';
  END IF;
  IF kind LIKE 'document.%' THEN
    RAISE EXCEPTION 'jobs of kind "%" are made by the document pipeline', kind
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Use: millstream documents add FILE';
  END IF;
  -- Also refuses the infinities. Nobody means such times, and some calendars end before them.
  IF run_at > now() + interval '100 years' THEN
    RAISE EXCEPTION 'run_at lies more than 100 years ahead'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF run_at < '0001-01-01 00:00:00+00' THEN
    RAISE EXCEPTION 'run_at lies before the year 1' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF max_attempts IS NOT NULL AND max_attempts NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'max_attempts must be between 1 and 1000, not %', max_attempts
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- Whatever the bounds of the caller's arrays, these begin at 1.
  SELECT array_agg(t ORDER BY o), array_agg(millstream.uuid_v7()), bool_or(t IS NULL),
         max(octet_length(t))
  INTO v_texts, v_ids, v_null, v_bytes
  FROM unnest(payloads) WITH ORDINALITY AS u(p, o), millstream.json_text(p) AS t;
  IF payloads IS NULL OR v_null THEN
    RAISE EXCEPTION 'the payload of a job of kind "%" is null', kind
      USING ERRCODE = 'null_value_not_allowed',
        HINT = 'Leave it out to send {}, or send the null of JSON: ''null''::jsonb';
  END IF;
  IF v_bytes > 65536 THEN
    RAISE EXCEPTION 'a payload is over 64 KiB' USING ERRCODE = 'program_limit_exceeded',
      HINT = 'Put the data into the object store and its address into the payload.';
  END IF;
  IF v_bytes >= 250 THEN              -- nothing shorter can be at fault
    SELECT 'a payload ' || f INTO v_fault
    FROM unnest(payloads, v_texts) AS u(p, t), millstream.json_fault(p, t) AS f
    WHERE octet_length(t) >= 250 AND f IS NOT NULL LIMIT 1;
  END IF;
  IF metadata IS NOT NULL THEN
    v_metadata := millstream.json_text(metadata);
    IF octet_length(v_metadata) > 65536 THEN
      RAISE EXCEPTION 'the metadata is over 64 KiB' USING ERRCODE = 'program_limit_exceeded',
        HINT = 'Put the data into the object store and its address into the metadata.';
    END IF;
    v_fault := COALESCE(v_fault, 'the metadata ' || millstream.json_fault(metadata, v_metadata));
  END IF;
  IF v_fault IS NOT NULL THEN
    RAISE EXCEPTION '%', v_fault USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF idempotency_keys IS NOT NULL THEN
    IF cardinality(idempotency_keys) <> n THEN
      RAISE EXCEPTION '% payloads but % idempotency keys', n, cardinality(idempotency_keys)
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    v_keys := ARRAY(SELECT k FROM unnest(idempotency_keys) WITH ORDINALITY AS u(k, o) ORDER BY o);
    IF EXISTS (SELECT 1 FROM unnest(v_keys) AS u(k) WHERE length(k) NOT BETWEEN 1 AND 255) THEN
      RAISE EXCEPTION 'an idempotency key has 1 to 255 characters'
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
  END IF;
  v_ready := CASE WHEN run_at > now() THEN run_at END;
  IF batch IS NOT NULL THEN
    PERFORM millstream.admit_to_batches(ARRAY[batch], ARRAY[v_tenant]);
  END IF;
  FOR v_from IN SELECT generate_series(1, n, 500) LOOP
    v_slice := ARRAY(SELECT generate_series(v_from, LEAST(v_from + 499, n)));
    SELECT v_new + COALESCE(sum(cardinality(r.ids)), 0) INTO v_new FROM millstream.persist(
      v_ids[v_from:v_from + 499],
      ARRAY(SELECT v_queue FROM unnest(v_slice)),
      ARRAY(SELECT v_kind FROM unnest(v_slice)),
      ARRAY(SELECT v_tenant FROM unnest(v_slice)),
      ARRAY(SELECT v_priority FROM unnest(v_slice)),
      v_texts[v_from:v_from + 499],
      ARRAY(SELECT enqueue_many.max_attempts::smallint FROM unnest(v_slice)),
      ARRAY(SELECT v_ready FROM unnest(v_slice)),
      v_keys[v_from:v_from + 499],
      ARRAY(SELECT v_metadata FROM unnest(v_slice)),
      NULL,
      CASE WHEN batch IS NOT NULL THEN ARRAY(SELECT batch FROM unnest(v_slice)) END,
      false, NULL) AS r;
  END LOOP;
  IF batch IS NOT NULL THEN
    PERFORM millstream.note_added(v_ids);
  END IF;
  IF v_new > 0 THEN
    INSERT INTO millstream.sql_enqueued (queue_id, kind_id, jobs) VALUES (v_queue, v_kind, v_new);
  END IF;
  IF v_keys IS NULL THEN
    RETURN QUERY SELECT unnest(v_ids);
    RETURN;
  END IF;
  IF EXISTS (SELECT 1 FROM unnest(v_keys, payloads) AS u(k, p)
             JOIN millstream.job_key o ON o.tenant_id = v_tenant AND o.key = u.k
             JOIN millstream.job j ON j.id = o.job_id
             WHERE j.kind_id <> v_kind
                OR o.payload_hash <> sha256(convert_to(u.p::text, 'UTF8'))) THEN
    RAISE EXCEPTION 'an idempotency key was used before with another kind or payload'
      USING ERRCODE = 'unique_violation';
  END IF;
  -- A job can be removed between two statements of this very call. Then nothing was written, so
  -- nothing may be promised.
  IF EXISTS (SELECT 1 FROM unnest(v_ids, v_keys) AS u(i, k)
             LEFT JOIN millstream.job_key o ON o.tenant_id = v_tenant AND o.key = u.k
             WHERE (SELECT true FROM millstream.job j WHERE j.id = COALESCE(o.job_id, u.i)) IS NULL
            ) THEN
    RAISE EXCEPTION 'the job that has this idempotency key is being removed; enqueue it again'
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  RETURN QUERY
  SELECT COALESCE(o.job_id, u.i) FROM unnest(v_ids, v_keys) WITH ORDINALITY AS u(i, k, n)
  LEFT JOIN millstream.job_key o ON o.tenant_id = v_tenant AND o.key = u.k ORDER BY u.n;
END $$;

CREATE FUNCTION millstream.enqueue(
  kind text, payload jsonb DEFAULT '{}', queue text DEFAULT 'default',
  priority text DEFAULT 'medium', run_at timestamptz DEFAULT NULL,
  idempotency_key text DEFAULT NULL, tenant text DEFAULT 'default', metadata jsonb DEFAULT NULL,
  max_attempts int DEFAULT NULL,
  batch uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT * FROM millstream.enqueue_many(kind, ARRAY[payload], queue, priority, run_at,
    CASE WHEN idempotency_key IS NOT NULL THEN ARRAY[idempotency_key] END,
    tenant, metadata, max_attempts, batch)
$$;

-- For drivers that send `json` (psycopg's `Json`). The kind is a varchar here, so that no call is
-- ambiguous. Postgres prefers text, so a call whose types are all open goes to the functions above,
-- and the parameters of prepared statements stay jsonb.
CREATE FUNCTION millstream.enqueue(
  kind varchar, payload json, queue text DEFAULT 'default', priority text DEFAULT 'medium',
  run_at timestamptz DEFAULT NULL, idempotency_key text DEFAULT NULL,
  tenant text DEFAULT 'default', metadata jsonb DEFAULT NULL, max_attempts int DEFAULT NULL,
  batch uuid DEFAULT NULL
) RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT millstream.enqueue(kind::text, payload::jsonb, queue, priority, run_at, idempotency_key,
    tenant, metadata, max_attempts, batch)
$$;

CREATE FUNCTION millstream.enqueue_many(
  kind varchar, payloads json[], queue text DEFAULT 'default', priority text DEFAULT 'medium',
  run_at timestamptz DEFAULT NULL, idempotency_keys text[] DEFAULT NULL,
  tenant text DEFAULT 'default', metadata jsonb DEFAULT NULL, max_attempts int DEFAULT NULL,
  batch uuid DEFAULT NULL
) RETURNS SETOF uuid LANGUAGE sql VOLATILE AS $$
  SELECT millstream.enqueue_many(kind::text, payloads::jsonb[], queue, priority, run_at,
    idempotency_keys, tenant, metadata, max_attempts, batch)
$$;
