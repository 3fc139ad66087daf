-- Back to a SQL door with rules of its own, whose jobs nobody counts.
DROP FUNCTION millstream.enqueue(varchar, json, text, text, timestamptz, text, text, jsonb, int);
DROP FUNCTION millstream.enqueue_many(varchar, json[], text, text, timestamptz, text[], text, jsonb, int);

CREATE OR REPLACE FUNCTION millstream.enqueue_many(
  kind text, payloads jsonb[], queue text DEFAULT 'default', priority text DEFAULT 'medium',
  run_at timestamptz DEFAULT NULL, idempotency_keys text[] DEFAULT NULL, tenant text DEFAULT 'default',
  metadata jsonb DEFAULT NULL, max_attempts int DEFAULT NULL
) RETURNS SETOF uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
  IF EXISTS (SELECT 1 FROM unnest(v_ids, idempotency_keys) AS u(i, k) LEFT JOIN millstream.job_key o ON o.tenant_id = v_tenant AND o.key = u.k
             WHERE (SELECT true FROM millstream.job j WHERE j.id = COALESCE(o.job_id, u.i)) IS NULL) THEN
    RAISE EXCEPTION 'the job that has this idempotency key is being removed; enqueue it again' USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  RETURN QUERY
  SELECT COALESCE(o.job_id, u.i) FROM unnest(v_ids, idempotency_keys) WITH ORDINALITY AS u(i, k, n)
  LEFT JOIN millstream.job_key o ON o.tenant_id = v_tenant AND o.key = u.k ORDER BY u.n;
END $$;

DROP FUNCTION millstream.json_fault;
DROP FUNCTION millstream.json_text;
DROP TABLE millstream.sql_enqueued;
