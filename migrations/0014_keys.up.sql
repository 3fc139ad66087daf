-- An idempotency key belongs to whoever asks next once its job is gone. A dropped day leaves its keys behind for a while, and whoever used one
-- was told of a job that is not there, and his own was not written.

-- The two functions that write jobs, with other text in them.
CREATE FUNCTION pg_temp.edit(p_function regprocedure, p_old text, p_new text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  def text := pg_get_functiondef(p_function);
BEGIN
  IF length(def) - length(replace(def, p_old, '')) <> length(p_old) THEN
    RAISE EXCEPTION '% is not as this migration knows it', p_function;
  END IF;
  EXECUTE replace(def, p_old, p_new);
END $$;

DO $$
DECLARE
  head text := '    INSERT INTO millstream.job_key (tenant_id, key, job_id, payload_hash)';
  -- A scalar subquery is not made into a join, so no plan reads all jobs. Key and job are written together: who sees the one sees the other.
  take text := '    DELETE FROM millstream.job_key d USING (
      SELECT o.tenant_id, o.key, o.job_id FROM unnest(p_tenants, p_keys) AS u(t, k) JOIN millstream.job_key o ON o.tenant_id = u.t AND o.key = u.k
      WHERE (SELECT true FROM millstream.job j WHERE j.id = o.job_id) IS NULL
      ORDER BY o.tenant_id, o.key FOR UPDATE OF o
    ) AS l WHERE d.tenant_id = l.tenant_id AND d.key = l.key AND d.job_id = l.job_id;
';
  arguments text := '(uuid[], int[], int[], int[], smallint[], text[], smallint[], timestamptz[], text[], text[], text[], bigint[], boolean, smallint[])';
BEGIN
  PERFORM pg_temp.edit(('millstream.persist' || arguments)::regprocedure, head, take || head);
  PERFORM pg_temp.edit(('millstream.persist_fresh' || arguments)::regprocedure, head, take || head);
  -- Removed between two statements of this very call: nothing was written, so nothing may be promised.
  PERFORM pg_temp.edit('millstream.enqueue_many(text, jsonb[], text, text, timestamptz, text[], text, jsonb, int)'::regprocedure,
    '  RETURN QUERY
  SELECT COALESCE(o.job_id, u.i) FROM',
    '  IF EXISTS (SELECT 1 FROM unnest(v_ids, idempotency_keys) AS u(i, k) LEFT JOIN millstream.job_key o ON o.tenant_id = v_tenant AND o.key = u.k
             WHERE (SELECT true FROM millstream.job j WHERE j.id = COALESCE(o.job_id, u.i)) IS NULL) THEN
    RAISE EXCEPTION ''the job that has this idempotency key is being removed; enqueue it again'' USING ERRCODE = ''object_not_in_prerequisite_state'';
  END IF;
  RETURN QUERY
  SELECT COALESCE(o.job_id, u.i) FROM');
END $$;
